"""Tables of results: whole in a pipe, within the width of a terminal."""

from __future__ import annotations

import re
import sys

import pytest

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.tables import _rejection
from ssl_jets.runtime.terminal import folded, plain_table

HEAD = ("reader", "of", "accuracy (68 %)")
ROWS = [("boosted trees", "z [of] random weights " * 8, "0.5170  0.5040 to 0.5340"), ("kNN", "z", "")]


def test_a_lower_limit_of_a_rejection_stands_with_its_68_percent_bound() -> None:
    assert _rejection(Estimate(500.0, 438.8, None, 166.9, None, limit=True)) == ">= 500  > 439"


def test_a_table_in_a_pipe_has_a_line_a_row_and_two_blanks_between_columns() -> None:
    head, first, second = plain_table(HEAD, ROWS).splitlines()
    assert first == "boosted trees  " + ROWS[0][1].ljust(head.index("accuracy") - 15) + "0.5170  0.5040 to 0.5340"
    assert second == "kNN            z"


def test_a_table_in_a_terminal_fits_its_width_and_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    text = plain_table(HEAD, ROWS)
    assert "\x1b[1m" in text
    lines = re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(lines).count("random") == 8


def in_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")


def test_in_a_narrow_terminal_intervals_stand_below_their_numbers_and_names_stay_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_terminal(monkeypatch, 80)
    number = "0.5170  0.5040 to 0.5340"
    head = ("reader", "of", "fitted on", "accuracy (68 %)", "macro AUC (68 %)")
    lines = plain_table(head, [("boosted trees", "z of random weights", "8,980 jets", number, number)]).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("boosted trees  z of")
    assert lines[2].split()[-6:] == 2 * ["0.5040", "to", "0.5340"]


def test_a_terminal_that_is_too_narrow_for_intervals_loses_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    in_terminal(monkeypatch, 30)
    text = plain_table(HEAD, [("boosted trees", "z", "0.5170  0.5040 to 0.5340")])
    assert {"0.5170", "0.5040", "0.5340"} <= set(text.split())


def test_a_line_is_broken_between_words_in_a_terminal_and_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "z is better than observables computed from the particles: " * 3
    assert folded(line) == line
    in_terminal(monkeypatch, 40)
    assert max(map(len, folded(line).splitlines())) <= 40
    assert folded(line).split() == line.split()
    assert folded("mae   masked autoencoder on sets, and nothing else").splitlines()[1] == "      nothing else"
    assert folded("a\n\n  b") == "a\n\n  b"
    assert folded("One\ntwo\nthree.\n\n    L = a\n    b", prose=True) == "One two three.\n\n    L = a\n    b"
