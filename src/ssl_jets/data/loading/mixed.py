"""Labelled and unlabelled jets in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssl_jets.data.loading.base import FileStream, JoinedStreams
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate


class MixedStream(JoinedStreams):
    """Endless batches of two streams, labelled jets first, with the interface of `TrainStream`.

    Each of the two has its own epochs.
    """

    def __init__(self, labelled: FileStream, unlabelled: FileStream) -> None:
        super().__init__([labelled, unlabelled])
        self.labelled, self.unlabelled = labelled, unlabelled

    def __next__(self) -> Jets:
        """Return the next batch."""
        return together(next(self.labelled), next(self.unlabelled))

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler states of both streams."""
        return {"labelled": self.labelled.state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resume from the states of all ranks of a run, which may have had another number of ranks."""
        self.labelled.resume([state["labelled"] for state in states])
        self.unlabelled.resume([state["unlabelled"] for state in states])


def together(labelled: Jets, unlabelled: Jets) -> Jets:
    """Return one batch of both, labelled jets first.

    Labels and jet columns of the unlabelled jets are ignored: their label becomes -1, their columns NaN.
    """
    # 2 labelled and 3 unlabelled jets -> labels [4, 0, -1, -1, -1], jet_sdmass [81.2, 0.4, nan, nan, nan].
    nothing = {name: _missing(values, len(unlabelled)) for name, values in labelled.jet.items()}
    labels = torch.full((len(unlabelled),), -1, dtype=torch.int64)
    weights = None if labelled.weights is None else torch.ones(len(unlabelled))
    return concatenate([labelled, replace(unlabelled, jet=nothing, labels=labels, weights=weights)])


def shares(batch_size: int, ratio: float) -> tuple[int, int]:
    """Return the numbers of labelled and unlabelled jets of a batch, with `ratio` unlabelled jets per labelled one.

    Example:
        >>> shares(128, 3)
        (32, 96)

    Raises:
        UsageError: one of them would have none.
    """
    labelled = round(batch_size / (1 + ratio))
    if not 0 < labelled < batch_size:
        raise UsageError(
            "a batch cannot hold labelled and unlabelled jets in this ratio",
            where="data.unlabelled_ratio",
            found=f"{ratio:g}, with {batch_size} jets in a batch",
            hint="a larger --batch-size",
        )
    return labelled, batch_size - labelled


def _missing(like: Tensor, jets: int) -> Tensor:
    """Return NaN for each jet, as float64 if the column is of integers, which have no NaN."""
    return torch.full((jets,), torch.nan, dtype=like.dtype if like.is_floating_point() else torch.float64)
