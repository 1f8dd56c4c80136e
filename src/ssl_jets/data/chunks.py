"""A range of entries of one file to `Jets`: canonical columns in canonical units, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.events.gather import event_rows
from ssl_jets.data.files import JetFile
from ssl_jets.data.rows import NO_ENTRIES, Entries, Rows, chosen, one_jet_an_entry
from ssl_jets.data.schemas import columns as of
from ssl_jets.data.schemas.check import wrong_type
from ssl_jets.data.schemas.formula_text import quoted
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.jets import KINDS, Jets, wrap_azimuth

_EMPTY, _LOST = "no particles", "particles of it are not stored in the file"


_WEIGHTLESS, _UNCLASSED = "its weight is not finite", "it belongs to no class, or to several"


_NO_KIND = f"kind is no number from 0 to {len(KINDS) - 1}"


WEAK = "pt is zero"


_LARGEST = 1e6
"""Largest size of a column that a particle can have, in its unit (GeV, mm, e): far above any collider and detector, and
far below the numbers at which squares overflow in float32."""


_BEYOND = "{name} is beyond 1,000,000"


_MOMENTUM = "its momentum pt cosh(deta) is beyond 1,000,000"


_OF_JETS = (_LOST, _EMPTY, _WEIGHTLESS, _UNCLASSED)
"""Reasons that are found jet by jet; all others particle by particle."""


_OTHERWISE = {
    _LOST: ", --set data.jets=NAME reads other jets of the file",
    _UNCLASSED: ", --set data.labels=[...] names the classes to use, `labels` in a schema of yours what they are",
    _NO_KIND: "; of a PDG number in your schema, write `kind: {formula: kind(BRANCH)}`",
    **dict.fromkeys(
        [_BEYOND.format(name="pt"), _BEYOND.format(name="energy"), _MOMENTUM],
        "; momenta are in GeV: of a file in MeV, write `unit: MeV` in a schema",
    ),
}
"""What else can be done about a reason."""


@dataclass(frozen=True)
class Request:
    """What to read of each jet.

    Attributes:
        jet_columns: jet columns to read besides the particles.
        bad_jets: a jet without particles or of no class, or with a particle whose values are not finite or beyond any
            that a particle can have, or whose pt is zero or negative: "error" stops at it, "skip" leaves it out and
            counts it.
        bad_files: the same for entries that cannot be read, of a file that is corrupt, truncated or gone.
        columns: particle columns to read, in the order of `COLUMNS`; None means all, which must then be the same in
            all files.
        weights: jet column that becomes `Jets.weights`; None for none.
        wrap: wrap dphi into [-pi, pi]. False keeps it as it is in the file, to be looked at.
    """

    jet_columns: tuple[str, ...] = ()
    bad_jets: Literal["error", "skip"] = "error"
    bad_files: Literal["error", "skip"] = "error"
    columns: tuple[str, ...] | None = None
    weights: str | None = None
    wrap: bool = True

    @classmethod
    def of(
        cls,
        settings: DataSettings,
        jet_columns: tuple[str, ...] = (),
        columns: tuple[str, ...] | None = None,
        *,
        weighted: bool = False,
    ) -> Request:
        """What to read, and what the settings say of bad jets and files, and of weights where they are wanted."""
        return cls(jet_columns, settings.bad_jets, settings.bad_files, columns, settings.weights if weighted else None)

    @property
    def of_jets(self) -> tuple[str, ...]:
        """All jet columns to read."""
        return self.jet_columns if self.weights is None else (*self.jet_columns, self.weights)


class BadJetError(DataError):
    """A jet that cannot be used, in a file that can be read."""


_STEP = 100_000
"""Rows of a column that are checked at once."""


DEFAULT = Request()
"""All particle columns, no jet columns, and an error at a bad jet."""


def check_request(files: Sequence[JetFile], request: Request) -> None:
    """Refuse a column that a file does not have, or that holds something else than one number per jet.

    Raises:
        UsageError: it names the column, the file, and the nearest columns.
        DataError: it names the column, the file, and the type found.
    """
    for file in files:
        for asked, there in ((request.of_jets, file.jet_columns), (request.columns or (), file.columns)):
            for name in asked:
                if name not in there:
                    _refuse_type(file, name)
                    raise UsageError(
                        "there is no such column in the file",
                        where=file.source,
                        found=name,
                        allowed=nearest(name, there),
                    )


def _refuse_type(file: JetFile, name: str) -> None:
    """Raise a DataError for a branch that the file has, but that holds something else than one number per jet."""
    with file.reader.open_tables(file.source.path, external=True) as tables:
        for table in tables:
            if table.name == file.tree and name in table.branches and table.depth(name) != 0:
                raise wrong_type(name, {0}, table, file.place)


def read_chunk(
    file: JetFile, index: int, start: int, stop: int, request: Request, without: Entries = NO_ENTRIES
) -> tuple[Jets, Counter[str]]:
    """Entries `start` to `stop` of a file as jets in the order of the file, and what was left out, by reason.

    Particle values are float32, labels int64, jet columns of the type in the files (integers int64, so that event
    numbers stay exact; see `types.py`), NaN where the file lacks a value. `index` is the number of the file that goes
    into `Jets.source`; entries of the tree in `without` are passed over.

    Raises:
        DataError: a bad jet (unless they are skipped), a negative weight, branches of differing lengths,
            a file that cannot be read. It names the file, the branch and the entry.
    """
    columns = file.columns if request.columns is None else request.columns
    form = file.schema
    rows, skipped = read_rows(file, form.needed(columns, request.of_jets, file.label_branches), start, stop, without)
    source = np.stack([np.full_like(rows.entry, index), rows.entry, rows.number], axis=1)
    jets = Jets(
        particles=torch.from_numpy(of.particle_columns(form, rows, columns)),
        offsets=torch.from_numpy(rows.offsets),
        columns=columns,
        jet={name: torch.from_numpy(_jet_column(file, rows, name)) for name in request.jet_columns},
        labels=torch.from_numpy(of.labels(file.label_names, file.label_formulas, file.label_branches, rows)),
        weights=None if request.weights is None else torch.from_numpy(_weights(file, rows, request.weights)),
        source=torch.from_numpy(source),
    )
    if request.wrap and "dphi" in columns:
        wrap_azimuth(jets.column("dphi").numpy())
    bad, left_out = _bad_jets(file, jets, rows, request.bad_jets)
    good = jets.select(torch.from_numpy(np.flatnonzero(~bad))) if bad.any() else jets
    return good, skipped + left_out


def read_jet_columns(file: JetFile, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Jet columns of entries, `[jet]` each, of every jet, however bad.

    Raises:
        DataError: the file cannot be read.
    """
    rows = of.unpad(file.schema, _all_rows(file, file.schema.needed((), names, ()), start, stop))
    return {name: _jet_column(file, rows, name) for name in names}


