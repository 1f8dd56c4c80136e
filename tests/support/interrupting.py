"""A signal in the middle of a training."""

from __future__ import annotations

import signal

import pytest

from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.jets import Jets


def raise_at(
    monkeypatch: pytest.MonkeyPatch, batch: int, number: int, of: type[TrainStream | MemoryStream] = TrainStream
) -> None:
    """Send this process a signal while it takes the given batch."""
    original, taken = of.__next__, []

    def taking(self: TrainStream | MemoryStream) -> Jets:
        taken.append(1)
        if len(taken) == batch:
            signal.raise_signal(number)
        return original(self)

    monkeypatch.setattr(of, "__next__", taking)
