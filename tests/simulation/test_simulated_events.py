"""Events of Pythia as arrays, and events that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from ssl_jets.errors import SslJetsError
from ssl_jets.simulation import generator
from ssl_jets.simulation.events import from_pythia
from ssl_jets.simulation.generator import event_batches, hard_process, pythia_of
from ssl_jets.simulation.processes import PROCESSES

pytest.importorskip("pythia8mc")
SEED = np.random.SeedSequence(1)
SETTINGS = hard_process(PROCESSES["zqq"], PROCESSES["zqq"].channels[0])


@pytest.fixture(scope="module")
def records() -> Any:
    return pythia_of(SETTINGS, SEED).nextBatch(5, "none")


def test_final_particles_have_the_momentum_of_the_collision(records: Any) -> None:
    events = from_pythia(records)
    for index in range(3):
        total = np.bincount(events.event[events.final], events.momentum[events.final, index], len(events))
        np.testing.assert_allclose(total, 0, atol=1e-2)
    energy = np.bincount(events.event[events.final], events.momentum[events.final, 3], len(events))
    np.testing.assert_allclose(energy, 13000, rtol=1e-5)


def test_daughters_and_mothers_point_to_one_another_across_events(records: Any) -> None:
    events = from_pythia(records)
    decayed = np.flatnonzero((events.pid == 23) & (np.diff(events.daughters, axis=1)[:, 0] == 1))
    assert len(decayed) >= 10
    for boson in decayed.tolist():
        first, last = events.daughters[boson]
        assert events.mothers[first, 0] == events.mothers[last, 0] == boson
        np.testing.assert_allclose(events.momentum[[first, last]].sum(axis=0), events.momentum[boson], atol=1e-3)


def test_a_failed_event_is_left_out(records: Any) -> None:
    some, others = from_pythia(ak.mask(records, [True, False, True, True, True])), from_pythia(records[[0, 2, 3, 4]])
    for name, values in vars(others).items():
        np.testing.assert_array_equal(getattr(some, name), values)


def test_a_setting_that_pythia_refuses_is_named() -> None:
    with pytest.raises(SslJetsError, match="Tune:none = 1"):
        pythia_of(["Tune:none = 1"], SEED)


def test_two_readers_that_lose_step_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_HARD_EVENTS", 10)
    monkeypatch.setattr(generator, "BATCH", 5)
    read, calls = generator._next, []

    def one_event_lost(pythia: Any, events: int) -> Any:
        calls.append(pythia)
        if len(calls) == 4:
            pythia.next()
        return read(pythia, events)

    monkeypatch.setattr(generator, "_next", one_event_lost)
    # Both readers use the simple shower, which starts faster.
    monkeypatch.setitem(generator._SHOWERS, "vincia", generator._SHOWERS["simple"])
    with event_batches(PROCESSES["zqq"], (), ["simple", "vincia"], SEED) as batches:
        next(batches)
        with pytest.raises(SslJetsError, match="different hard processes"):
            next(batches)