def _jet_column(file: JetFile, rows: Rows, name: str) -> Array:
    """A jet column in the type that all files of the run share."""
    return of.jet_column(file.schema, rows, name).astype(file.types.of[name], copy=False)


def check_exact(file: JetFile, name: str) -> None:
    """Refuse whole numbers that are not exact as the floating point numbers in which they are given.

    Raises:
        DataError: one is beyond 2^53.
    """
    for start in range(0, file.entries, _STEP):
        values = read_jet_columns(file, [name], start, min(start + _STEP, file.entries))[name]
        if (wrong := np.flatnonzero(np.abs(values) >= 2**53)).size:
            raise DataError(
                "whole numbers of a column are too large for floating point, which other files or missing values need",
                where=f"{file.source}, column {name}",
                found=f"{values[wrong[0]]:.0f} in about row {start + wrong[0]}",
                allowed=["numbers below 2^53"],
            )


def read_rows(
    file: JetFile, branches: Sequence[str], start: int, stop: int, without: Entries = NO_ENTRIES
) -> tuple[Rows, Counter[str]]:
    """Branches of entries, jet by jet, without the places and jets that the format's cuts leave out.

    Raises:
        DataError: branches of differing lengths, a file that cannot be read.
    """
    rows = of.unpad(file.schema, _all_rows(file, branches, start, stop, without))
    return of.chosen_jets(file.schema, rows)


def _all_rows(file: JetFile, branches: Sequence[str], start: int, stop: int, without: Entries = NO_ENTRIES) -> Rows:
    """Here the entries become jets."""

    def read(names: Sequence[str], first: int, last: int) -> dict[str, Any]:
        return file.reader.read(file.source.path, file.tree, names, first, last)

    if file.events is None:
        return one_jet_an_entry(*chosen(read(branches, start, stop), start, stop, without), file.place)
    return event_rows(read, file.events, branches, start, stop, file.place, without)


def _weights(file: JetFile, rows: Rows, name: str) -> Array:
    """The weights of the jets, float32 `[jet]`.

    Raises:
        BadJetError: one is negative, whatever is done with bad jets: leaving them out would change the sum of the rest.
    """
    weights = of.jet_column(file.schema, rows, name).astype(np.float32)
    negative = np.flatnonzero(weights < 0)
    if len(negative):
        raise BadJetError(
            "a jet has a negative weight, with which a loss has no smallest value and a ROC curve is not defined",
            where=f"{rows.where(negative[0])}, column {name}",
            found=f"{weights[negative[0]]:g}; {rows.some(negative)}",
            hint=f"data.weights=weight, with `jets: {{weight: {{formula: abs({quoted(name)})}}}}` in a schema",
        )
    return weights


