"""What to simulate: the arguments of `simulate`, checked, and the parts into which the work is divided."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field

from ssl_jets.config import Settings
from ssl_jets.errors import UsageError, nearest
from ssl_jets.simulation.detector import DETECTORS
from ssl_jets.simulation.processes import MIXTURE, PROCESSES, shares

Shower = Literal["simple", "vincia"]
Pairs = Literal["seeds", "showers", "detectors"]
TUNES: dict[str, tuple[str, ...]] = {
    "monash": ("Tune:pp = 14",),
    "a14": ("Tune:pp = 21",),
}
"""Settings of the parameter tunes: Monash 2013 (arXiv:1404.5630), A14 of ATLAS with other alpha_s of the showers."""
GROUP_JETS, PART_JETS = 5000, 500
"""Jets of a group, in which all processes have their shares, and the most of a part, the unit of work."""


class SimulationRequest(Settings):
    """Arguments that determine the jets.

    Example:
        >>> request_of(process="hbb", jets=1200).labels, request_of(process="mixture", jets=10).labels
        (True, False)
    """

    process: str = Field(description="Name of a process, or mixture.")
    jets: int = Field(ge=1, description="Number of jets.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
    tune: str = Field("monash", description="Parameter tune of Pythia.")
    shower: Shower = Field("simple", description="Parton shower.")
    detector: str = Field("nominal", description="Variant of the detector.")
    pairs: Pairs | None = Field(None, description="What the two versions of an event differ in.")
    labels: bool = Field(True, description="Write labels and truth matches.")
    vertices: bool = Field(False, description="Write secondary vertices.")


class View(NamedTuple):
    """One way to see an event. Without pairs there is one.

    Attributes:
        name: its part of the file name.
        version: index of the shower among those of the event, `showers_of`.
        detector: variant of the detector.
    """

    name: str
    version: int
    detector: str


@dataclass(frozen=True)
class Part:
    """A number of jets of one process with their own seed: the unit of work.

    Attributes:
        number: position among all parts.
        group: number of the group, whose jets are shuffled together in a mixture.
        process: name of the process.
        jets: number of jets.
    """

    number: int
    group: int
    process: str
    jets: int


def request_of(**arguments: Any) -> SimulationRequest:
    """Return the checked arguments; those that are None have their default.

    Raises:
        UsageError: a value that is not allowed, or two that exclude each other.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for option, choices in _CHOICES.items():
        if option in given and given[option] not in choices:
            allowed = nearest(str(given[option]), choices)
            raise UsageError("there is no such choice", where=f"--{option}", found=given[option], allowed=allowed)
    for option, lowest in (("jets", 1), ("seed", 0)):
        if given.get(option, lowest) < lowest:
            hint = f"--{option} {lowest}"
            raise UsageError("this number is too small", where=f"--{option}", found=given[option], hint=hint)
    fixed = {"showers": "shower", "detectors": "detector"}.get(given.get("pairs", ""))
    if fixed in given:
        raise UsageError(f"--pairs {given['pairs']} takes both choices of --{fixed}", where=f"--{fixed}")
    vincia = fixed == "shower" or given.get("shower") == "vincia"
    if vincia and given.get("tune", "monash") != "monash":
        found = f"--tune {given['tune']}"
        raise UsageError("Vincia has parameters of its own, and takes no other tune", where="--tune", found=found)
    given.setdefault("labels", given["process"] != MIXTURE)
    return SimulationRequest(**given)


_CHOICES: dict[str, tuple[str, ...]] = {
    "process": (*PROCESSES, MIXTURE),
    "tune": tuple(TUNES),
    "shower": get_args(Shower),
    "detector": tuple(DETECTORS),
    "pairs": get_args(Pairs),
}
"""Names that the options allow."""


def showers_of(request: SimulationRequest) -> tuple[str, ...]:
    """Return the parton shower of each version of an event: one, or two which begin from the same hard process.

    Example:
        >>> showers_of(request_of(process="hbb", jets=1, pairs="seeds"))
        ('simple', 'simple')
    """
    if request.pairs == "showers":
        return get_args(Shower)
    return (request.shower,) * (2 if request.pairs == "seeds" else 1)


def views(request: SimulationRequest) -> tuple[View, ...]:
    """Return the views of each event: one, or two of a pair.

    Example:
        >>> [view.name for view in views(request_of(process="hbb", jets=1, pairs="showers"))]
        ['simple', 'vincia']
    """
    if request.pairs == "detectors":
        return tuple(View(detector, 0, detector) for detector in DETECTORS)
    showers = showers_of(request)
    names = {"showers": showers, "seeds": ("first", "second")}.get(request.pairs or "", ("",))
    return tuple(View(name, version, request.detector) for version, name in enumerate(names))


def parts_of(request: SimulationRequest) -> list[Part]:
    """Return the parts of a request; they do not depend on the number of workers.

    Example:
        >>> [(part.group, part.jets) for part in parts_of(request_of(process="hbb", jets=5600))][-3:]
        [(0, 500), (1, 500), (1, 100)]
    """
    parts: list[Part] = []
    for group, begin in enumerate(range(0, request.jets, GROUP_JETS)):
        for process, jets in shares(request.process, min(GROUP_JETS, request.jets - begin)).items():
            for first in range(0, jets, PART_JETS):
                parts.append(Part(len(parts), group, process, min(PART_JETS, jets - first)))
    return parts


def seeds(request: SimulationRequest, part: Part) -> np.random.SeedSequence:
    """Return the root of all random numbers of a part."""
    return np.random.SeedSequence([request.seed, zlib.crc32(part.process.encode()), part.number])
