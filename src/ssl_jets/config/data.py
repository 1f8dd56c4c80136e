"""Settings of the files (`data.*`)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ssl_jets.config.base import Settings


class FlattenSettings(Settings):
    """One spectrum for all classes (`data.flatten.*`)."""

    by: tuple[str, ...] = Field(min_length=1)
    """Jet columns, such as [jet_pt, jet_eta]."""
    bins: tuple[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], ...]
    """Rising edges of the bins of each column, such as [[500, 600, 800, 1000], [-2, 0, 2]]."""
    to: str = "uniform"
    """Target: `uniform`, or the spectrum of a class or of a file."""
    how: Literal["weights", "resample"] = "weights"
    """`weights`: factors in the losses of labels. `resample`: jets are drawn more or less often, for every method."""
    classes: Literal["balanced", "as-is"] = "balanced"
    """Number of jets of each class: the same for all, or as in the files."""

    @model_validator(mode="after")
    def _edges_rise(self) -> FlattenSettings:
        rising = all(len(edges) > 1 and all(a < b for a, b in pairwise(edges)) for edges in self.bins)
        if len(self.bins) != len(self.by) or not rising:
            raise ValueError("each column needs a list of two or more rising edges")
        return self


class DataSettings(Settings):
    """How files become batches (`data.*`)."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, `@lists` or `file.root:tree` to train on; by default the bundled sample."""
    validation: tuple[str, ...] = ()
    """Files to validate on; by default a part of `sources` is held out."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share held out of training: whole files of a class with several, otherwise blocks of entries of each file."""
    folds: int | None = Field(default=None, ge=2)
    """Number of folds of a cross-validation: each file is cut into blocks, which are dealt to the folds in turn."""
    fold: int | None = Field(default=None, ge=0)
    """Fold that is held out, from 0; by default `finetune` trains a model for each fold."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of that split. Independent of `train.seed`, so that runs with other seeds hold out the same jets."""
    buffer: int = Field(default=100_000, ge=1)
    """Jets shuffled together; about 2 kB of memory each, and two buffers are held (one in use, one being filled)."""
    workers: int = Field(default=1, ge=1)
    """Background threads that read files ahead of the training."""
    cache: str | None = None
    """Folder that keeps decoded jets (float32, about 2 kB a jet), which later epochs, resumed runs and other jobs read
    instead of the files. The batches stay the same; see docs/data.md."""
    cache_gb: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    """Largest size of that folder [GB]; jets beyond it are read from the files."""
    bad_jets: Literal["error", "skip"] = "error"
    """Policy for a jet without particles, or with NaN, infinite or unphysical values: stop, or skip and count it."""
    bad_files: Literal["error", "skip"] = "error"
    """Policy for a file that cannot be read, in whole or in part: stop, or skip and count its jets."""
    proportions: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default={})
    """Share of each data set in the training, by its name as in `sources`; {A: 0.7, B: 0.3}. By default all
    jets of all files are drawn equally often. Without `sources`, these are the files."""
    format: str | None = None
    """Schema of the files: a YAML file (`--schema`) or the name of a known format; by default detected."""
    labels: tuple[str, ...] | None = None
    """Label columns that make up the classes, in order; by default the columns that the format declares."""
    where: str | None = None
    """Selection of jets by a formula of jet columns, such as `jet_pt > 300 && abs(jet_eta) < 2`; by default all."""
    weights: str | None = None
    """Jet column with the weight of each jet in the losses of labels and the metrics of `evaluate`; by default all jets
    count the same. Weights are finite and not negative."""
    flatten: FlattenSettings | None = None
    """One spectrum for all classes: {by: [jet_pt], bins: [[500, 600, 800, 1000]], how: resample}; see docs/data.md."""
    jets: str | None = None
    """Jet collection of files of events; by default the first of the format, such as the AK8 jets of CMS."""
    external: bool = False
    """Open other files that an HDF5 file takes datasets from (external links, virtual datasets, external storage)."""
    labelled: float | None = Field(default=None, gt=0)
    """Labelled jets to train on: a share (at most 1.0) or a number, stratified and nested; all by default. With
    `unlabelled_ratio` the others are used as unlabelled ones."""
    labelled_seed: int = Field(default=0, ge=0)
    """Seed of that subset."""
    pairs: dict[str, str] = Field(default={})
    """Second view of each jet, for methods that compare two views: {FILE: OTHER}. Row i of both is the same jet of the
    same event. Names as in `sources`; patterns pair the files of both in sorted order. Other jets get
    two augmentations."""
    unlabelled: tuple[str, ...] = ()
    """Files whose jets are used without labels; by default the jets of `sources`."""
    unlabelled_ratio: float = Field(default=0.0, ge=0)
    """Unlabelled jets for each labelled one in every batch."""

    @property
    def named(self) -> tuple[str, ...]:
        """Names of the files: `sources`, or without them the data sets of `proportions`."""
        return self.sources or tuple(self.proportions)

    @model_validator(mode="after")
    def _fold_of_folds(self) -> DataSettings:
        if self.fold is not None and self.folds is None:
            raise ValueError(f"data.fold={self.fold} is one of several folds: set data.folds, too")
        return self
