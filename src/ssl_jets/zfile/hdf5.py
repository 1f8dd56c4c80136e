"""z files as HDF5: one chunked, resizable dataset per column at the root, the metadata as the attribute `ssl_jets`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ssl_jets.zfile.columns import COUNTED, VECTORS, Column, Rows, spans

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc.Buffer since Python 3.12

METADATA = "ssl_jets"
CHUNK_BYTES = 2**18


class Hdf5Sink:
    """Writer that extends every dataset block by block."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import h5py

        self._raw = _Patient(path, "w+b")
        self._file = h5py.File(self._raw, "w")
        try:
            for column in columns:
                self._file.create_dataset(
                    column.name,
                    shape=(0, *column.shape),
                    maxshape=(None, *column.shape),
                    dtype=column.dtype,
                    chunks=(max(CHUNK_BYTES // column.row_bytes, 1), *column.shape),
                )
            self._raw.check()
        except OSError:
            self.abort()
            raise

    def write(self, rows: Rows) -> None:
        for name, values in rows.items():
            dataset = self._file[name]
            before = len(dataset)
            dataset.resize(before + len(values), axis=0)
            dataset[before:] = values
        self._raw.check()

    def close(self, metadata: str) -> None:
        self._file.attrs[METADATA] = metadata
        self._file.close()
        self._raw.check()
        self._raw.close()

    def abort(self) -> None:
        self._raw.failed = self._raw.failed or OSError("dropped")
        self._file.close()
        with suppress(OSError):
            self._raw.close()


class _Patient(io.FileIO):
    """File that keeps its first error for `check` and then pretends to write.

    HDF5 defers writes. If one fails in a destructor the error is lost, and HDF5 never releases the file: it retries,
    noisily, until the process ends. It can close this one.
    """

    failed: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write all bytes: a raw write may take only a part, which HDF5 does not check."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and self.failed is None:
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failed = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.failed is not None:
            raise self.failed


class Hdf5Reading:
    """Reader of slices of the datasets with as many rows as z, or as the key."""

    def __init__(self, path: Path) -> None:
        import h5py

        # Many network file systems of computing centres have no locks.
        self._file = h5py.File(path, "r", locking="best-effort")

    @cached_property
    def metadata(self) -> str | None:
        text = self._file.attrs.get(METADATA)
        return str(text) if isinstance(text, str) else None

    @cached_property
    def _sets(self) -> dict[str, Any]:
        """Return the datasets with rows; those in groups have names with a slash."""
        sets: dict[str, Any] = {}
        self._file.visititems(lambda name, item: sets.update({name: item} if hasattr(item, "ndim") else {}))
        return {name: item for name, item in sets.items() if item.ndim > 0}

    @cached_property
    def rows(self) -> int:
        return next((len(self._sets[name]) for name in COUNTED if name in self._sets), 0)

    @cached_property
    def names(self) -> tuple[str, ...]:
        items = self._sets.items()
        return tuple(name for name, item in items if name in VECTORS.values() or self._is_column(item))

    def _is_column(self, item: Any) -> bool:
        return item.ndim == 1 and len(item) == self.rows and item.dtype.kind in "biuf"

    def blocks(self, names: Sequence[str], rows: int, start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        for low, high in spans(start, stop, rows):
            yield {name: self._file[name][low:high] for name in names}

    def close(self) -> None:
        self._file.close()
