"""A range of entries of one file to `Jets`: canonical columns in canonical units, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ssl_jets.data import columns as of
from ssl_jets.data.files import JetFile
from ssl_jets.data.formula import formula
from ssl_jets.data.rows import Rows, one_jet_an_entry
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.jets import Jets

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
    form = file.schema
    rows, skipped = read_rows(file, _branches(file, columns, request), start, stop)
    source = np.stack([np.full_like(rows.entry, index), rows.entry, rows.number], axis=1)
    jets = Jets(
        particles=torch.from_numpy(of.particle_columns(form, rows, columns)),
        offsets=torch.from_numpy(rows.offsets),
        columns=columns,
        jet={name: torch.from_numpy(of.jet_column(form, rows, name)) for name in request.jet_columns},
        labels=torch.from_numpy(of.labels(file.label_names, file.label_formulas, file.label_branches, rows)),
        source=torch.from_numpy(source),
    )
    computed = [name for name in columns if form.particles[name].formula is not None]
    bad, left_out = _bad_jets(jets, rows, computed, request.bad_jets)
    good = jets.select(torch.from_numpy(np.flatnonzero(~bad))) if bad.any() else jets
    return good, skipped + left_out


def read_jet_columns(file: JetFile, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Jet columns of entries, `[jet]` each, of every jet, however bad.

    Raises:
        DataError: the file cannot be read.
    """
    request = Request(jet_columns=tuple(names))
    raw = file.reader.read(file.source.path, file.tree, _branches(file, (), request, cuts=False), start, stop)
    rows = one_jet_an_entry(raw, start, stop, file.place)
    return {name: of.jet_column(file.schema, rows, name) for name in names}


def read_rows(file: JetFile, branches: Sequence[str], start: int, stop: int) -> tuple[Rows, Counter[str]]:
    """Branches of entries, jet by jet, without the places and jets that the format's cuts leave out.

    Here the entries become jets: a format whose entry is an event with several jets has its own way to make `Rows`.

    Raises:
        DataError: branches of differing lengths, a file that cannot be read.
    """
    form, left_out = file.schema, Counter[str]()
    raw = file.reader.read(file.source.path, file.tree, branches, start, stop)
    rows = one_jet_an_entry(raw, start, stop, file.place)
    if form.particle_cut is not None:
        rows = rows.keep(formula(form.particle_cut).of_particles(rows).astype(bool))
    if form.jet_cut is not None:
        chosen = formula(form.jet_cut).of_jets(rows).astype(bool)
        left_out[f"not {form.jet_cut}"] += int(np.count_nonzero(~chosen))
        rows = rows.select(chosen)
    return rows, +left_out


def _branches(file: JetFile, columns: Sequence[str], request: Request, *, cuts: bool = True) -> tuple[str, ...]:
    """All branches that the request needs, each once."""
    form = file.schema
    needed = [branch for name in columns for branch in form.particles[name].branches]
    if form.axis is not None and any(form.particles[name].absolute for name in columns):
        needed += form.axis.branches
    if cuts:
        needed += [*file.label_branches, *form.cut_branches]
    for name in request.jet_columns:
        needed += form.jets[name].branches if name in form.jets else (name,)
    return tuple(dict.fromkeys(needed))


def _bad_jets(
    jets: Jets, rows: Rows, computed: Sequence[str], policy: str
) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """Which jets cannot be used, and how many for each reason (the first that holds); an error unless skipping."""
    bad = np.zeros(len(jets), dtype=np.bool_)
    skipped: Counter[str] = Counter()
    jet_of = None
    for reason, where in _findings(jets, rows, computed):
        if reason == "no particles":
            found = where
        else:
            jet_of = jets.jet_of_particle.numpy() if jet_of is None else jet_of
            found = np.unique(jet_of[where])
        if policy == "error":
            raise DataError(
                f"a jet cannot be used: {reason}",
                where=rows.where(found[0]),
                found=rows.some(found),
                hint="--set data.bad_jets=skip leaves such jets out and counts them",
            )
        new = found[~bad[found]]
        skipped[reason] += len(new)
        bad[new] = True
    return bad, skipped


def _findings(jets: Jets, rows: Rows, computed: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """What is wrong, as a reason with the indices of jets ("no particles") or particles (all others)."""
    findings = [("no particles", np.flatnonzero(jets.lengths.numpy() == 0))]
    findings += [(f"{name} is not finite", _not_finite(content)) for name, content in rows.particle.items()]
    if all(not len(where) for _, where in findings[1:]):  # then what was computed is the reason
        findings += [(f"{name} is not finite", _not_finite(jets.column(name).numpy())) for name in computed]
    if "pt" in jets.columns:
        pt = jets.column("pt").numpy()
        if len(pt) and not pt.min() > 0:
            findings.append(("pt is zero", np.flatnonzero(pt <= 0)))
    return ((reason, where) for reason, where in findings if len(where))


def _not_finite(content: Array) -> Array:
    """Indices of values that are NaN or infinite."""
    # A sum is finite unless a value is not (or it overflows, and then the second look finds nothing).
    with np.errstate(all="ignore"):
        suspicious = content.dtype.kind == "f" and not np.isfinite(content.sum())
    return np.flatnonzero(~np.isfinite(content)) if suspicious else np.empty(0, dtype=np.int64)
