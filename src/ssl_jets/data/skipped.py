"""Messages about skipped files and jets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ssl_jets.errors import DataError

if TYPE_CHECKING:  # the report imports this file, and no reader
    from ssl_jets.data.files import EntryRange, JetFile

BAD_AMONG = " (bad ones among them)"
"""Follows a number of entries that still counts bad jets."""


_MOST_REASONS = 20
"""Reasons that a line names."""


def skipped_files(files: Mapping[str, str]) -> list[str]:
    """Return a line for each file that could not be opened, with the reason."""
    return [f"file left out: {name}: {reason}" for name, reason in files.items()]


def skipped_lines(files: Mapping[str, str], jets: Mapping[str, int]) -> list[str]:
    """Return the lines about skipped files and jets; none if nothing was skipped."""
    return [*skipped_files(files), *([skipped_jets(jets)] if jets else [])]


def skipped_jets(jets: Mapping[str, int]) -> str:
    """Return a line about skipped jets from their number for each reason, the most frequent first and not all of many.

    Example:
        >>> skipped_jets({"pt is zero": 2, "no particles": 30})
        'jets left out: 30: no particles; 2: pt is zero'
    """
    # Each corrupt file is a reason of its own, and a training repeats the line with every checkpoint.
    rows = Counter(jets).most_common()
    line = "jets left out: " + "; ".join(f"{number:,}: {reason}" for reason, number in rows[:_MOST_REASONS])
    others = rows[_MOST_REASONS:]
    return line + (f"; {sum(number for _, number in others):,}: {len(others):,} other reasons" if others else "")


def require_jets(jets: int, purpose: str, *, where: object = None, left_out: Mapping[str, int] | None = None) -> None:
    """Check that a selection has at least one jet; every command that selects jets calls this.

    Args:
        jets: number of jets in the selection.
        purpose: their purpose, which follows "there is no jet" in the message.
        where: the files or the setting that the jets were selected by.
        left_out: number of skipped jets by reason.

    Raises:
        DataError: there is no jet.
    """
    if not jets:
        reasons = skipped_jets(left_out) if left_out else "no jets"
        raise DataError(f"there is no jet {purpose}", where=where, found=reasons)


def file_names(files: Sequence[JetFile], ranges: Sequence[EntryRange]) -> str:
    """Return the names of the first files of entry ranges, for messages."""
    return ", ".join(str(files[index].source) for index in sorted({part.file for part in ranges})[:8])
