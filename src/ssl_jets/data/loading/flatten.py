"""Measurement of the spectra of training jets, for `data.flatten`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.config import FlattenSettings
from ssl_jets.data.chunks import check_request, read_good_rows
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.epoch_plan import CHUNK, chunk_at_boundaries
from ssl_jets.data.loading.spectrum import Spectrum, cells_of
from ssl_jets.data.request import Request
from ssl_jets.errors import DataError, UsageError, nearest

SETTING = "data.flatten"


def with_spectrum(request: Request, spectrum: Spectrum) -> Request:
    """Add the spectrum to a request: weights of its jets, or the columns to resample them by."""
    columns = tuple(dict.fromkeys((*request.jet_columns, *spectrum.settings.by))) if spectrum.resamples else None
    return replace(request, jet_columns=request.jet_columns if columns is None else columns, flatten=spectrum)


def measure_spectrum(data: Dataset, settings: FlattenSettings, request: Request, workers: int = 1) -> Spectrum:
    """Measure the histograms of the selected training jets, bad ones among them; only jet columns are read.

    Raises:
        UsageError: a column that a file lacks, a target that is neither a class nor a file.
        DataError: there is no bin in which all classes have jets; a file cannot be read, and the request does not skip
            it.
    """
    bad = (request.bad_jets, request.bad_files)
    narrow = Request(settings.by, *bad, columns=(), weights=request.weights, where=request.where)
    check_request([data.files[index] for index in sorted({part.file for part in data.train})], narrow)
    classes = data.label_names or ("",)
    shape = tuple(len(edges) - 1 for edges in settings.bins)
    # Of all jets, and of the file that is the target: histograms of each of thousands of files would take gigabytes.
    before, target_file = (np.zeros((len(classes), *shape)) for _ in range(2))
    is_target = [settings.to in (file.name, str(file.source)) for file in data.files]
    outside = jets = 0
    pieces = [piece for part in data.train for piece in chunk_at_boundaries(data.files[part.file], part, CHUNK)]
    count = partial(_count, data.files, settings, narrow, len(classes), labelled=bool(data.label_names))
    with ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-spectrum") as pool:
        for piece, (histogram, left_out, read) in zip(pieces, pool.map(count, pieces)):
            before += histogram
            if is_target[piece.file]:
                target_file += histogram
            outside, jets = outside + left_out, jets + read
    target = _target(settings, classes, before, target_file, data)
    there = before[_present(before)]
    common = (there > 0).all(axis=0) & (target > 0) & bool(len(there))
    if not common.any():
        hint = "fewer or wider data.flatten.bins"
        raise DataError("there is no bin in which all classes have jets", where=SETTING, hint=hint)
    target = np.where(common, target, 0.0) / target[common].sum()
    return Spectrum(settings, classes, before, target, _factors(before, target, settings.classes), outside, jets)


def _count(
    files: Sequence[JetFile],
    settings: FlattenSettings,
    request: Request,
    classes: int,
    part: EntryRange,
    *,
    labelled: bool,
) -> tuple[Array, int, int]:
    """Return the histogram `[class, bin, ...]` of some entries, the jets outside of it, and all jets."""
    file = files[part.file]
    decoder = file.decoder(request)
    table = decoder.jet_table(read_good_rows(file, decoder.branches, part.start, part.stop, request))
    cell, inside = cells_of(settings, table.columns)
    row = table.labels if labelled else np.zeros_like(table.labels)
    inside &= row >= 0
    histogram = np.zeros((classes, *(len(edges) - 1 for edges in settings.bins)))
    np.add.at(histogram, (row[inside], *(axis[inside] for axis in cell)), table.weights[inside])
    return histogram, int(np.count_nonzero(~inside)), len(inside)


def _target(
    settings: FlattenSettings, classes: tuple[str, ...], before: Array, target_file: Array, data: Dataset
) -> Array:
    """Return the target spectrum `[bin, ...]`, not normalized."""
    if settings.to == "uniform":
        widths = [np.diff(edges) for edges in settings.bins]
        return np.asarray(np.prod(np.meshgrid(*widths, indexing="ij"), axis=0), dtype=np.float64)
    if settings.to in classes:
        return np.asarray(before[classes.index(settings.to)])
    names = [*(name for name in classes if name), *(file.name for file in data.files)]
    if not target_file.any():
        raise UsageError(
            "the target is no class and no file to train on",
            where=f"{SETTING}.to",
            found=settings.to,
            allowed=["uniform", *nearest(settings.to, names)],
        )
    return np.asarray(target_file.sum(axis=0))


def _present(before: Array) -> Array:
    """Return which classes have jets in any bin, bool `[class]`; a format may name classes that the files lack."""
    present: Array = before.sum(axis=tuple(range(1, before.ndim))) > 0
    return present


def _factors(before: Array, target: Array, classes: str) -> Array:
    """Return the factors `[class, bin, ...]`, whose mean over all jets is 1."""
    axes = tuple(range(1, before.ndim))
    share = before.sum(axis=axes) if classes == "as-is" else _present(before).astype(np.float64)
    share = share / share.sum() * before.sum()  # A_c
    scaled = share.reshape(-1, *(1 for _ in axes)) * target
    factors: Array = np.divide(scaled, before, out=np.zeros_like(before), where=before > 0)
    return factors
