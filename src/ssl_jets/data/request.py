"""`Request`: which columns of each jet to read, and how to treat bad jets and files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from ssl_jets.config import DataSettings
from ssl_jets.data.loading.spectrum import Spectrum
from ssl_jets.errors import DataError

NOT_SELECTED = "not selected by where"
"""Reason of a jet that `Request.where` leaves out, in the counts of skipped jets."""


class CollectionRequest(NamedTuple):
    """Elements to read of a further collection: name, features in the order of the columns, most elements of a jet."""

    name: str
    features: tuple[str, ...]
    most: int


@dataclass(frozen=True)
class Request:
    """Columns to read of each jet, and the treatment of bad jets and files.

    Attributes:
        jet_columns: jet columns to read besides the particles.
        bad_jets: "error" stops at a bad jet, "skip" leaves it out and counts it (see `bad_jets.py`).
        bad_files: the same for entries that cannot be read, of a file that is corrupt, truncated or gone.
        columns: particle columns to read, in the order of `COLUMNS`, then features; None reads all columns, which must
            then be the same in all files, and no feature. A feature that a file lacks is missing for its particles.
        context: context of jets to read, into `Jets.context`; missing for the jets of a file that lacks it.
        particle_labels: labels of particles to read, into columns `truth:NAME`; missing in a file that lacks them.
        collections: further collections to read, into `Jets.collections`; a file that lacks one gives each of its jets
            one element with all values missing.
        weights: jet column that becomes `Jets.weights`; None for none.
        wrap: wrap dphi into [-pi, pi].
        rounded: round numbers that no column can hold.
        labels: read the labels; without them `Jets.labels` is -1.
        where: formula of jet columns that is true for the jets to read; the others are skipped and counted. None reads
            all.
        flatten: spectrum of the training jets; its factors become weights or numbers of copies (see `spectrum.py`).

    Example:
        >>> Request(jet_columns=("jet_pt",), weights="w").all_jet_columns
        ('jet_pt', 'w')
    """

    jet_columns: tuple[str, ...] = ()
    bad_jets: Literal["error", "skip"] = "error"
    bad_files: Literal["error", "skip"] = "error"
    columns: tuple[str, ...] | None = None
    context: tuple[str, ...] = ()
    particle_labels: tuple[str, ...] = ()
    weights: str | None = None
    wrap: bool = True
    rounded: bool = False
    labels: bool = True
    where: str | None = None
    flatten: Spectrum | None = None
    collections: tuple[CollectionRequest, ...] = ()

    @classmethod
    def of(
        cls,
        settings: DataSettings,
        jet_columns: tuple[str, ...] = (),
        columns: tuple[str, ...] | None = None,
        *,
        context: tuple[str, ...] = (),
        collections: tuple[CollectionRequest, ...] = (),
        weighted: bool = False,
    ) -> Request:
        """Build a request with the selection and the treatment of bad jets of the settings; weights if `weighted`."""
        weights, bad = settings.weights if weighted else None, (settings.bad_jets, settings.bad_files)
        read: Any = {"weights": weights, "where": settings.where, "collections": collections}
        return cls(jet_columns, *bad, columns, context, **read)

    def skips(self, error: DataError) -> bool:
        """Return whether what an error is about is left out and counted."""
        return error.skipped_by is not None and getattr(self, error.skipped_by) == "skip"

    @property
    def resampling(self) -> Spectrum | None:
        """Spectrum that repeats or drops jets; None without one."""
        return self.flatten if self.flatten is not None and self.flatten.resamples else None

    @property
    def weighting(self) -> Spectrum | None:
        """Spectrum that gives jets weights; None without one."""
        return self.flatten if self.resampling is None else None

    @property
    def inputs(self) -> Request:
        """The same request for the inputs of the encoder alone, without jet columns and weights."""
        return replace(self, jet_columns=(), weights=None, flatten=None)

    @property
    def second_view(self) -> Request:
        """The same request for the second view of jets: the first one decides on labels and selection."""
        return replace(self.inputs, where=None, labels=False)

    @property
    def all_jet_columns(self) -> tuple[str, ...]:
        """All jet columns to read, the weights included."""
        return self.jet_columns if self.weights is None else (*self.jet_columns, self.weights)


DEFAULT = Request()
"""All particle columns, no jet columns, and an error at a bad jet."""
