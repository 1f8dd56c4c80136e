"""A protocol that is stopped goes on where it was, and what no longer holds is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_jets.errors import DataError
from ssl_jets.evaluation.result_base import Result
from ssl_jets.protocols.cache import ResultCache


class Accuracy(Result):
    """A result with one number."""

    accuracy: float


def protocol(folder: Path, made: list[str], logged: list[str], model: str = "a", stop_at: str = "") -> list[float]:
    pieces = ResultCache(folder, {"model": model}, 3, logged.append)

    def make(name: str) -> Accuracy:
        if name == stop_at:
            raise KeyboardInterrupt
        made.append(name)
        return Accuracy(accuracy=len(name) / 7)

    results = [pieces.get(name, {"seed": 1}, lambda name=name: make(name), Accuracy) for name in ("x", "xy", "xyz")]
    return [result.accuracy for result in results]


def test_a_stopped_protocol_makes_only_what_is_missing(tmp_path: Path) -> None:
    made: list[str] = []
    logged: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        protocol(tmp_path, made, logged, stop_at="xyz")
    assert made == ["x", "xy"]
    assert protocol(tmp_path, made, logged) == [1 / 7, 2 / 7, 3 / 7]
    assert made == ["x", "xy", "xyz"]
    assert logged[-1] == "3 of 3: xyz"
    assert protocol(tmp_path, made, logged) == [1 / 7, 2 / 7, 3 / 7]
    assert len(made) == 3


def test_what_was_made_from_something_else_is_made_again(tmp_path: Path) -> None:
    made: list[str] = []
    protocol(tmp_path, made, [])
    protocol(tmp_path, made, [], model="b")
    assert made == ["x", "xy", "xyz"] * 2
    pieces = ResultCache(tmp_path, {"model": "b"}, 1, lambda _: None)
    zero = Accuracy(accuracy=0.0)
    assert pieces.get("x", {"seed": 2}, lambda: zero, Accuracy) == zero


def test_a_file_that_is_no_piece_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1, 2")
    with pytest.raises(DataError, match="remove it"):
        protocol(tmp_path, [], [])
