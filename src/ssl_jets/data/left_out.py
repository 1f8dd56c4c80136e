"""What is said of files and jets that were left out, the same by every command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def of_files(left_out: Mapping[str, str]) -> list[str]:
    """A line for each file that could not be opened, from its reason."""
    return [f"file left out: {name}: {reason}" for name, reason in left_out.items()]


def of_both(files: Mapping[str, str], jets: Mapping[str, int]) -> list[str]:
    """The lines about files and about jets; none where nothing was left out."""
    return [*of_files(files), *([of_jets(jets)] if jets else [])]


def of_jets(left_out: Mapping[str, int]) -> str:
    """One line about jets that could not be used, from their number for each reason; the most frequent first."""
    return "jets left out: " + "; ".join(f"{jets:,}: {why}" for why, jets in Counter(left_out).most_common())
