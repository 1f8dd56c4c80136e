"""Damaged files of every layout give jets or one message: no other exception, no hang, no crash.

A longer run: `benchmarks/fuzz_readers.py`, whose pieces these tests use.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import awkward as ak
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_jets.data.sources import sample_sources
from support.format_files import WRITERS, sample_branches
from support.paths import FILES, REAL, ROOT

STORED = (*(REAL / name for name in ("pfnano.root", "pfnano_rntuple.root", "delphes_eflow.root")),)


def _fuzz() -> ModuleType:
    path = ROOT / "benchmarks" / "fuzz_readers.py"
    spec = importlib.util.spec_from_file_location("fuzz_readers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_readers"] = module
    spec.loader.exec_module(module)
    return module


fuzz_readers = _fuzz()


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    return sample_branches(sample_sources()[0].path, 20)


def small_file(name: str, jets: ak.Array, folder: Path) -> Path:
    stored = {path.name: path for path in (*STORED, FILES / "top_table_zlib.h5")}
    if name in stored:
        return stored[name]
    file, write = WRITERS[name]
    return write(jets, folder / file)


NAMES = (*WRITERS, *(path.name for path in STORED), "top_table_zlib.h5")


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_gives_valid_jets_or_one_message(name: str, jets: ak.Array, tmp_path: Path) -> None:
    outcomes = fuzz_readers.fuzz(small_file(name, jets, tmp_path), seed=7, count=5)
    assert sum(outcomes.values()) == 5
    assert not {bad: outcomes[bad] for bad in fuzz_readers.BAD if outcomes[bad]}


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_and_flip_of_an_npz_file_is_jets_or_one_message(
    data: st.DataObject, jets: ak.Array, tmp_path: Path
) -> None:
    path = small_file("energyflow", jets, tmp_path)
    expected, content = fuzz_readers.read(path), bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1), label="flipped byte")
    content[at] ^= data.draw(st.integers(1, 255), label="by")
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(content[: data.draw(st.integers(at + 1, len(content)), label="cut")])
    assert fuzz_readers.outcome(damaged, expected) not in fuzz_readers.BAD


def test_an_escaping_exception_and_values_that_are_not_finite_are_found(
    jets: ak.Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_file("energyflow", jets, tmp_path)
    expected = fuzz_readers.read(path)
    assert fuzz_readers.outcome(path, expected) == "same"
    spoiled = fuzz_readers.read(path)
    spoiled.particles[0, 0] = torch.nan
    monkeypatch.setattr(fuzz_readers, "read", lambda path: spoiled)
    assert fuzz_readers.outcome(path, expected) == "invalid"
    monkeypatch.setattr(fuzz_readers, "read", lambda path: {}["absent"])
    assert fuzz_readers.outcome(path, expected) == "escaped"
