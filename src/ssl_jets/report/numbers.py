"""CSV beside a figure: the numbers of the typed results that it draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ssl_jets.evaluation.metrics.bootstrap import Estimate

Record = Mapping[str, Any]
"""One row by column name."""


def csv_of(records: Iterable[object]) -> str:
    """Return results, or mappings, as the rows of a CSV; an undefined number is an empty cell.

    >>> print(csv_of([{"signal": "Hbb", "auc": Estimate(0.9, 0.89, 0.91, 0.88, 0.92)}]), end="")
    signal,auc,auc_low,auc_high,auc_low95,auc_high95
    Hbb,0.9,0.89,0.91,0.88,0.92
    """
    rows = [flat(record) for record in records]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def flat(record: Any, prefix: str = "") -> dict[str, Any]:
    """Return the numbers and texts of a mapping or result by name; a result inside it has its name in front.

    Arrays and lists are left out.
    """
    row: dict[str, Any] = {}
    for name, value in (record if isinstance(record, Mapping) else vars(record)).items():
        if isinstance(value, Estimate):
            ends = ("low", "high", "low95", "high95")
            row |= {prefix + name: value.value} | {f"{prefix}{name}_{end}": getattr(value, end) for end in ends}
        elif isinstance(value, str | int | float | np.number) or value is None:
            row[prefix + name] = value
        elif hasattr(value, "__dict__") and not isinstance(value, np.ndarray):
            row |= flat(value, f"{prefix}{name}_")
    return row


def points(**columns: Any) -> list[Record]:
    """Return a record for each entry of arrays of one length; texts and numbers are the same in all.

    >>> points(signal="Hbb", x=np.array([1, 2]))
    [{'signal': 'Hbb', 'x': 1}, {'signal': 'Hbb', 'x': 2}]
    """
    length = max(len(values) for values in columns.values() if isinstance(values, np.ndarray | list))
    lists = {
        name: list(values) if isinstance(values, list) else np.broadcast_to(np.asarray(values), length).tolist()
        for name, values in columns.items()
    }
    return [dict(zip(lists, row)) for row in zip(*lists.values(), strict=True)]


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, float | np.floating):
        return "" if value is None else str(value)
    return f"{value:.6g}" if np.isfinite(value) else ""
