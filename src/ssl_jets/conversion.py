"""Conversion: a foreign encoder, with or without a checkpoint of its authors, becomes a model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_jets.config import FeatureSettings, ModelSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.model import Model
from ssl_jets.model_file import save_model
from ssl_jets.nn.foreign.adapter import ForeignEncoder
from ssl_jets.nn.foreign.registry import Translated, defaults, find, translate
from ssl_jets.nn.heads import ClassHead
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.overwriting import check_apart
from ssl_jets.runtime.weights import read_checkpoint
from ssl_jets.sharing.location import CONFIG

_EXTRA = 10
"""Names of weights that a message lists."""


@dataclass(frozen=True)
class Converted:
    """Model folder of a foreign encoder.

    Attributes:
        folder: the model folder.
        model: the model in it.
        notes: remarks about the conversion, such as a head that was left out.
    """

    folder: Path
    model: Model
    notes: tuple[str, ...]


def convert(
    architecture: str,
    checkpoint: str | Path | None,
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    force: bool = False,
) -> Converted:
    """Write the model folder of a foreign encoder; arguments as in `ssl_jets.convert`.

    Options replace those that the checkpoint implies. Without a checkpoint the weights have the seed 0.

    Raises:
        UsageError: there is no such encoder, the labels do not fit the head, or `out` contains the
            checkpoint.
        SslJetsError: the checkpoint cannot be read, its weights do not fit the network, or the network fails on two
            jets; nothing is written.
    """
    check_apart([out], [] if checkpoint is None else [checkpoint])
    check_folder(out, CONFIG, force=force)
    cls = find(architecture)
    weights, digest = read_checkpoint(Path(checkpoint)) if checkpoint is not None else (None, "")
    translated = Translated({}, {}) if weights is None else translate(cls, weights)
    # With the defaults, so that the model computes the same when those of the constructor change.
    chosen = {**defaults(cls), **translated.options, **(options or {})}
    settings = ModelSettings(architecture=architecture, options=chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = ForeignEncoder(settings)
    context = {name: FeatureSettings() for name in encoder.context}
    encoder.cfg = encoder.cfg.model_copy(update={"context": context})
    if weights is not None:
        _load(encoder, translated.weights, Path(str(checkpoint)))
    encoder.try_out()
    head, classes, notes = _head(encoder, translated, tuple(labels))
    notes = (*notes, *translated.notes)
    if weights is None:
        notes = (*notes, "no checkpoint: the weights are those of the constructor, with seed 0")
    training: dict[str, Any] = {"columns": list(encoder.columns), "context": list(context)}
    if weights is not None:
        training["checkpoint"] = {"file": Path(str(checkpoint)).name, "sha256": digest}
    facts = {"method": architecture, "training": training}
    model = Model(encoder.eval(), head, classes, facts)
    save_model(model, out)
    return Converted(out, model, notes)


def _load(encoder: ForeignEncoder, weights: dict[str, Tensor], checkpoint: Path) -> None:
    """Load a state dict into the network, all of it.

    Raises:
        SslJetsError: a weight is missing, unknown, or of another shape.
    """
    own = encoder.network.state_dict()
    problems = {
        "missing": [name for name in own if name not in weights],
        "unknown": [name for name in weights if name not in own],
        "of another shape": [name for name in own if name in weights and own[name].shape != weights[name].shape],
    }
    found = [f"{len(names)} {kind}: {', '.join(names[:_EXTRA])}" for kind, names in problems.items() if names]
    if found:
        hint = "--option KEY=VALUE sets arguments of the constructor"
        raise SslJetsError("the weights do not fit the network", where=checkpoint, found="; ".join(found), hint=hint)
    encoder.network.load_state_dict(weights)


def _head(
    encoder: ForeignEncoder, translated: Translated, labels: tuple[str, ...]
) -> tuple[ClassHead | None, tuple[str, ...], tuple[str, ...]]:
    """Return the class head of a checkpoint, its classes, and a remark if it is left out for lack of names."""
    if translated.head is None:
        if labels:
            raise UsageError("the checkpoint has no linear head on z", where="--labels", found=", ".join(labels))
        return None, (), ()
    weight, bias = translated.head
    classes = labels or translated.classes
    if not classes:
        note = f"the head of {len(weight)} classes is left out: --labels names them, in its order"
        return None, (), (note,)
    if len(classes) != len(weight) or len(set(classes)) != len(classes):
        allowed = [f"{len(weight)} names"]
        raise UsageError("these are not the classes of the head", where="--labels", found=classes, allowed=allowed)
    head = ClassHead(encoder.dim, len(classes))
    head.load_state_dict({"layers.0.weight": weight.float(), "layers.0.bias": bias.float()})
    return head.eval(), classes, ()
