"""Collections of jets in files of events: their names, their branches, and the links to their particles.

The branches of a file appear under the names in the formulas of the schema: names of particles, one number for each
particle of a jet, and names of jets, one number for each jet. `gather.py` reads them.
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
"""Type of a branch with a fixed number of values per jet."""

_NO_JETS = re.compile(r"^Gen|Truth|^(?!.*[Jj]et)")
"""Names of collections that refer to particles but are not reconstructed jets."""


class Events(Settings):
    """Branches of jets and particles in an event. Names in braces are replaced by the words of the collection."""

    collections: dict[str, dict[str, str]] = Field(min_length=1)
    """Name of each collection of jets to the words that replace names in braces; `{jets}` is by default the name. The
    first that a file has is the default."""
    any_collection: bool = False
    """Whether other collections are accepted as well, if they have the branches."""
    jets: dict[str, str]
    """Name in formulas to the branch with a number for each jet of the event; the first one is required."""
    prefix: str
    """Prefix of the branches of jets; they become jet columns under their own names."""
    particles: tuple[dict[str, str | float], ...] = Field(min_length=1)
    """Name in formulas to the branch with a number for each particle of the event, or to a constant; several of these
    if the particles are in several collections (then they are linked by references)."""
    containers: dict[str, dict[str, str]] = Field(default_factory=dict)
    """With element links: name of each collection of particles to the words that replace names in braces in
    `particles`, which is then the same for all; `{container}` is the name. Those that a file has are used; for jets
    with a word `input` only those that contain it in their names."""
    link: Link
    """Link from jets to particles."""

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
        required = _in_braces([*self.jets.values(), self.prefix, *of_link])
        of_particles = _in_braces([text for block in self.particles for text in block.values()])
        collections = self.collections | ({"any other": {}} if self.any_collection else {})
        for collection, words in collections.items():
            if missing := required - {"jets", *words}:
                raise ValueError(f"the collection {collection} has no word for {{{min(missing)}}}")
            for container, own in (self.containers or {collection: {}}).items():
                available = {"jets", *words, *({"container", *own} if self.containers else ())}
                if missing := (of_particles - available) | (_in_braces([*own.values()]) - {"container"}):
                    raise ValueError(f"{container} has no word for {{{min(missing)}}}")
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

    def in_file(self, names: Sequence[str], table: Table) -> dict[str, str]:
        """Return the branch behind each of these names of particles and jets, for the first collection of a table."""
        collection = next(iter(self.layouts(table)))
        words = {"jets": collection} | self.collections.get(collection, {})
        branches = self._blocks(words, list(self.containers)[:1])[0] | _numbers(self.jets, words)
        return {name: str(branches[name]) for name in names if name in branches}

    def layouts(self, table: Table) -> dict[str, CollectionLayout]:
        """Return the collections of jets that a table has, by name, in the order of preference."""
        names = [*self.collections, *(self._others(table) if self.any_collection else ())]
        layouts = {name: self._layout(name, table) for name in names}
        return {name: layout for name, layout in layouts.items() if layout is not None}

    def choose(self, table: Table, collection: str | None, where: object) -> CollectionLayout:
        """Return the layout of a collection, by default of the first one.

        Raises:
            UsageError: the table does not have it.
        """
        layouts = self.layouts(table)
        name = next(iter(layouts)) if collection is None else collection
        if name not in layouts:
            raise UsageError(
                "the file has no such jets with particles",
                where=f"data.jets, {where}",
                found=name,
                allowed=nearest(name, layouts),
            )
        return replace(layouts[name], others=tuple(layouts))

    def _others(self, table: Table) -> list[str]:
        """Return further collections, found by their link branch."""
        # `{jets}PFCands_jetIdx`: a branch `FatJetPFCands_jetIdx` -> the collection `FatJet`.
        before, _, behind = self.link.branches[0].partition("{jets}")
        cut = slice(len(before), -len(behind) or None)
        names = [name[cut] for name in table.branches if name.startswith(before) and name.endswith(behind)]
        return [name for name in names if name not in self.collections and not _NO_JETS.search(name)]

    def _layout(self, name: str, table: Table) -> CollectionLayout | None:
        words = {"jets": name} | self.collections.get(name, {})
        named = {own: branch.format_map(words) for own, branch in self.jets.items()}
        branches = set(table.branches)
        if next(iter(named.values())) not in branches:  # most files are of other formats
            return None
        first = next(iter(self.particles[0]))
        candidates = [container for container in self.containers if words.get("input", "") in container]
        containers = [one for one in candidates if self._blocks(words, [one])[0][first] in branches]
        blocks = self._blocks(words, containers)
        if not blocks:
            return None
        shared = [own for own in blocks[0] if all(_is_available(block.get(own), branches) for block in blocks)]
        jet = {own: branch for own, branch in named.items() if branch in branches}
        if not shared:
            return None
        link = Link(**_filled(self.link.model_dump(exclude_none=True), words))
        if not {*link.branches} <= branches:
            return None
        particle = {own: tuple(block[own] for block in blocks) for own in shared}
        prefix = self.prefix.format_map(words)
        indexed = [name for name in table.branches if name.startswith(prefix) and "[" in name]
        arrays = {name.partition("[")[0]: name for name in indexed}
        stores = [one.removesuffix("Dyn").removesuffix("Aux") for one in containers]
        keys = tuple(tuple(element_key(one, number) for number in link.classes.values()) for one in stores)
        return CollectionLayout(name, particle, jet, link, prefix, arrays, keys)

    def _blocks(self, words: Mapping[str, str], containers: Sequence[str]) -> list[dict[str, str | float]]:
        """Return the branches of each collection of particles; with element links only of the given containers."""
        if not self.containers:
            return [_numbers(block, words) for block in self.particles]
        blocks = []
        for name in containers:
            own = {word: text.format(container=name) for word, text in self.containers[name].items()}
            blocks.append(_numbers(self.particles[0], {**words, "container": name, **own}))
        return blocks


@dataclass(frozen=True, eq=False)
class CollectionLayout:
    """Branches of one collection of jets of a file.

    Attributes:
        collection: its name.
        particle: name to the branch, or the constant, of each collection of particles.
        jet: name to branch.
        link: the branches that link jets to particles.
        prefix: prefix of the branches of jets.
        arrays: name without brackets of a branch with several values per jet, to its full name.
        keys: the keys of each collection of particles in element links.
        others: names of all collections of the file.
        passes_negative: rows of a link table with a negative number of a particle belong to no jet.
        same: number of the collection of particles, the first one in the branch `link.same` of the file.
        other_lists: lists with the prefix that do not have one value per jet, such as particle lists.
    """

    collection: str
    particle: Mapping[str, tuple[str | float, ...]] = field(repr=False)
    jet: Mapping[str, str] = field(repr=False)
    link: Link = field(repr=False)
    prefix: str = field(repr=False)
    arrays: Mapping[str, str] = field(repr=False)
    keys: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    others: tuple[str, ...] = ()
    passes_negative: bool = False
    same: int | None = None
    other_lists: frozenset[str] = field(default=frozenset(), repr=False)

    def jet_branch(self, name: str) -> tuple[str, int | None] | None:
        """Return the branch of a name of jets, and the position among several values per jet; None for other names.

        With the prefix `FatJet_`: `FatJet_pt` -> (`FatJet_pt`, None), `FatJet_tau[2]` -> (`FatJet_tau[4]`, 2).
        """
        if name in self.jet:
            return self.jet[name], None
        if not name.startswith(self.prefix):
            return None
        indexed = re.fullmatch(r"(.*)\[(\d+)\]", name)
        return (name, None) if indexed is None else (self.arrays.get(indexed[1], indexed[1]), int(indexed[2]))


class EventTable:
    """Table of events seen as a table of the jets of one collection, under the names of the schema."""

    def __init__(self, table: Table, layout: CollectionLayout) -> None:
        self.table, self.layout = table, layout
        self.name = table.name
        self.entries = table.entries
        self.ignored = table.ignored
        self._flat = self._names_of_jets()
        texts = [name for name in table.branches if table.is_text(name)]
        self.branches: tuple[str, ...] = (*layout.particle, *self._flat, *texts)

    def _names_of_jets(self) -> tuple[str, ...]:
        names = []
        for name in self.table.branches:
            if not name.startswith(self.layout.prefix) or name in self.layout.other_lists:
                continue
            if self.table.depth(name) == 1:
                names.append(name)
            elif (length := _ARRAYS.match(self.table.typename(name))) is not None:
                names += [f"{name.partition('[')[0]}[{position}]" for position in range(int(length[1]))]
        return tuple(dict.fromkeys((*self.layout.jet, *sorted(names), *self.table.flat())))

    def flat(self) -> tuple[str, ...]:
        """Return names with one number per jet; numbers of the event are repeated for all its jets."""
        return self._flat

    def depth(self, name: str) -> int:
        """Return 1 for particles, 0 for jets and events; -1 if the branch of the file holds something else."""
        if name in self.layout.particle:
            return 1 if all(self.table.depth(branch) == 1 for branch in self._particle_branches(name)) else -1
        if name in self.layout.jet:
            return 0 if self.table.depth(self.layout.jet[name]) == 1 else -1
        return 0 if name in self._flat else -1

    def is_text(self, name: str) -> bool:
        return name not in self.layout.particle and name not in self._flat

    def typename(self, name: str) -> str:
        branches = self._particle_branches(name) or [self.layout.jet.get(name, name)]
        return ", ".join(self.table.typename(branch) for branch in branches)

    def number(self, name: str) -> Number:
        return self.table.number((self.layout.jet_branch(name) or (name,))[0])

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        branches = [branch for name in names for branch in self._particle_branches(name)]
        return self.table.boundaries([*branches, *self.layout.link.branches])

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        return self.table.lengths(self._particle_branches(name)[0])

    def jets_of_events(self) -> npt.NDArray[np.int64]:
        """Return the number of jets of each event, `[entry]`."""
        return self.table.lengths(next(iter(self.layout.jet.values())))

    def _particle_branches(self, name: str) -> list[str]:
        return [origin for origin in self.layout.particle.get(name, ()) if isinstance(origin, str)]


def _in_braces(texts: Sequence[Any]) -> set[str]:
    """Return the names in braces of texts, and of tuples of texts: `{jets}_pt` -> `jets`."""
    flat = [part for text in texts for part in (text if isinstance(text, tuple | list) else [str(text)])]
    return {name for text in flat for _, name, _, _ in Formatter().parse(text) if name is not None}


def _filled(tree: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    """Replace all names in braces, in texts and tuples of texts."""

    def fill(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(fill(text) for text in value)
        return value.format_map(words) if isinstance(value, str) else value

    return {key: fill(value) for key, value in tree.items()}


def _numbers(block: Mapping[str, str | float], words: Mapping[str, str]) -> dict[str, str | float]:
    """Replace all names in braces in a block of particles, and convert texts that are numbers."""
    return {own: _number(str(origin).format_map(words)) for own, origin in block.items()}


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _is_available(origin: str | float | None, branches: set[str]) -> bool:
    return origin in branches if isinstance(origin, str) else origin is not None
