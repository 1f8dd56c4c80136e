"""A signal in the middle of a training."""

from __future__ import annotations

import signal

import pytest

from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.jets import Jets


def raise_at(monkeypatch: pytest.MonkeyPatch, batch: int, number: int) -> None:
    """Send this process a signal while it takes the given batch."""
    original, taken = TrainStream.__next__, []

    def taking(self: TrainStream) -> Jets:
        taken.append(1)
        if len(taken) == batch:
            signal.raise_signal(number)
        return original(self)

    monkeypatch.setattr(TrainStream, "__next__", taking)
