"""Formats whose entries are events with several jets: how they name jets, particles, and which belong together.

The branches of a file appear under the names that the format's formulas use: those of particles, one number for each
particle of a jet, and those of jets, one number for each jet. `event_rows.py` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from ssl_jets.config import Settings
from ssl_jets.data.events.links import Link, element_key
from ssl_jets.data.readers.base import Number, Table
from ssl_jets.errors import UsageError, nearest

_ARRAYS = re.compile(r"^(?:float|double|u?int\d+_t)\[\]\[(\d+)\]$")
"""Type of a branch with a fixed number of values for each jet."""

_NO_JETS = re.compile(r"^Gen|Truth|^(?!.*[Jj]et)")
"""Collections that refer to particles but are not reconstructed jets."""


class Events(Settings):
    """Where jets and particles are in an event. Names in braces are replaced by what the collection says."""

    collections: dict[str, dict[str, str]] = Field(min_length=1)
    """Name of each collection of jets to the words that replace names in braces; `{jets}` is by default the name. The
    first that a file has is the default."""
    any_collection: bool = False
    """Whether other collections are taken as well, if they have the branches."""
    jets: dict[str, str]
    """Name in formulas to the branch with a number for each jet of the event; the first one must be there."""
    prefix: str
    """How the branches with the jets' own numbers begin; they are jet columns under their own names."""
    particles: tuple[dict[str, str | float], ...] = Field(min_length=1)
    """Name in formulas to the branch with a number for each particle of the event, or to a number that holds for all;
    several where the particles lie in several collections (then they are linked by references)."""
    containers: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Where jets have element links: name of each collection of particles to the words that replace names in braces in
    `particles`, which is then the same for all; `{container}` is the name. Those that a file has are taken, for jets
    with a word `input` only those with that in their names."""
    link: Link
    """How jets and particles belong together."""

    @model_validator(mode="after")
    def _linked(self) -> Events:
        if len(self.particles) > 1 and self.link.references is None:
            raise ValueError("particles of several collections can only be linked by references")
        if (self.link.elements is None) != (not self.containers):
            raise ValueError("elements and containers go together")
        return self

    @model_validator(mode="after")
    def _every_name_in_braces_is_given(self) -> Events:
        of_link = self.link.model_dump(exclude_none=True, exclude={"classes"}).values()
        asked = _asked([*self.jets.values(), self.prefix, *of_link])
        of_particles = _asked([text for block in self.particles for text in block.values()])
        collections = self.collections | ({"any other": {}} if self.any_collection else {})
        for collection, words in collections.items():
            if missing := asked - {"jets", *words}:
                raise ValueError(f"the collection {collection} says nothing for {{{min(missing)}}}")
            for container, own in (self.containers or {collection: {}}).items():
                given = {"jets", *words, *({"container", *own} if self.containers else ())}
                if missing := (of_particles - given) | (_asked([*own.values()]) - {"container"}):
                    raise ValueError(f"{container} says nothing for {{{min(missing)}}}")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches of the first collection."""
        name, words = next(iter(self.collections.items()))
        words = {"jets": name} | words
        blocks = self._blocks(words, list(self.containers)[:1])
        of_particles = [origin for block in blocks for origin in block.values() if isinstance(origin, str)]
        of_jets = [text.format_map(words) for text in (*self.jets.values(), *self.link.branches)]
        return tuple(dict.fromkeys((*of_jets, *of_particles)))

    def layouts(self, table: Table) -> dict[str, CollectionLayout]:
        """The collections of jets that a table has, by name, in the order of preference."""
        names = [*self.collections, *(self._others(table) if self.any_collection else ())]
        found = {name: self._layout(name, table) for name in names}
        return {name: layout for name, layout in found.items() if layout is not None}

    def choose(self, table: Table, asked: str | None, where: object) -> CollectionLayout:
        """The layout of the collection that is asked for, or of the first one.

        Raises:
            UsageError: the table does not have it.
        """
        layouts = self.layouts(table)
        name = next(iter(layouts)) if asked is None else asked
        if name not in layouts:
            raise UsageError(
                "the file has no such jets with particles",
                where=f"data.jets, {where}",
                found=name,
                allowed=nearest(name, layouts),
            )
        return replace(layouts[name], others=tuple(layouts))

    def _others(self, table: Table) -> list[str]:
        """Further collections: those with a branch like that of the links."""
        before, _, behind = self.link.branches[0].partition("{jets}")
        cut = slice(len(before), -len(behind) or None)
        names = [name[cut] for name in table.branches if name.startswith(before) and name.endswith(behind)]
        return [name for name in names if name not in self.collections and not _NO_JETS.search(name)]

    def _layout(self, name: str, table: Table) -> CollectionLayout | None:
        words = {"jets": name} | self.collections.get(name, {})
        link = Link(**_filled(self.link.model_dump(exclude_none=True), words))
        named = {own: branch.format_map(words) for own, branch in self.jets.items()}
        there = set(table.branches)
        first = next(iter(self.particles[0]))
        wanted = [one for one in self.containers if words.get("input", "") in one]
        containers = [one for one in wanted if self._blocks(words, [one])[0][first] in there]
        blocks = self._blocks(words, containers)
        if not blocks:
            return None
        shared = [own for own in blocks[0] if all(_is_there(block.get(own), there) for block in blocks)]
        jet = {own: branch for own, branch in named.items() if branch in there}
        if not shared or next(iter(named)) not in jet or not {*link.branches} <= there:
            return None
        particle = {own: tuple(block[own] for block in blocks) for own in shared}
        prefix = self.prefix.format_map(words)
        arrays = {name.partition("[")[0]: name for name in table.branches if name.startswith(prefix) and "[" in name}
        stores = [one.removesuffix("Dyn").removesuffix("Aux") for one in containers]
        keys = tuple(tuple(element_key(one, number) for number in link.classes.values()) for one in stores)
        return CollectionLayout(name, particle, jet, link, prefix, arrays, keys)

    def _blocks(self, words: Mapping[str, str], containers: Sequence[str]) -> list[dict[str, str | float]]:
        """The collections of particles, of those that element links may lead to only the given ones."""
        if not self.containers:
            return [_numbers(block, words) for block in self.particles]
        own = {
            name: {word: text.format(container=name) for word, text in self.containers[name].items()}
            for name in containers
        }
        return [_numbers(self.particles[0], {**words, "container": name, **own[name]}) for name in containers]


