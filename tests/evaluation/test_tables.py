"""Tables of results: whole in a pipe, within the width of a terminal."""

from __future__ import annotations

import re
import sys

import pytest

from ssl_jets.evaluation.tables import plain_table

HEAD = ("reader", "of", "accuracy (68 %)")
ROWS = [("boosted trees", "z [of] random weights " * 8, "0.5170  0.5040 to 0.5340"), ("kNN", "z", "")]


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
