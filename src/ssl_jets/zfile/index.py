"""Index of the parts of one output: one JSON file that makes them readable as one table, without a copy of their rows.

The file has the metadata of the merged file and, under `index`, the path of each part (relative to the index), its
rows, and the CRC-32 of its metadata, which hold the checksums of its rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError
from ssl_jets.runtime.reading import SEAL, is_sealed, json_object, read_text, sealed
from ssl_jets.zfile.checksums import DAMAGED, in_blocks
from ssl_jets.zfile.columns import Column, convert

SUFFIX = ".json"
INDEX = "index"

ReadPart = Callable[[Path, int, Sequence[str], int, int], Iterator[dict[str, npt.NDArray[Any]]]]
"""Reader of rows of a part: path, CRC-32 of its metadata, names of columns, first row, row after the last."""


def is_index(path: Path) -> bool:
    """Check whether a path names an index."""
    return path.suffix.lower() == SUFFIX


def index_text(
    out: Path,
    parts: Sequence[tuple[Path, int, int]],
    columns: Sequence[Column],
    numbers: npt.NDArray[np.int32],
    metadata: Mapping[str, Any],
) -> str:
    """Return the text of an index.

    Args:
        out: path of the index.
        parts: path, rows, and CRC-32 of the metadata of each part, in order.
        columns: columns of the table.
        numbers: number in the table of each input of the whole list of inputs, -1 for one without rows.
        metadata: metadata of the table.
    """
    folder = os.path.realpath(out.parent)
    listed = [[os.path.relpath(os.path.realpath(path), folder), rows, crc32] for path, rows, crc32 in parts]
    index = {
        "parts": listed,
        "columns": [[column.name, column.dtype, column.width] for column in columns],
        "numbers": numbers.tolist(),
    }
    return json.dumps(sealed({**metadata, INDEX: index})) + "\n"


class IndexReading:
    """Reader of the parts of an index as one table (`Reading`); only parts with the rows that are read are opened.

    Attributes:
        parts: path of each part, and CRC-32 of its metadata.

    Raises:
        DataError: the index is damaged.
    """

    def __init__(self, path: Path, read_part: ReadPart) -> None:
        content = json_object(read_text(path))
        if not is_sealed(content):
            raise DataError(DAMAGED, where=path, found="another index", hint="ssl-jets merge writes it anew")
        index = content.pop(INDEX)
        del content[SEAL]
        folder = Path(os.path.realpath(path.parent))
        self._read_part = read_part
        self.parts = [(folder / name, crc32) for name, _, crc32 in index["parts"]]
        self._edges = [0, *np.cumsum([rows for _, rows, _ in index["parts"]]).tolist()]
        self._columns = {name: Column(name, dtype, width) for name, dtype, width in index["columns"]}
        self._numbers = np.array(index["numbers"], np.int32)
        self.rows = int(self._edges[-1])
        self.names = tuple(self._columns)
        self.metadata: str | None = json.dumps(content)

    def blocks(self, names: Sequence[str], rows: int, start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield the rows `start` to `stop` in blocks of at most `rows` rows; one empty block if there are none."""
        return in_blocks(self._batches([self._columns[name] for name in names], start, stop), rows)

    def _batches(self, columns: Sequence[Column], start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        names = [column.name for column in columns]
        for (path, crc32), (first, last) in zip(self.parts, pairwise(self._edges), strict=True):
            low, high = max(start, first), min(stop, last)
            if low < high:
                for rows in self._read_part(path, crc32, names, low - first, high - first):
                    yield convert(rows, columns, self._numbers, path)
        if start == stop:
            yield {column.name: column.empty(0) for column in columns}

    def close(self) -> None:
        """Do nothing: a part is closed when its rows were read."""
