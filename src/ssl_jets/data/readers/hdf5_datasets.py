"""Datasets of an HDF5 file: search through groups and links, and checks that their numbers can be read.

Other files that a file refers to (external links, virtual datasets, external storage) are opened only if the user asks
for it.
"""

from __future__ import annotations

import os

import h5py

from ssl_jets.data.readers.arrays import row_bytes
from ssl_jets.data.readers.base import overclaimed
from ssl_jets.errors import DataError

_PLUGINS = {32001: "blosc", 32026: "blosc2", 307: "bzip2", 305: "lzo", 32000: "lzf", 32004: "lz4", 32015: "zstd"}
"""Filter numbers of compressions that are not part of HDF5, as PyTables and others use them."""


def datasets(top: h5py.Group, file: str, external: bool) -> dict[str, h5py.Dataset]:
    """Return all datasets below a group by their paths from it on, including those behind soft links.

    Raises:
        DataError: an external link, unless `external`.
    """
    result: dict[str, h5py.Dataset] = {}
    groups = [("", top)]
    soft = []
    seen = {top}
    while groups:
        above, group = groups.pop(0)
        for key in group:
            path, link = f"{above}{key}", group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink) and not external:
                raise _leads_elsewhere(file, path, link.filename)
            if isinstance(link, h5py.SoftLink):
                soft.append((path, group, key))
                continue
            item = group.get(key)
            if isinstance(item, h5py.Dataset):
                result[path] = item
            # Names with `_i_` are indices of PyTables. A link may lead back to a group above.
            elif isinstance(item, h5py.Group) and not key.startswith("_i_") and item not in seen:
                seen.add(item)
                groups.append((f"{path}/", item))
    # Soft links last: their path may go through an external link, which is refused above.
    targets = {path: group.get(key) for path, group, key in soft}
    return result | {path: item for path, item in targets.items() if isinstance(item, h5py.Dataset)}


def unusable(dataset: h5py.Dataset, file: str, external: bool) -> str | None:
    """Return the reason why a dataset cannot be a branch, or None.

    Raises:
        DataError: its numbers lie in another file, unless `external`.
    """
    others = [name for name, _, _ in dataset.external or ()]
    if dataset.is_virtual:
        others += [source.file_name for source in dataset.virtual_sources() if source.file_name != "."]
    if others and not external:
        raise _leads_elsewhere(file, dataset.name, others[0])
    if not dataset.ndim:
        return "no rows"
    stored = os.path.getsize(file) if dataset.is_virtual else dataset.id.get_storage_size()
    return None if others else overclaimed(row_bytes(dataset) * len(dataset), stored)


def check_compression(dataset: h5py.Dataset, file: object) -> None:
    """Check that every compression of a dataset has a plugin; the package hdf5plugin has many.

    Raises:
        DataError: it has none; the message names the compression.
    """
    settings = dataset.id.get_create_plist()
    for index in range(settings.get_nfilters()):
        number = settings.get_filter(index)[0]
        if not h5py.h5z.filter_avail(number) and not _plugin_is_loaded(number):
            name = _PLUGINS.get(number, f"filter {number}")
            raise DataError(
                f"the file is compressed with {name}, which HDF5 cannot read by itself",
                where=file,
                found=f"dataset {dataset.name}",
                hint="pip install hdf5plugin, and try again",
            )


def _leads_elsewhere(file: str, path: str, other: str) -> DataError:
    return DataError(
        "the file takes datasets from another file",
        where=file,
        found=f"{path} from {other}",
        hint="--set data.external=true opens such files too, wherever they are",
    )


def _plugin_is_loaded(number: int) -> bool:
    try:
        import hdf5plugin  # noqa: F401  importing it registers its filters
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(number))
