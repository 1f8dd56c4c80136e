"""Sentence at the top of the page of an evaluation."""

from __future__ import annotations

from ssl_jets.evaluation.headline import Headline, HeadlineSide
from ssl_jets.report import page

_READERS = {"linear": "a linear probe", "kNN": "a kNN probe"}


def headline_sentence(result: Headline | None) -> str:
    """Return the sentence that compares the best reader of z with the strongest baseline; "" without both."""
    if result is None:
        return ""
    gap = result.difference
    if gap.value is None or gap.low is None or gap.high is None or gap.low95 is None or gap.high95 is None:
        return ""
    own, base = result.z, result.baseline
    sign = "above" if gap.low95 > 0 else "below" if gap.high95 < 0 else "not told apart from"
    name = _name(own)
    numbers = f"{page.number(own.accuracy.value, 3)} against {page.number(base.accuracy.value, 3)}"
    return page.lead(
        f"{name[0].upper()}{name[1:]} ({own.fit_jets:,} labelled jets) is {sign} {_name(base)} "
        f"({base.fit_jets:,} labelled jets), the strongest baseline: accuracy {numbers} on the same "
        f"{result.test_jets:,} jets, difference {gap.value:+.3f} (68 %: {gap.low:+.3f} to {gap.high:+.3f}, "
        f"95 %: {gap.low95:+.3f} to {gap.high95:+.3f})."
    )


def _name(side: HeadlineSide) -> str:
    return f"{_READERS.get(side.reader, side.reader)} on {side.of}"
