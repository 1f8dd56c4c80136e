"""A range of entries of one file to `Jets`: canonical columns in canonical units, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_jets.data import root
from ssl_jets.data.files import JetFile
from ssl_jets.data.schema import Column
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.jets import KINDS, Jets

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Request:
    """What to read of each jet.

    Attributes:
        jet_columns: jet columns to read besides the particles.
        bad_jets: a jet without particles, or with a particle whose values are not finite or whose pt is zero:
            "error" stops at it, "skip" leaves it out and counts it.
        columns: particle columns to read, in the order of `COLUMNS`; None means all, which must then be the same in
            all files.
    """

    jet_columns: tuple[str, ...] = ()
    bad_jets: Literal["error", "skip"] = "error"
    columns: tuple[str, ...] | None = None


DEFAULT = Request()
"""All particle columns, no jet columns, and an error at a bad jet."""


def check_request(files: Sequence[JetFile], request: Request) -> None:
    """Refuse a column that a file does not have.

    Raises:
        UsageError: it names the column, the file, and the nearest columns.
    """
    for file in files:
        for asked, there in ((request.jet_columns, file.jet_columns), (request.columns or (), file.columns)):
            for name in asked:
                if name not in there:
                    raise UsageError(
                        "there is no such column in the file",
                        where=file.source,
                        found=name,
                        allowed=nearest(name, there),
                    )


def read_chunk(file: JetFile, index: int, start: int, stop: int, request: Request) -> tuple[Jets, Counter[str]]:
    """Entries `start` to `stop` of a file as jets in the order of the file, and what was left out, by reason.

    Particle values are float32, labels int64, jet columns of the type in the file (integers int64, so that event
    numbers stay exact). `index` is the number of the file that goes into `Jets.source`.

    Raises:
        DataError: a bad jet (unless they are skipped), labels that are not one-hot, branches of differing lengths, a
            file that cannot be read. It names the file, the branch and the entry.
    """
    columns = file.columns if request.columns is None else request.columns
    origins = {name: file.schema.particles[name] for name in columns}
    particle_branches = tuple(dict.fromkeys(branch for origin in origins.values() for branch in origin.branches))
    branches = (*particle_branches, *file.label_branches, *request.jet_columns)
    raw = root.read(file.source.path, file.tree, branches, start, stop)

    offsets, values = _flatten({name: raw[name] for name in particle_branches}, file, start)
    particles = np.empty((int(offsets[-1]), len(columns)), dtype=np.float32)
    for position, origin in enumerate(origins.values()):
        particles[:, position] = _compute(origin, values)
    entries = np.arange(start, stop, dtype=np.int64)
    source = np.stack([np.full_like(entries, index), entries, np.zeros_like(entries)], axis=1)
    jets = Jets(
        particles=torch.from_numpy(particles),
        offsets=torch.from_numpy(offsets),
        columns=columns,
        jet={name: _jet_column(raw[name]) for name in request.jet_columns},
        labels=torch.from_numpy(_labels(raw, file, start, stop)),
        source=torch.from_numpy(source),
    )
    bad, skipped = _bad_jets(jets, values, file, start, request.bad_jets)
    return (jets.select(torch.from_numpy(np.flatnonzero(~bad))) if bad.any() else jets), skipped


def _flatten(raw: Mapping[str, ak.Array], file: JetFile, start: int) -> tuple[Array, dict[str, Array]]:
    """Offsets of the jets, and the values of each jagged branch end to end; all branches must agree in length."""
    offsets: Array | None = None
    first = ""
    values: dict[str, Array] = {}
    for name, array in raw.items():
        layout = ak.to_layout(array).to_ListOffsetArray64(True)
        own = np.asarray(layout.offsets.data)
        values[name] = np.asarray(layout.content.to_backend_array())[: own[-1]]
        if offsets is None:
            offsets, first = own, name
        elif not np.array_equal(offsets, own):
            lengths, expected = np.diff(own), np.diff(offsets)
            wrong = np.flatnonzero(lengths != expected)
            raise DataError(
                f"the branches {first} and {name} hold different numbers of particles",
                where=f"{file.source}, tree {file.tree}, entry {start + wrong[0]}",
                found=f"{expected[wrong[0]]} and {lengths[wrong[0]]}; {_of(wrong, lengths)}",
            )
    assert offsets is not None
    return offsets, values


def _compute(origin: Column, values: Mapping[str, Array]) -> Array:
    """One canonical column, `[particle]`, in canonical units."""
    if origin.flags is not None:
        return _kind(origin.flags, values)
    column: Array
    if origin.norm is not None:
        # A sum of squares is several times faster than hypot, and jets are far from where it would overflow.
        column = np.sqrt(sum(np.square(values[branch]) for branch in origin.norm))
    else:
        column = values[origin.branches[0]]
    return column if origin.factor == 1.0 else column * np.float32(origin.factor)


def _kind(flags: Mapping[str, str], values: Mapping[str, Array]) -> Array:
    """Index of the kind whose flag is set, the first where several are; "other" where none is."""
    # The flags as bits of one small number, looked up in a table: several times faster than one mask after another.
    bits = sum((values[branch] != 0).view(np.uint8) << np.uint8(bit) for bit, branch in enumerate(flags.values()))
    kinds = [KINDS.index(name) for name in flags]
    other = KINDS.index("other")
    table = [
        next((kind for bit, kind in enumerate(kinds) if code >> bit & 1), other) for code in range(1 << len(kinds))
    ]
    column: Array = np.array(table, dtype=np.float32)[bits]
    return column


def _jet_column(array: ak.Array) -> Tensor:
    """A flat branch as a tensor: floating types as they are, integers as int64, since float32 would round them."""
    values = ak.to_numpy(array)
    if values.dtype.kind in "iu":
        values = values.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(values))


def _labels(raw: Mapping[str, ak.Array], file: JetFile, start: int, stop: int) -> Array:
    """Index of the class of each jet, int64; -1 where the file has no labels."""
    if not file.label_branches:
        return np.full(stop - start, -1, dtype=np.int64)
    flags = np.stack([np.asarray(ak.to_numpy(raw[branch]), dtype=np.float32) for branch in file.label_branches], axis=1)
    ones = flags == 1
    wrong = np.flatnonzero((ones.sum(axis=1) != 1) | (~ones & (flags != 0)).any(axis=1))
    if len(wrong):
        found = ", ".join(
            f"{branch} = {value:g}" for branch, value in zip(file.label_branches, flags[wrong[0]]) if value != 0
        )
        raise DataError(
            "the labels of a jet are not exactly one 1 and otherwise 0",
            where=f"{file.source}, tree {file.tree}, entry {start + wrong[0]}",
            found=f"{found or 'all are 0'}; {_of(wrong, flags)}",
            allowed=file.label_branches,
        )
    classes: Array = np.argmax(ones, axis=1).astype(np.int64)
    return classes


def _bad_jets(
    jets: Jets, values: Mapping[str, Array], file: JetFile, start: int, policy: str
) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """Which jets cannot be used, and how many for each reason (the first that holds); an error unless skipping."""
    bad = np.zeros(len(jets), dtype=np.bool_)
    skipped: Counter[str] = Counter()
    jet_of = None
    for reason, where in _findings(jets, values):
        if reason == "no particles":
            found = where
        else:
            jet_of = jets.jet_of_particle.numpy() if jet_of is None else jet_of
            found = np.unique(jet_of[where])
        if policy == "error":
            raise DataError(
                f"a jet cannot be used: {reason}",
                where=f"{file.source}, tree {file.tree}, entry {start + found[0]}",
                found=_of(found, bad),
                hint="--set data.bad_jets=skip leaves such jets out and counts them",
            )
        new = found[~bad[found]]
        skipped[reason] += len(new)
        bad[new] = True
    return bad, skipped


def _findings(jets: Jets, values: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """What is wrong, as a reason with the indices of jets ("no particles") or particles (all others)."""
    findings = [("no particles", np.flatnonzero(jets.lengths.numpy() == 0))]
    for name, content in values.items():
        # A sum is finite unless a value is not (or it overflows, and then the second look finds nothing).
        with np.errstate(all="ignore"):
            suspicious = content.dtype.kind == "f" and not np.isfinite(content.sum())
        if suspicious:
            findings.append((f"{name} is not finite", np.flatnonzero(~np.isfinite(content))))
    if "pt" in jets.columns:
        pt = jets.column("pt").numpy()
        if len(pt) and not pt.min() > 0:
            findings.append(("pt is zero", np.flatnonzero(pt <= 0)))
    return [(reason, where) for reason, where in findings if len(where)]


def _of(wrong: Array, jets: Array) -> str:
    """How many entries are wrong, of those that were just read."""
    return f"{len(wrong)} of the {len(jets)} entries read here"