@dataclass(frozen=True, eq=False)
class CollectionLayout:
    """One collection of jets of a file.

    Attributes:
        collection: its name.
        particle: name to the branch, or the number, of each collection of particles.
        jet: name to branch.
        link: the branches that join them.
        prefix: how the branches with the jets' own numbers begin.
        arrays: name without brackets of a branch with several numbers for each jet, to its name with them.
        keys: the keys of each collection of particles in element links.
        others: names of all collections of the file.
    """

    collection: str
    particle: Mapping[str, tuple[str | float, ...]] = field(repr=False)
    jet: Mapping[str, str] = field(repr=False)
    link: Link = field(repr=False)
    prefix: str = field(repr=False)
    arrays: Mapping[str, str] = field(repr=False)
    keys: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    others: tuple[str, ...] = ()

    def jet_branch(self, name: str) -> tuple[str, int | None] | None:
        """Branch of a name of jets, and the place among several values for each jet; None for other names."""
        if name in self.jet:
            return self.jet[name], None
        if not name.startswith(self.prefix):
            return None
        place = re.fullmatch(r"(.*)\[(\d+)\]", name)
        return (name, None) if place is None else (self.arrays.get(place[1], place[1]), int(place[2]))


class EventTable:
    """A table of events, as if it were one of the jets of a collection, under the names of the format."""

    def __init__(self, table: Table, layout: CollectionLayout) -> None:
        self.table, self.layout = table, layout
        self.name, self.entries, self.ignored = table.name, table.entries, table.ignored
        self._flat = self._names_of_jets()
        texts = [name for name in table.branches if table.is_text(name)]
        self.branches: tuple[str, ...] = (*layout.particle, *self._flat, *texts)

    def _names_of_jets(self) -> tuple[str, ...]:
        mine = [name for name in self.table.branches if name.startswith(self.layout.prefix)]
        arrays = set(self.table.not_lists(mine))
        names = [name for name in mine if name not in arrays]
        for name in arrays:
            if (length := _ARRAYS.match(self.table.typename(name))) is not None:
                names += [f"{name.partition('[')[0]}[{place}]" for place in range(int(length[1]))]
        return tuple(dict.fromkeys((*self.layout.jet, *sorted(names), *self.table.flat())))

    def flat(self) -> tuple[str, ...]:
        """Names with one number for each jet; those of the event count for all its jets."""
        return self._flat

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the particles' names whose branches do not hold a list of numbers for each event."""
        return [name for name in names if self.table.not_lists(self._particle_branches(name))]

    def depth(self, name: str) -> int:
        """1 for particles, 0 for jets and events; -1 where the file holds something else by this name."""
        if name in self.layout.particle:
            return 1 if not self.not_lists([name]) else -1
        if name in self.layout.jet:
            return 0 if self.table.depth(self.layout.jet[name]) == 1 else -1
        return 0 if name in self._flat else -1

    def is_text(self, name: str) -> bool:
        """Whether the event has a string by this name."""
        return name not in self.layout.particle and name not in self._flat

    def typename(self, name: str) -> str:
        """Types of the branches of a name."""
        branches = self._particle_branches(name) or [self.layout.jet.get(name, name)]
        return ", ".join(self.table.typename(branch) for branch in branches)

    def number(self, name: str) -> Number:
        """The type of a number of a jet or of its event."""
        return self.table.number((self.layout.jet_branch(name) or (name,))[0])

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Entries at which a read of the names may begin without decoding anything twice."""
        branches = [branch for name in names for branch in self._particle_branches(name)]
        return self.table.clusters([*branches, *self.layout.link.branches])

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Particles of each event."""
        return self.table.lengths(self._particle_branches(name)[0])

    def jets_of_events(self) -> npt.NDArray[np.int64]:
        """Jets of each event."""
        return self.table.lengths(next(iter(self.layout.jet.values())))

    def _particle_branches(self, name: str) -> list[str]:
        return [origin for origin in self.layout.particle.get(name, ()) if isinstance(origin, str)]


def _asked(texts: Sequence[Any]) -> set[str]:
    """The names in braces of texts, and of tuples of texts."""
    flat = [part for text in texts for part in (text if isinstance(text, tuple | list) else [str(text)])]
    return {name for text in flat for _, name, _, _ in Formatter().parse(text) if name is not None}


def _filled(tree: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    """The same with all names in braces replaced, in texts and tuples of texts."""

    def fill(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(fill(text) for text in value)
        return value.format_map(words) if isinstance(value, str) else value

    return {key: fill(value) for key, value in tree.items()}


def _numbers(block: Mapping[str, str | float], words: Mapping[str, str]) -> dict[str, str | float]:
    """A block of particles with all names in braces replaced; what then is a number is one."""
    return {own: _number(str(origin).format_map(words)) for own, origin in block.items()}


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _is_there(origin: str | float | None, branches: set[str]) -> bool:
    return origin in branches if isinstance(origin, str) else origin is not None
