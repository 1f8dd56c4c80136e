"""A trained model on disk: `model.safetensors`, `config.json` and the model card `README.md` in one folder.

Enough to embed, finetune and evaluate on another machine: weights, encoder settings, features with units and
statistics, label names, training facts. No pickles, no class paths, no code.

Tokenizers and generators are more than their encoder and are saved whole: `config.json` then also has the settings of
the method and of the methods it is built from, and `method.safetensors` all weights that are not in
`model.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ssl_jets import __version__, methods
from ssl_jets.config import SHAPE, ModelSettings, resolve
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import COLUMNS
from ssl_jets.methods._method import Method
from ssl_jets.methods._renamed import rename_settings
from ssl_jets.model import Model
from ssl_jets.nn.encoder import BaseEncoder, Encoder
from ssl_jets.nn.features import FEATURES
from ssl_jets.nn.foreign.adapter import build_encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.particles.heads import ParticleHeads
from ssl_jets.nn.regression import Regressor
from ssl_jets.runtime.atomic import WorkFolder, clear_left_behind, real, sync
from ssl_jets.runtime.reading import guarded, read_json
from ssl_jets.runtime.weights import no_larger_than, read_weights, shapes_alone, write_weights
from ssl_jets.sharing.location import CONFIG, METHOD_WEIGHTS, WEIGHTS, locate, model_folder
from ssl_jets.sharing.model_card import CARD, model_card

__all__ = ["Model", "load_method", "load_model", "save_model"]

FORMAT_VERSION = 2
"""Version 2: training files have a digest of their contents; in version 1 they have name and size only."""


def save_model(model: Model, folder: Path, whole: Method | None = None) -> str:
    """Write a model to a folder; an existing model is replaced in one step.

    Args:
        model: the model.
        folder: the model folder.
        whole: the method that trained it, to save it whole.

    Returns:
        SHA-256 of the weights file.
    """
    weights = {
        f"{name}.{key}": value
        for name in ("encoder", "head", "regressor", "particles")
        if (module := getattr(model, name)) is not None
        for key, value in module.state_dict().items()
    }
    folder = real(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = WorkFolder(folder)
        try:
            digest = _write(model, weights, whole, work.path / "fresh")
            _swap(work.path / "fresh", folder, work.path / "old")
        finally:
            work.remove()
    except (OSError, SafetensorError) as error:
        raise SslJetsError("the model cannot be written", where=folder, found=error) from None
    clear_left_behind(folder)  # not before: it may hold the only model
    model.sha256 = digest
    return digest


def _write(model: Model, weights: dict[str, Tensor], whole: Method | None, fresh: Path) -> str:
    """Write all files of a model to a new folder; return the SHA-256 of the weights."""
    fresh.mkdir()
    digest = write_weights(weights, fresh / WEIGHTS)
    description = _describe(model, digest)
    if whole is not None:
        shared = _shared_modules(whole, model)
        own = {
            name: value
            for name, value in whole.state_dict().items()
            if not any(name.startswith(f"{path}.") for path in shared)
        }
        own_digest = write_weights(own, fresh / METHOD_WEIGHTS)
        description["whole"] = _describe_method(whole) | {"shared": shared, "weights_sha256": own_digest}
    texts = {CARD: model_card(description), CONFIG: json.dumps(description, indent=1) + "\n"}
    for name, text in texts.items():
        (fresh / name).write_text(text, encoding="utf-8")
        sync(fresh / name)
    return digest


def _swap(fresh: Path, folder: Path, old: Path) -> None:
    """Replace `folder` by `fresh`. `folder` is moved to `old` first, so a kill leaves one of the two complete."""
    if not folder.exists():
        fresh.rename(folder)
        return
    folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        old.rename(folder)
        raise


def load_model(path: str | Path) -> Model:
    """Read a model from a run folder, its `model/` folder, a snapshot or elsewhere, in evaluation mode on the CPU.

    Args:
        path: folder, `RUN@step-500`, `https://...#sha256=...` or `hf:owner/name@revision` (see `sharing/location.py`).

    Raises:
        SslJetsError: no model in the folder, a newer format, or weights that do not match their hash.

    Example:
        >>> from ssl_jets.errors import SslJetsError
        >>> try:
        ...     load_model("runs/gone")
        ... except SslJetsError as error:
        ...     print(error.message)
        there is no trained model here
          where:   runs/gone
          found:   no such folder
          try:     ssl-jets pretrain --method mae --out RUN makes one
    """
    folder = model_folder(locate(path))
    config = _read_config(folder)
    weights = read_weights(folder / WEIGHTS, config.get("weights_sha256"))
    with guarded("the description does not fit the weights", folder / CONFIG, error=SslJetsError):
        return _build(config, weights, folder / CONFIG)


def load_method(path: str | Path) -> Method:
    """Read a method that was saved whole, in evaluation mode on the CPU, with the columns of its training.

    Raises:
        SslJetsError: as `load_model`.
        UsageError: the method was not saved whole.
    """
    folder = model_folder(locate(path))
    config = _read_config(folder)
    described = config.get("whole")
    if described is None:
        keeping = methods.with_property("saves_full_method")
        raise UsageError(
            "this run kept its encoder, not the whole method",
            where=folder,
            found=f"method {config.get('method')}",
            allowed=keeping,
        )
    encoder = read_weights(folder / WEIGHTS, config.get("weights_sha256"))
    with guarded("the description does not fit the weights", folder / CONFIG, error=SslJetsError):
        weights = read_weights(folder / METHOD_WEIGHTS, described["weights_sha256"])
        for path_in_method, module in described["shared"].items():
            weights |= {f"{path_in_method}.{name}": value for name, value in _of_module(encoder, module).items()}
        with shapes_alone(), no_larger_than(weights):
            _build_method(described, folder / CONFIG)
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are thrown away
            method = _build_method(described, folder / CONFIG)
        method.load_state_dict(weights)
    training = config["training"]
    for part in method.modules():  # also a tokenizer in it
        if isinstance(part, Method):
            part.columns = tuple(training.get("last_columns", training.get("columns", COLUMNS)))
    return method.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG, "the model cannot be read", error=SslJetsError)
    if config.get("format_version") not in range(1, FORMAT_VERSION + 1):
        raise SslJetsError(
            "the model was written in another format",
            where=folder / CONFIG,
            found=f"format_version {config.get('format_version')}, package {config.get('package_version')}",
            allowed=range(1, FORMAT_VERSION + 1),
        )
    return config


def _build(config: dict[str, Any], weights: dict[str, Tensor], file: Path) -> Model:
    settings = resolve(ModelSettings, config["encoder"]["settings"], file=file)
    with shapes_alone(), no_larger_than(weights):
        encoder: BaseEncoder | None = Encoder(settings) if settings.architecture is None else None
        head = ClassHead(**config["head"]) if config["head"] is not None else None
        regressor = Regressor(**config["regressor"]) if config.get("regressor") is not None else None
        particles = ParticleHeads.of(config["particles"]) if "particles" in config else None
    if encoder is None:  # built in full, since a foreign constructor may compute constants; its weights are replaced
        with torch.random.fork_rng(devices=[]), no_larger_than(weights):
            encoder = build_encoder(settings)
    _check_features(config, encoder, file)
    heads = {"head": head, "regressor": regressor, "particles": particles}
    for name, module in {"encoder": encoder, **heads}.items():
        if module is not None:
            # The weights stay the file mapped into memory; only pages that are written to are copied.
            module.load_state_dict(_of_module(weights, name), assign=True)
            module.eval()
    facts = {"method": config["method"], "training": config["training"]}
    model = Model(encoder, head, tuple(config["labels"]), facts, config["weights_sha256"], regressor, particles)
    encoder.reads_context, encoder.reads_collections = bool(model.context), bool(model.collections)
    return model


def _check_features(config: Mapping[str, Any], encoder: BaseEncoder, file: Path) -> None:
    """Check that the inputs of the stored weights are the features of this version, in the same order.

    Raises:
        SslJetsError: they differ; weights of the same shape would be read with other inputs.
    """
    stored = [feature["name"] for feature in config["features"]]
    computed = [feature.name for feature in FEATURES] if isinstance(encoder, Encoder) else []
    expected = [*computed, *encoder.cfg.features]
    if stored != expected:
        found = ", ".join(stored)
        raise SslJetsError(
            "the model reads other features than this version", where=file, found=found, allowed=expected
        )


def _build_method(described: dict[str, Any], file: Path) -> Method:
    cls = methods.find(described["method"])
    encoder = Encoder(resolve(ModelSettings, described["encoder"], file=file))
    parts = {name: _build_method(part, file) for name, part in described["parts"].items()}
    encoder.reads_context, encoder.reads_collections = cls.sees_context, cls.sees_collections
    settings = resolve(cls.Config, rename_settings(described["settings"]), file=file)
    return cls(settings, encoder, tuple(described["labels"]), **parts)


def _of_module(weights: dict[str, Tensor], module: str) -> dict[str, Tensor]:
    prefix = f"{module}."
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def _shared_modules(method: Method, model: Model) -> dict[str, str]:
    """Return the path in `method` of each module that `model.safetensors` has, with its name there."""
    exported: dict[str, nn.Module | None] = {"encoder": model.encoder, "head": model.head}
    return {
        path: name
        for path, module in method.named_modules(remove_duplicate=False)
        for name, other in exported.items()
        if module is other
    }


def _describe_method(method: Method) -> dict[str, Any]:
    """Return the description from which `_build_method` builds the method."""
    return {
        "method": method.cfg.name,
        "settings": method.cfg.model_dump(mode="json"),
        "encoder": method.exported().cfg.model_dump(mode="json"),
        "labels": list(method.labels),
        "parts": {name: _describe_method(getattr(method, name)) for name in method.requires},
    }


def _describe(model: Model, digest: str) -> dict[str, Any]:
    encoder, head, regressor = model.encoder, model.head, model.regressor
    own = isinstance(encoder, Encoder)
    shape = dict(zip(SHAPE, encoder.cfg.shape, strict=True)) if own else {"width": encoder.width}
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "torch_version": str(torch.__version__),
        "method": model.method,
        "encoder": {"settings": encoder.cfg.model_dump(), **shape, "dim": encoder.dim},
        "head": None if head is None else {"dim": head.dim, "classes": head.classes, "hidden": head.hidden},
        "regressor": None if regressor is None else regressor.describe(),
        **({} if model.particles is None else {"particles": model.particles.describe()}),
        "parameters": model.parameters,
        "features": _describe_features(encoder),
        **_describe_context(encoder),
        "labels": list(model.labels),
        "training": model.training,
        "weights_sha256": digest,
    }


def _describe_features(encoder: BaseEncoder) -> list[dict[str, Any]]:
    """Return name, unit and statistics of each feature; a foreign encoder computes its own, from columns."""
    if not isinstance(encoder, Encoder):
        return []
    statistics = zip(FEATURES, encoder.features.mean.tolist(), encoder.features.std.tolist(), strict=True)
    features = [{"name": f.name, "unit": f.unit, "mean": mean, "std": std} for f, mean, std in statistics]
    declared = encoder.features.declared
    return features if declared is None else features + declared.describe()


def _describe_context(encoder: BaseEncoder) -> dict[str, Any]:
    if isinstance(encoder, Encoder):
        inputs = {} if encoder.context is None else {"context": encoder.context.inputs.describe()}
        return inputs if encoder.collections is None else inputs | {"collections": encoder.collections.describe()}
    context = encoder.cfg.context.items()
    return {"context": [{"name": name, **one.model_dump(mode="json")} for name, one in context]} if context else {}
