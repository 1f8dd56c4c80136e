"""The sentence at the top of the page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_jets.report import page

_READERS = {"linear": "a linear probe", "kNN": "a kNN probe"}


def headline(metrics: Mapping[str, Any]) -> str:
    """The best reader of z against the strongest baseline in a sentence; "" where there are not both."""
    found = metrics.get("headline")
    if not found or found["difference"]["low95"] is None:
        return ""
    (ours, base), gap = (found[side] for side in ("z", "baseline")), found["difference"]
    left, right = (f"{_READERS.get(side['reader'], side['reader'])} on {side['of']}" for side in (ours, base))
    sign = "above" if gap["low95"] > 0 else "below" if gap["high95"] < 0 else "not told apart from"
    first = f"{left[0].upper()}{left[1:]} ({ours['fit_jets']:,} labelled jets) is {sign} {right} "
    numbers = " against ".join(page.number(side["accuracy"]["value"], 3) for side in (ours, base))
    return page.lead(
        f"{first}({base['fit_jets']:,} labelled jets), the strongest baseline: accuracy {numbers} on the same "
        f"{found['test_jets']:,} jets, difference {gap['value']:+.3f} (68 %: {gap['low']:+.3f} to {gap['high']:+.3f}, "
        f"95 %: {gap['low95']:+.3f} to {gap['high95']:+.3f})."
    )
