"""Truth matching on hand-made decays."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_jets.simulation.events import Events
from ssl_jets.simulation.truth import DecayMatcher, Match

Row = tuple[int, float, int, int]
"""PDG number, phi, first and last daughter (-1 without); eta is 0."""


def event(*rows: Row) -> Events:
    pid, phi, first, last = (np.array(column) for column in zip(*rows))
    mothers = np.zeros((len(rows), 2), dtype=np.int64)
    for index, (begin, end) in enumerate(zip(first, last)):
        mothers[begin : end + 1] = index if begin >= 0 else mothers[begin : end + 1]
    momentum = np.stack([100 * np.cos(phi), 100 * np.sin(phi), 0 * phi, np.full(len(phi), 100.0)], axis=1)
    return Events(
        offsets=np.array([0, len(rows)]),
        pid=pid,
        final=first < 0,
        mothers=mothers,
        daughters=np.stack([first, last], axis=1),
        momentum=momentum,
        vertex=np.zeros((len(rows), 3)),
    )


def match(*rows: Row) -> tuple[Match, int]:
    return DecayMatcher(event(*rows))(0, 0.0, 0.0)


@pytest.mark.parametrize(("child", "expected"), [(5, Match.H_BB), (4, Match.H_CC), (21, Match.H_GG), (3, Match.H_QQ)])
def test_a_higgs_boson_matches_by_its_partons_after_its_copies(child: int, expected: Match) -> None:
    other = child if child == 21 else -child
    assert match((25, 0, 1, 1), (25, 0, 2, 3), (child, 0.3, -1, -1), (other, -0.7, -1, -1)) == (expected, 1)
    assert match((25, 0, 1, 1), (25, 0, 2, 3), (child, 0.3, -1, -1), (other, -0.9, -1, -1)) == (Match.QCD, -1)


def test_a_higgs_boson_with_two_w_bosons_needs_all_of_them() -> None:
    bosons: list[Row] = [(25, 0, 1, 2), (24, 0.1, 3, 4), (-24, -0.1, 5, 6), (2, 0.2, -1, -1), (-1, 0, -1, -1)]
    assert match(*bosons, (1, -0.2, -1, -1), (-2, 0.3, -1, -1)) == (Match.H_4Q, 0)
    assert match(*bosons, (11, -0.2, -1, -1), (-12, 3.0, -1, -1)) == (Match.H_2Q1L, 0)
    assert match(*bosons, (1, -0.2, -1, -1), (-2, 0.9, -1, -1)) == (Match.QCD, -1)  # not the other W alone


def test_a_top_quark_matches_whole_in_part_or_by_its_w_boson() -> None:
    def top(bottom: float, quark: float, other: float) -> tuple[Match, int]:
        rows: list[Row] = [(6, 0, 1, 2), (24, 0, 3, 4), (5, bottom, -1, -1), (4, quark, -1, -1), (-3, other, -1, -1)]
        return match(*rows)

    assert top(0.1, 0.2, 0.3) == (Match.TOP_BCQ, 0)
    assert top(0.1, 0.2, 0.9) == (Match.TOP_BC, 0)
    assert top(0.1, 0.9, 0.3) == (Match.TOP_BQ, 0)
    assert top(0.9, 0.2, 0.3) == (Match.W_CQ, 1)
    assert top(0.1, 0.9, 0.9) == (Match.QCD, -1)


def test_a_leptonic_top_quark_needs_bottom_and_lepton() -> None:
    rows: list[Row] = [(-6, 0, 1, 2), (-24, 0, 3, 4), (-5, 0.1, -1, -1), (13, 0.2, 5, 5), (-14, 2.0, -1, -1)]
    assert match(*rows, (13, 0.5, -1, -1)) == (Match.TOP_BMN, 0)
    assert match(*rows, (13, 0.9, -1, -1)) == (Match.QCD, -1)  # the muon after its radiation counts


@pytest.mark.parametrize(("quark", "expected"), [(5, Match.Z_BB), (4, Match.Z_CC), (1, Match.Z_QQ)])
def test_a_z_boson_matches_by_flavor(quark: int, expected: Match) -> None:
    assert match((23, 0, 1, 2), (quark, 0.1, -1, -1), (-quark, 0.5, -1, -1)) == (expected, 0)
