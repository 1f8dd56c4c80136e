"""Text of a selection of jets, which is checked before any file is opened."""

from __future__ import annotations

from ssl_jets.data.schemas.formula import Formula, formula
from ssl_jets.errors import UsageError

SETTING = "data.where"


def parse_selection(where: str) -> Formula:
    """Return the formula of a selection.

    Raises:
        UsageError: the text is not a formula.

    Example:
        >>> parse_selection("jet_pt > 300 && abs(jet_eta) < 2").names
        ('jet_pt', 'jet_eta')
    """
    try:
        return formula(where)
    except ValueError as error:
        raise UsageError("the selection is not a formula", where=f"{SETTING}={where}", found=error) from None
