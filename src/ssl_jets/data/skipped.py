"""What is said of files and jets that were left out, the same by every command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ssl_jets.errors import DataError

if TYPE_CHECKING:  # a report imports this file, and none that reads
    from ssl_jets.data.files import EntryRange, JetFile

BAD_AMONG = " (bad ones among them)"
"""Behind a number of entries of which bad jets will still be left out."""


def skipped_files(left_out: Mapping[str, str]) -> list[str]:
    """A line for each file that could not be opened, from its reason."""
    return [f"file left out: {name}: {reason}" for name, reason in left_out.items()]


def skipped_lines(files: Mapping[str, str], jets: Mapping[str, int]) -> list[str]:
    """The lines about files and about jets; none where nothing was left out."""
    return [*skipped_files(files), *([skipped_jets(jets)] if jets else [])]


def skipped_jets(left_out: Mapping[str, int]) -> str:
    """One line about jets that could not be used, from their number for each reason; the most frequent first."""
    return "jets left out: " + "; ".join(f"{jets:,}: {why}" for why, jets in Counter(left_out).most_common())


def require_jets(jets: int, purpose: str, *, where: object = None, left_out: Mapping[str, int] | None = None) -> None:
    """Refuse a selection that leaves nothing, whatever emptied it: every command that selects jets calls this.

    Args:
        jets: how many are left.
        purpose: what they are for, after "there is no jet".
        where: the files or the setting that they were selected by.
        left_out: the others, by reason.

    Raises:
        DataError: there are none.
    """
    if not jets:
        reasons = skipped_jets(left_out) if left_out else "no jets"
        raise DataError(f"there is no jet {purpose}", where=where, found=reasons)


def named(files: Sequence[JetFile], parts: Sequence[EntryRange]) -> str:
    """Name the first files of `parts`, for messages."""
    return ", ".join(str(files[index].source) for index in sorted({part.file for part in parts})[:8])
