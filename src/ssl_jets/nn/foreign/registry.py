"""Foreign encoders: networks of another architecture with the interface of the encoder.

A network is a class, found by its name in the entry points `ssl_jets.encoders` of installed packages, or in the
environment variable `SSL_JETS_ENCODERS`:

    [project.entry-points."ssl_jets.encoders"]             SSL_JETS_ENCODERS="deepsets=my_encoders:DeepSets"
    deepsets = "my_encoders:DeepSets"

Model folders contain the name and the arguments of the constructor, never a module or code: a model from elsewhere runs
only classes that this machine has under that name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from ssl_jets.errors import SslJetsError, UsageError, nearest
from ssl_jets.jets import Jets

GROUP = "ssl_jets.encoders"
"""Group of entry points."""
VARIABLE = "SSL_JETS_ENCODERS"
"""Environment variable of further encoders: `NAME=MODULE:CLASS`, separated by commas."""
_JSON = (bool, int, float, str, list, dict)
BUNDLED = {"part": "ssl_jets.nn.foreign.particle_transformer:ParticleTransformer"}


class Translated(NamedTuple):
    """Public checkpoint in the names of a network.

    Attributes:
        options: arguments of the constructor that the shapes of the weights imply.
        weights: state dict of the network.
        head: weight `[class, dim]` and bias `[class]` of a linear head on z; None without one.
        classes: names of its classes; none if the checkpoint does not imply them.
        notes: remarks about what the checkpoint implies, and what was assumed.
    """

    options: dict[str, Any]
    weights: dict[str, Tensor]
    head: tuple[Tensor, Tensor] | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Network(Protocol):
    """Interface of a foreign network, an `nn.Module` whose constructor takes JSON values by keyword.

    Optional attributes: `columns` (particle columns that it reads, by default pt, deta, dphi), `context` (numbers of
    the jet that it reads, such as `jet_eta`), `recorded` (arguments that every model folder must have, since folders
    without them were computed otherwise), and a static method `translate(weights) -> Translated` for checkpoints of its
    authors. Without `translate` a checkpoint is a state dict of the network.

    Attributes:
        width: dimension of a token.
        dim: dimension of z.
    """

    width: int
    dim: int

    def __call__(self, jets: Jets) -> tuple[Tensor, Tensor]:
        """Return z `[jet, dim]` and tokens `[particle, width]`, in the order of the jets and of their particles."""


def find(name: str) -> type[nn.Module]:
    """Return the class of a foreign encoder.

    Raises:
        UsageError: there is none of this name, or the environment variable is malformed.
        SslJetsError: its module cannot be imported.
    """
    registered = _registered()
    if name not in registered:
        hint = f"{VARIABLE}={name}=MODULE:CLASS, or an entry point of the group {GROUP}"
        allowed = nearest(name, sorted(registered))
        raise UsageError("there is no such encoder", where="architecture", found=name, allowed=allowed, hint=hint)
    entry = registered[name]
    try:
        network = entry.load()
    except (ImportError, AttributeError) as error:
        hint = "PYTHONPATH names the folder of the module"
        raise SslJetsError("the encoder cannot be imported", where=entry.value, found=error, hint=hint) from None
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise SslJetsError("an encoder is a class of torch.nn.Module", where=entry.value, found=type(network).__name__)
    return network


def _registered() -> dict[str, EntryPoint]:
    """Return all foreign encoders by name; the environment variable comes first, then installed packages."""
    found = {name: EntryPoint(name, value, GROUP) for name, value in BUNDLED.items()}
    found |= {entry.name: entry for entry in entry_points(group=GROUP)}
    for text in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, is_named, value = (word.strip() for word in text.partition("="))
        if not (name and is_named and all(value.partition(":")) and EntryPoint.pattern.match(value)):
            allowed = ["NAME=MODULE:CLASS, several separated by commas"]
            raise UsageError("this names no encoder", where=VARIABLE, found=text, allowed=allowed)
        found[name] = EntryPoint(name, value, GROUP)
    return found


def defaults(cls: type[nn.Module]) -> dict[str, Any]:
    """Return the defaults of the constructor that are JSON values."""
    parameters = signature(cls).parameters.values()
    values = {one.name: list(one.default) if isinstance(one.default, tuple) else one.default for one in parameters}
    return {name: value for name, value in values.items() if value is None or isinstance(value, _JSON)}


def with_tuples(cls: type[nn.Module], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options from JSON, which has no tuples, with a tuple for each list whose default is a tuple."""
    tuples = {one.name for one in signature(cls).parameters.values() if isinstance(one.default, tuple)}
    return {name: tuple(one) if name in tuples and isinstance(one, list) else one for name, one in options.items()}


def translate(cls: type[nn.Module], weights: Mapping[str, Tensor]) -> Translated:
    """Return a checkpoint in the names of a network: by its `translate`, or unchanged without one."""
    own = getattr(cls, "translate", None)
    return Translated({}, dict(weights)) if own is None else own(weights)
