"""Labelled and unlabelled jets in one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.proportions import ProportionStream
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate

Component = TrainStream | MemoryStream | ProportionStream


class MixedStream:
    """Endless batches of jets of two streams, the labelled ones first; the interface of `TrainStream`.

    Each of the two goes round at its own pace.

    Args:
        labelled: stream of jets with labels, perhaps with jet columns.
        unlabelled: stream of the others.
    """

    def __init__(self, labelled: Component, unlabelled: Component) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    @property
    def jets_per_epoch(self) -> int:
        """Jets of both together."""
        return self.labelled.jets_per_epoch + self.unlabelled.jets_per_epoch

    @property
    def wait_seconds(self) -> float:
        """Time spent waiting for files."""
        return self.labelled.wait_seconds + self.unlabelled.wait_seconds

    @property
    def skipped(self) -> Counter[str]:
        """Jets left out so far, by reason."""
        return self.labelled.skipped + self.unlabelled.skipped

    def __next__(self) -> Jets:
        """The next batch."""
        return together(next(self.labelled), next(self.unlabelled))

    def state_dict(self) -> dict[str, Any]:
        """Where both streams stand."""
        return {"labelled": self.labelled.state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken."""
        self.labelled.load_state_dict(state["labelled"])
        self.unlabelled.load_state_dict(state["unlabelled"])

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the states of all ranks of a run, of which there may have been another number."""
        self.labelled.resume([state["labelled"] for state in states])
        self.unlabelled.resume([state["unlabelled"] for state in states])

    def close(self) -> None:
        """End the threads of both."""
        self.labelled.close()
        self.unlabelled.close()


def together(labelled: Jets, unlabelled: Jets) -> Jets:
    """One batch of both, the labelled ones first.

    What the unlabelled jets carry of labels and jet columns is not looked at: their label is -1, their columns are NaN.
    """
    nothing = {name: _missing(values, len(unlabelled)) for name, values in labelled.jet.items()}
    labels = torch.full((len(unlabelled),), -1, dtype=torch.int64)
    weights = None if labelled.weights is None else torch.ones(len(unlabelled))
    return concatenate([labelled, replace(unlabelled, jet=nothing, labels=labels, weights=weights)])


def shares(batch_size: int, ratio: float) -> tuple[int, int]:
    """Labelled and unlabelled jets of a batch, with `ratio` unlabelled ones for each labelled one.

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
    """NaN for each jet; of a column of whole numbers, which have none, as float64."""
    return torch.full((jets,), torch.nan, dtype=like.dtype if like.is_floating_point() else torch.float64)
