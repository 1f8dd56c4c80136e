"""A look at a sample of a file counts and measures what is there, and suspects wrong units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.profile import Numbers, find_suspicions, profile
from ssl_jets.data.sources import Source

Write = Callable[..., Path]


def opened(path: Path) -> JetFile:
    return open_files([Source(str(path))])[0]


def test_numbers_count_zeros_and_what_is_not_finite() -> None:
    numbers = Numbers.of(np.array([0.0, 1.0, np.nan, 5.0, np.inf, 0.0]))
    assert (numbers.count, numbers.zeros, numbers.not_finite) == (6, 2, 2)
    assert (numbers.least, numbers.median, numbers.most) == (0, 0.5, 5)
    nothing = Numbers.of(np.full(3, np.nan))
    assert (nothing.not_finite, nothing.least, nothing.median, nothing.most) == (3, None, None, None)
    assert sum(Numbers.of(np.full(9, 2.0)).histogram) == 9
    assert sum(Numbers.of(np.arange(9) + 2**60).histogram) == 9
    largest = np.finfo(np.float64).max
    marks = Numbers.of(np.array([largest, -largest, largest, largest]))
    assert (marks.least, marks.most, sum(marks.histogram)) == (-largest, largest, 3)  # one is below percentile 0.5
    assert sum(Numbers.of(np.full(9, largest)).histogram) == 9


def test_a_bin_of_whole_numbers_has_as_many_of_them_as_any_other() -> None:
    def bins(values: list[float]) -> tuple[list[float], list[int]]:
        numbers = Numbers.of(np.array(values))
        return numbers.edges, numbers.histogram

    assert bins([-1, 0, 0, 1]) == ([-1.5, -0.5, 0.5, 1.5], [1, 2, 1])
    assert set(bins(list(range(48)))[1]) == {2}
    wide = Numbers.of(np.arange(1000))
    assert len(wide.histogram) <= 24
    assert set(np.diff(wide.edges)) == {42}
    assert len(bins([0.5, 1, 2, 3])[1]) == 24


def test_a_look_counts_jets_labels_and_bad_jets(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        lists = branches["part_deta"].to_list()
        lists[7][0] = float("nan")
        branches["part_deta"] = ak.values_astype(ak.Array(lists), np.float32)

    seen = profile(opened(write_jetclass(edit=spoil, label="Hbb")), 1000)
    assert (seen.jets, seen.left_out) == (49, {"part_deta is not finite": 1})
    assert seen.labels["Hbb"] == 49
    assert seen.columns["charge"].most == 1
    assert seen.particles.least >= 1


def test_a_file_without_a_jet_that_can_be_used_says_so_and_what_may_be_wrong(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["part_deta"] = branches["part_deta"] * np.float32(np.nan)

    seen = profile(opened(write_jetclass(edit=spoil)), 1000)
    assert seen.jets == 0
    assert any("none of the jets" in text for text in seen.suspicions)
    assert any("particle_cut" in text for text in seen.suspicions)


def test_a_sample_of_a_large_file_comes_from_its_beginning_and_its_end(write_jetclass: Write) -> None:
    number = np.arange(400, dtype=np.int32)
    seen = profile(opened(write_jetclass(entries=400, edit=lambda branches: branches.update(number=number))), 40)
    assert seen.jets == 40
    assert (seen.jet_columns["number"].least, seen.jet_columns["number"].most) == (0, 399)


@pytest.mark.parametrize(
    ("branches", "factor", "suspected"),
    [
        (("part_px", "part_py", "part_pz", "part_energy"), 1000, "MeV"),
        (("part_px", "part_py"), 50, "energy is below pt"),
        (("part_d0err",), 1e-3, "d0err"),
        (("part_deta",), 10, "relative to the axis"),
        ((), 1, None),
    ],
)
def test_wrong_units_are_suspected_and_right_ones_are_not(
    write_jetclass: Write, branches: tuple[str, ...], factor: float, suspected: str | None
) -> None:
    def scale(content: dict[str, Any]) -> None:
        for name in ("part_d0err", "part_dzerr"):
            content[name] = abs(content[name]) * np.float32(0.05)
        for name in branches:
            content[name] = content[name] * np.float32(factor)

    texts = profile(opened(write_jetclass(edit=scale)), 1000).suspicions
    assert any(suspected in text for text in texts) if suspected else texts == []


def test_a_first_look_names_the_file_that_is_suspicious_and_passes_over_what_cannot_be_used(
    write_jetclass: Write, tmp_path: Path
) -> None:
    def in_mev(content: dict[str, Any]) -> None:
        for name in ("part_px", "part_py", "part_pz", "part_energy"):
            content[name] = content[name] * np.float32(1000)

    def spoil(content: dict[str, Any]) -> None:
        content["part_deta"] = content["part_deta"] * np.float32("nan")

    files = [opened(write_jetclass("right.root")), opened(write_jetclass("spoilt.root", edit=spoil))]
    assert not any("MeV" in text for text in find_suspicions(files))
    files.append(opened(write_jetclass("mev.root", edit=in_mev)))
    assert [text for text in find_suspicions(files) if "MeV" in text and "mev.root" in text]


def test_values_outside_the_range_of_their_column_are_counted_by_jet_and_dphi_is_shown_wrapped(
    write_jetclass: Write,
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        for name, values in {
            "part_dphi": {3: 6.1, 8: -6.0},
            "part_deta": {4: 7.0},
            "part_d0err": {5: -1.0},
            "part_energy": {6: -2.0},
            "part_charge": {7: 0.5},
        }.items():
            lists = content[name].to_list()
            for entry, value in values.items():
                lists[entry][0] = value
            content[name] = ak.values_astype(ak.Array(lists), np.float32)

    file = opened(write_jetclass(edit=spoil))
    seen = profile(file, 1000)
    assert max(abs(seen.columns["dphi"].least), seen.columns["dphi"].most) <= np.float32(np.pi)
    for texts in (seen.suspicions, find_suspicions([file])):
        assert any("dphi is outside [-pi, pi] in 2 of the 50 jets" in text for text in texts)
        assert any("|deta| is above 5 in 1 of the 50 jets" in text for text in texts)
        assert any("d0err is negative in 1 of the 50 jets" in text for text in texts)
        assert any("energy is negative in 1 of the 50 jets" in text for text in texts)
        assert any("charge has other values" in text for text in texts)
