"""Writer of z files, in bounded memory, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ssl_jets.runtime.atomic import WholeFile, disk_error
from ssl_jets.zfile.checksums import Checksums
from ssl_jets.zfile.columns import Column, Rows
from ssl_jets.zfile.formats import Sink, check_names, format_of
from ssl_jets.zfile.metadata import ZMetadata, to_json

BLOCK_BYTES = 2**24


class ZWriter:
    """Writer of rows to a hidden folder next to `path`; the file is moved into place when closed without an error.

    Rows are gathered into blocks of one size, so that the layout of the file does not depend on how they arrive.

    Args:
        path: the output; its suffix names the format.
        columns: all columns, usually from `z_columns`.
        metadata: stored when the file is closed; may be replaced until then.
        force: overwrite an existing file.
        block_bytes: bytes gathered before they are written.
        rntuple: write an RNTuple, not a TTree, to a ROOT file.

    Raises:
        UsageError: an unknown suffix, an RNTuple in another format than ROOT, a column name that the format cannot
            keep, or the file exists without `force`.
        SslJetsError: the folder or the disk cannot take the file. Nothing is left behind.
    """

    def __init__(
        self,
        path: Path | str,
        columns: Sequence[Column],
        metadata: ZMetadata | Mapping[str, Any],
        *,
        force: bool = False,
        block_bytes: int = BLOCK_BYTES,
        rntuple: bool = False,
    ) -> None:
        self.path, self.rows, self.metadata = Path(path), 0, metadata
        check_names(self.path, [column.name for column in columns], rntuple=rntuple)
        own = format_of(self.path, rntuple=rntuple)
        columns = [own.stored(column) for column in columns]
        rows = max(block_bytes // sum(column.row_bytes for column in columns), 1)
        self._block = {column.name: column.empty(rows) for column in columns}
        self._block_rows, self._filled = rows, 0
        self._checksums = Checksums(rows)
        self._sink: Sink | None = None
        self._file = WholeFile(self.path, force=force)
        with self._writing():
            self._sink = own.sink(self._file.fresh, columns)

    @property
    def _opened(self) -> Sink:
        if self._sink is None:
            raise ValueError(f"{self.path} is closed")
        return self._sink

    def write(self, rows: Rows) -> None:
        """Append rows: an array for every column, all of one length. Floats are not cast to integer columns."""
        if rows.keys() != self._block.keys():
            raise ValueError(f"rows have the columns {sorted(rows)}, the file has {sorted(self._block)}")
        lengths = {len(values) for values in rows.values()}
        if len(lengths) != 1:
            raise ValueError(f"the columns have different lengths: {sorted(lengths)}")
        count, start = lengths.pop(), 0
        while start < count:
            stop = min(count, start + self._block_rows - self._filled)
            filled = self._filled + stop - start
            for name, block in self._block.items():
                np.copyto(block[self._filled : filled], rows[name][start:stop], casting="same_kind")
            self._filled, start = filled, stop
            if filled == self._block_rows:
                self._flush()
        self.rows += count

    def _flush(self) -> None:
        rows = {name: block[: self._filled] for name, block in self._block.items()}
        with self._writing():
            self._opened.write(rows)
        self._checksums.add(rows)
        self._filled = 0

    def close(self) -> None:
        """Complete the file and move it into place."""
        if self._filled:
            self._flush()
        metadata = self.metadata.to_dict() if isinstance(self.metadata, ZMetadata) else self.metadata
        with self._writing():
            self._opened.close(to_json(metadata, self._checksums))
            self._sink = None
            self._file.commit()

    def discard(self) -> None:
        """Remove everything written so far that is not yet in place."""
        if self._sink is not None:
            self._sink.abort()
            self._sink = None
        self._file.discard()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Discard the output at any error; an error of the disk becomes one message."""
        try:
            yield
        except OSError as error:
            self.discard()
            raise disk_error(self.path, error) from error
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> ZWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
