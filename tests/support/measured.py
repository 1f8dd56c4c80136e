"""Every measured number of a result, wherever it stands in the tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ssl_jets.evaluation.result_base import plain

Interval = tuple[str, float, float, float]
"""Where it stands, lower end, value, upper end; an open end is infinite."""


def intervals_in(tree: Any, where: str = "") -> Iterator[Interval]:
    """Find all values of a result that have an interval, at 68 % and at 95 %, points with a band, means over seeds."""
    if isinstance(tree, dict):
        if {"value", "low", "high"} <= set(tree):
            yield from _of_estimate(tree, where)
        elif {"signal_efficiency", "low", "high"} <= set(tree) and isinstance(tree["low"], list):
            for low, value, high in zip(tree["low"], tree["signal_efficiency"], tree["high"], strict=True):
                yield where, _open(low, -np.inf), value, _open(high, np.inf)
        elif "seeds" in tree and isinstance(tree["seeds"], list):
            for name in (name for name in tree if f"{name}_std" in tree):
                values = [one[name] for one in tree["seeds"]]
                yield f"{where}.{name}", min(values) - 1e-12, tree[name], max(values) + 1e-12
        for name, below in tree.items():
            yield from intervals_in(below, f"{where}.{name}")
    elif isinstance(tree, list):
        for number, below in enumerate(tree):
            yield from intervals_in(below, f"{where}[{number}]")


def _of_estimate(found: dict[str, Any], where: str) -> Iterator[Interval]:
    if found["value"] is None:
        assert {found[end] for end in ("low", "high", "low95", "high95")} == {None}, f"{where}: {found}"
        return
    ends = [_open(found[end], sign * np.inf) for end, sign in (("low95", -1), ("low", -1), ("high", 1), ("high95", 1))]
    assert ends == sorted(ends), f"{where}: the 68 % interval is not inside that of 95 %: {found}"
    yield f"{where} 95 %", ends[0], found["value"], ends[3]
    yield f"{where} 68 %", ends[1], found["value"], ends[2]


def _open(end: float | None, instead: float) -> float:
    return instead if end is None else end


def check_intervals(result: Any) -> int:
    """Assert that every value lies in its interval, and return how many there are."""
    found = list(intervals_in(plain(result)))
    outside = [entry for entry in found if not entry[1] <= entry[2] <= entry[3]]
    assert not outside, outside[:10]
    return len(found)
