"""What a trained model is on disk: `model.safetensors` and `config.json` in one folder.

Enough for embed, finetune and evaluate on another machine: weights, encoder settings, features with units and
statistics, label names, training facts. No pickles, no class paths, no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_jets import __version__
from ssl_jets.config import ModelSettings, resolve
from ssl_jets.errors import SslJetsError
from ssl_jets.nn.encoder import SIZES, Encoder, parameter_count
from ssl_jets.nn.features import FEATURES
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor

FORMAT_VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(eq=False)
class Model:
    """A trained model.

    Attributes:
        encoder: particles to z.
        head: z to logits over `labels`; None where nothing was trained on labels.
        labels: class names.
        regressor: z to jet columns; None where none were learned.
        facts: `method` and `training` (files, split, steps, jets seen, ...), as written to `config.json`.
        sha256: of the weights file; empty for a model that was never saved.
    """

    encoder: Encoder
    head: ClassHead | None = None
    labels: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    regressor: Regressor | None = None

    @property
    def method(self) -> str:
        """Name of the method that trained it."""
        return str(self.facts.get("method", "unknown"))

    @property
    def parameters(self) -> int:
        """Trainable numbers of encoder and heads."""
        parts = (self.encoder, self.head, self.regressor)
        return sum(parameter_count(part) for part in parts if part is not None)


def save_model(model: Model, folder: Path) -> str:
    """Write `model` to `folder`, replacing what is there in one step.

    Returns:
        SHA-256 of the weights file.
    """
    weights: dict[str, Tensor] = {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
    if model.head is not None:
        weights |= {f"head.{name}": value for name, value in model.head.state_dict().items()}
    if model.regressor is not None:
        weights |= {f"regressor.{name}": value for name, value in model.regressor.state_dict().items()}
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        fresh.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, fresh / WEIGHTS)
        digest = hashlib.sha256((fresh / WEIGHTS).read_bytes()).hexdigest()
        (fresh / CONFIG).write_text(json.dumps(_describe(model, digest), indent=1) + "\n", encoding="utf-8")
        if folder.exists():  # moved aside first: a kill at any moment leaves one of the two models whole
            folder.rename(old)
        fresh.rename(folder)
    except (OSError, SafetensorError) as error:
        raise SslJetsError("the model cannot be written", where=folder, found=error) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
    model.sha256 = digest
    return digest


def load_model(path: str | Path) -> Model:
    """Read a model from a run folder or from its `model/` folder, in evaluation mode on the CPU.

    Raises:
        SslJetsError: no model there, a newer format, or weights that do not match their hash.
    """
    folder = _model_folder(Path(path))
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise SslJetsError("the model cannot be read", where=folder, found=error) from None
    config = config if isinstance(config, dict) else {}
    if config.get("format_version") != FORMAT_VERSION:
        raise SslJetsError(
            "the model was written in another format",
            where=folder / CONFIG,
            found=f"format_version {config.get('format_version')}, package {config.get('package_version')}",
            allowed=[FORMAT_VERSION],
        )
    if digest != config.get("weights_sha256"):
        raise SslJetsError("the weights are not those the model was saved with", where=folder / WEIGHTS, found=digest)
    try:
        return _build(config, weights, digest)
    except (KeyError, TypeError, RuntimeError) as error:
        raise SslJetsError("the description does not fit the weights", where=folder / CONFIG, found=error) from None


def _build(config: dict[str, Any], weights: dict[str, Tensor], digest: str) -> Model:
    encoder = Encoder(resolve(ModelSettings, config["encoder"]["settings"]))
    _load(encoder, weights, "encoder.")
    head = None
    if config["head"] is not None:
        head = ClassHead(**config["head"])
        _load(head, weights, "head.")
        head.eval()
    regressor = None
    if config.get("regressor") is not None:
        regressor = Regressor(**config["regressor"])
        _load(regressor, weights, "regressor.")
        regressor.eval()
    facts = {"method": config["method"], "training": config["training"]}
    return Model(encoder.eval(), head, tuple(config["labels"]), facts, digest, regressor)


def _model_folder(path: Path) -> Path:
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    found = "no such folder" if not path.exists() else "no config.json and no model/ in it"
    hint = "ssl-jets pretrain --out RUN makes one"
    if (path / "checkpoints").is_dir():
        hint = f"ssl-jets pretrain --out {path} --resume finishes this run"
    raise SslJetsError("there is no trained model here", where=path, found=found, hint=hint)


def _load(module: nn.Module, weights: dict[str, Tensor], prefix: str) -> None:
    module.load_state_dict({name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)})


def _describe(model: Model, digest: str) -> dict[str, Any]:
    encoder, head, regressor = model.encoder, model.head, model.regressor
    width, blocks, heads = SIZES[encoder.cfg.size]
    statistics = zip(FEATURES, encoder.features.mean.tolist(), encoder.features.std.tolist(), strict=True)
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "torch_version": str(torch.__version__),
        "method": model.method,
        "encoder": {
            "settings": encoder.cfg.model_dump(),
            "width": width,
            "blocks": blocks,
            "heads": heads,
            "dim": encoder.dim,
        },
        "head": None if head is None else {"dim": head.dim, "classes": head.classes, "hidden": head.hidden},
        "regressor": None
        if regressor is None
        else {"dim": regressor.dim, "names": list(regressor.names), "hidden": regressor.hidden},
        "parameters": model.parameters,
        "features": [{"name": f.name, "unit": f.unit, "mean": mean, "std": std} for f, mean, std in statistics],
        "labels": list(model.labels),
        "training": model.facts.get("training", {}),
        "weights_sha256": digest,
    }
