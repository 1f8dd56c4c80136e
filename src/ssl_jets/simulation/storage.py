"""Finished parts on disk, and the file of all jets.

A part is a file of numpy arrays in the folder `OUT.parts/`, which is removed when the output is complete. The same
command finds the parts of an earlier one that was stopped, and simulates only the rest.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from ssl_jets.data.write import COUNTER, TREE
from ssl_jets.errors import SslJetsError, UsageError, in_shell
from ssl_jets.runtime.atomic import whole_file, write_text
from ssl_jets.runtime.kept_folder import KeptFolder
from ssl_jets.simulation.columns import EVENT_ID, LAYOUT, LISTS, VERTEX_LAYOUT, Table, counter_of
from ssl_jets.simulation.parts import FinishedPart

_REQUEST = "request.json"
_FACTS = "facts"
_BASKET = 1000
"""Jets of a cluster in the ROOT file."""


class PartFolder(KeptFolder):
    """Folder of the finished parts of one output.

    Args:
        output: the output.
        facts: request and versions, which determine the jets.
        force: remove the parts of another request.

    Raises:
        UsageError: the folder has parts of another request, or another process works in it.
        SslJetsError: the folder cannot be written.
    """

    def __init__(self, output: Path, facts: dict[str, Any], *, force: bool) -> None:
        super().__init__(output, output.with_name(f"{output.name}.parts"))
        request = self.path / _REQUEST
        text = json.dumps(facts, indent=2, sort_keys=True)
        if request.exists() and request.read_text(encoding="utf-8") != text:
            if not force:
                self.release()
                hint = f"the same command as before, --force to begin anew, or {in_shell('rm', '-r', self.path)}"
                raise UsageError("there are parts of another simulation", where=self.path, hint=hint)
            self.clear()
        write_text(request, text)

    def file(self, number: int) -> Path:
        return self.path / f"part-{number:06d}.npz"

    def load(self, number: int) -> FinishedPart | None:
        """Return a finished part; None if there is none, or its file is damaged."""
        try:
            with np.load(self.file(number), allow_pickle=False) as arrays:
                facts = json.loads(str(arrays[_FACTS]))
                tables: list[Table] = [{} for _ in range(facts["views"])]
                for key in arrays.files:
                    view, _, name = key.partition("/")
                    if name:
                        tables[int(view)][name] = arrays[key]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return FinishedPart(tuple(tables), facts["events"], facts["seconds"])


def save_part(path: Path, part: FinishedPart) -> None:
    """Write a part; the file appears whole or not at all.

    Raises:
        SslJetsError: the disk cannot be written.
    """
    facts = {"views": len(part.tables), "events": part.events, "seconds": part.seconds}
    arrays = {f"{view}/{name}": values for view, table in enumerate(part.tables) for name, values in table.items()}
    with whole_file(path, force=True) as fresh, fresh.open("wb") as file:
        np.savez(file, **{_FACTS: np.array(json.dumps(facts))}, **arrays)  # type: ignore[arg-type]


class JetTree:
    """ROOT file in the JetClass layout that is written table by table.

    Attributes:
        jets: jets written so far.
        content: hash of the names and values of all branches, the same for the same jets in any compression.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._tree: Any = None
        self.jets, self._hash = 0, hashlib.sha256()

    def extend(self, table: Table) -> None:
        """Append the jets of a table."""
        table = {name: table[name] for name in (*LAYOUT, *VERTEX_LAYOUT, EVENT_ID) if name in table}
        jets, counters = len(table[COUNTER]), LISTS.values()
        written = {name: _lists(table, name) for name in table if name not in counters}
        if self._tree is None:
            types = {name: f"var * {table[name].dtype}" if counter_of(name) else table[name].dtype for name in written}
            self._tree = self._file.mktree(TREE, types, counter_name=counter_of)
        for begin in range(0, jets, _BASKET):
            self._tree.extend({name: values[begin : begin + _BASKET] for name, values in written.items()})
        for name in sorted(table):
            self._hash.update(name.encode())
            self._hash.update(np.ascontiguousarray(table[name]).tobytes())
        self.jets += jets

    @property
    def content(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def jet_tree(path: Path) -> Iterator[JetTree]:
    """Yield a tree that is written to a path, with strong compression."""
    with path.open("w+b") as raw, uproot.recreate(raw, compression=uproot.ZSTD(5)) as file:
        yield JetTree(file)


def check_parts(parts: Sequence[FinishedPart | None]) -> list[FinishedPart]:
    """Return parts that were all written before.

    Raises:
        SslJetsError: one cannot be read any more.
    """
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise SslJetsError("a finished part cannot be read", hint="the same command again simulates it anew")
    return whole


def _lists(table: Table, name: str) -> Any:
    """Return a branch with one entry a jet."""
    counter = counter_of(name)
    return ak.unflatten(table[name], table[counter]) if counter else table[name]