def _bad_jets(file: JetFile, jets: Jets, rows: Rows, policy: str) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """Which jets cannot be used, and how many for each reason (the first that holds); an error unless skipping."""
    bad = np.zeros(len(jets), dtype=np.bool_)
    skipped: Counter[str] = Counter()
    jet_of = None
    for reason, where in _findings(file, jets, rows):
        if not len(where):
            continue
        if reason in _OF_JETS:
            found = where
        else:
            jet_of = jets.jet_of_particle.numpy() if jet_of is None else jet_of
            found = np.unique(jet_of[where])
        if policy == "error":
            raise BadJetError(
                f"a jet cannot be used: {reason}",
                where=rows.where(found[0]),
                found=(_label_of(file, rows, found[0]) if reason == _UNCLASSED else "") + rows.some(found),
                allowed=file.label_names if reason == _UNCLASSED else None,
                hint=padding_hint(file)
                if reason == WEAK and _is_padded(jets)
                else "--set data.bad_jets=skip leaves such jets out and counts them" + _OTHERWISE.get(reason, ""),
            )
        new = found[~bad[found]]
        if len(new):
            skipped[reason] += len(new)
        bad[new] = True
    return bad, skipped


def padding_hint(file: JetFile) -> str:
    """Return how to read lists that are filled up with zeros."""
    origin, form = file.schema.particles["pt"], file.schema
    base = f"`extends: {form.name}` and " if form in known_schemas() else ""
    pt = origin.formula or quoted(origin.branch or "")
    return f"lists padded with zeros are read with {base}`particle_cut: {pt} > 0` in a schema: --schema FILE"


def _is_padded(jets: Jets) -> bool:
    """Check whether most jets end in a particle of pt zero."""
    last = (jets.offsets[1:] - 1)[jets.lengths > 0]
    return bool((jets.column("pt")[last] == 0).float().mean() > 0.5)


def _label_of(file: JetFile, rows: Rows, jet: int) -> str:
    return of.label_values(file.label_formulas, file.label_branches, rows, jet) + "; "


def _findings(file: JetFile, jets: Jets, rows: Rows) -> Iterator[tuple[str, Array]]:
    """Find unusable jets: reasons, each with indices of jets (`_OF_JETS`) or of particles; branches before columns."""
    nothing = np.empty(0, dtype=np.int64)
    yield _LOST, nothing if rows.lost is None else np.flatnonzero(rows.lost)
    yield _EMPTY, np.flatnonzero(jets.lengths.numpy() == 0)
    yield _WEIGHTLESS, nothing if jets.weights is None else _not_finite(jets.weights.numpy())
    yield _UNCLASSED, nothing if jets.labels is None else np.flatnonzero(jets.labels.numpy() == of.NO_CLASS)
    for name, content in rows.particle.items():
        yield f"{name} is not finite", _not_finite(content)
    if "kind" in jets.columns and file.schema.particles["kind"].flags is None:
        kind = jets.column("kind").numpy()
        yield _NO_KIND, np.flatnonzero((kind < 0) | (kind >= len(KINDS)) | (kind % 1 != 0))
    yield from _of_columns(jets)


def _of_columns(jets: Jets) -> Iterator[tuple[str, Array]]:
    """Find values that no particle has, as indices of particles: also those computed from finite branches."""
    particles = jets.particles.numpy()
    if not particles.size:
        return
    if not (particles.max() <= _LARGEST and particles.min() >= -_LARGEST):  # neither holds for NaN
        for name in jets.columns:
            values = jets.column(name).numpy()
            bounded = name not in ("kind", "dphi")  # an index, an angle
            yield f"{name} is not finite", np.flatnonzero(np.isnan(values) if bounded else ~np.isfinite(values))
            if bounded:  # an infinite one is one that overflowed
                yield _BEYOND.format(name=name), np.flatnonzero(np.abs(values) > _LARGEST)
    if "pt" in jets.columns:
        pt = jets.column("pt").numpy()
        if not pt.min() > 0:
            yield WEAK, np.flatnonzero(pt == 0)
            yield "pt is negative", np.flatnonzero(pt < 0)
        deta = np.abs(jets.column("deta").numpy()) if "deta" in jets.columns else np.zeros_like(pt)
        with np.errstate(all="ignore"):
            if not float(pt.max()) * np.cosh(float(deta.max())) <= _LARGEST:
                momentum = pt * np.cosh(deta.astype(np.float64))
                yield _MOMENTUM, np.flatnonzero(momentum > _LARGEST)


def _not_finite(content: Array) -> Array:
    """Indices of values that are NaN or infinite."""
    # A sum is finite unless a value is not (or it overflows, and then the second look finds nothing).
    with np.errstate(all="ignore"):
        suspicious = content.dtype.kind == "f" and not np.isfinite(content.sum())
    return np.flatnonzero(~np.isfinite(content)) if suspicious else np.empty(0, dtype=np.int64)
