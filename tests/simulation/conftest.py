"""Simulated jets in small parts, which several tests read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ssl_jets.simulation import generator
from ssl_jets.simulation import request as request_module
from ssl_jets.simulation.request import SimulationRequest, request_of
from ssl_jets.simulation.run import SimulateSummary, simulate

JETS, PART_JETS = 25, 10
"""Jets of the shared file, and of its parts but for the last."""

BATCH = generator.BATCH
"""Events of a batch in a process of its own, where nothing is replaced."""


class Simulated(NamedTuple):
    """A request, and its result."""

    request: SimulationRequest
    summary: SimulateSummary


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_module, "PART_JETS", PART_JETS)
        patch.setattr(generator, "BATCH", 10)
        yield


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    pytest.importorskip("pythia8mc")
    request = request_of(process="hbb", jets=JETS, seed=3)
    out: Path = tmp_path_factory.mktemp("simulated") / "hbb.root"
    return Simulated(request, simulate(request, out))
