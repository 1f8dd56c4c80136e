"""CSV beside a figure: the numbers of the typed results that it draws, as rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ssl_jets.evaluation.generated.result import Histogram
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.metrics.regression import RegressionMetrics
from ssl_jets.evaluation.result import ZMap

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


def of_models(results: Mapping[str, Iterable[Any]]) -> list[Record]:
    """Return the results of several models as rows, behind the name of the model."""
    return [{"model": name} | flat(record) for name, records in results.items() for record in records]


def roc_points(task: ClassificationMetrics) -> list[Record]:
    """Return the points of all ROC curves, with the 68 % interval of the signal efficiency."""
    rows: list[Record] = []
    for curve in task.roc:
        rows += points(
            signal=curve.signal,
            background=curve.background,
            signal_efficiency=curve.signal_efficiency,
            signal_efficiency_low=curve.low,
            signal_efficiency_high=curve.high,
            background_efficiency=curve.background_efficiency,
            rejection=1 / curve.background_efficiency,
        )
    return rows


def significance_points(task: ClassificationMetrics) -> list[Record]:
    """Return the points of all curves of the significance improvement, from the least eps_B of the table on."""
    rows: list[Record] = []
    for curve in task.roc:
        if curve.sic_from is not None:
            passed = curve.background_efficiency >= curve.sic_from
            root = np.sqrt(curve.background_efficiency[passed])
            efficiency, low, high = (values[passed] for values in (curve.signal_efficiency, curve.low, curve.high))
            improvement = {"improvement": efficiency / root, "low": low / root, "high": high / root}
            rows += points(signal=curve.signal, signal_efficiency=efficiency, **improvement)
    return rows


def confusion_cells(task: ClassificationMetrics) -> list[Record]:
    """Return the cells of the whole confusion matrix: sum of the weights, and percentage of the true class."""
    totals = task.confusion.sum(axis=1)
    return [
        {
            "true": task.names[true],
            "classified_as": task.names[predicted],
            "jets": jets,
            "percent": 100 * jets / totals[true] if totals[true] > 0 else 0.0,
        }
        for (true, predicted), jets in np.ndenumerate(task.confusion.astype(float))
    ]


def reliability_points(task: ClassificationMetrics) -> list[Record]:
    """Return the bins of the reliability diagram, before and after temperature scaling."""
    both = {"before": task.reliability, "after": task.calibrated.reliability}
    return [row for name, bins in both.items() for row in points(temperature_scaling=name, **vars(bins))]


def regression_points(targets: Sequence[RegressionMetrics]) -> list[Record]:
    """Return bias and resolution in bins, then the filled cells of true against regressed values."""
    rows: list[Record] = []
    for target in targets:
        for response in target.responses:
            bins = zip(response.edges[:-1], response.edges[1:], response.centre, response.bias, response.resolution)
            names = ("bin_low", "bin_high", "centre", "bias", "resolution")
            rows += [
                {"target": target.target, "against": response.against, **dict(zip(names, values))} for values in bins
            ]
        centre = (target.density.edges[1:] + target.density.edges[:-1]) / 2
        true, regressed = np.nonzero(target.density.counts)
        if len(true):
            counts = target.density.counts[true, regressed]
            rows += points(target=target.target, true=centre[true], regressed=centre[regressed], jets=counts)
    return rows


def map_points(points_of_z: ZMap, classes: Sequence[str]) -> list[Record]:
    """Return the jets of the map of z with their classes."""
    names = [classes[label] if 0 <= label < len(classes) else "" for label in points_of_z.labels.astype(int)]
    return points(**{"first": points_of_z.x, "second": points_of_z.y, "class": names})


def histogram_bins(histograms: Iterable[Histogram]) -> list[Record]:
    """Return the bins of histograms: entries, and fraction of all entries with error, of generated and of real jets."""
    rows: list[Record] = []
    for one in histograms:
        counts = {"generated": one.generated, "real": one.real}
        all_of = {"generated": max(one.generated_all, 1), "real": max(one.real_all, 1)}
        errors = {"generated": one.generated_error, "real": one.real_error}
        fractions = {f"{name}_fraction": counts[name] / all_of[name] for name in counts}
        fractions |= {f"{name}_error": errors[name] / all_of[name] for name in counts}
        name = {"observable": one.observable, "unit": one.unit}
        rows += points(**name, bin_low=one.edges[:-1], bin_high=one.edges[1:], **counts, **fractions)
    return rows


def training_lines(lines: Iterable[Mapping[str, Any]], *kinds: str) -> list[Record]:
    """Return the numbers of the lines of `metrics.jsonl` of some kinds, with their collapse verdicts."""
    chosen = (line for line in lines if line.get("kind") in kinds)
    return [{**line, "collapse": ", ".join(line.get("collapse") or ())} for line in chosen]


def spectrum_bins(facts: Mapping[str, Any]) -> list[Record]:
    """Return the bins of a `Spectrum` before and after `data.flatten`, one row for each class, column and bin."""
    rows: list[Record] = []
    before = np.array(facts["before"], dtype=float)  # [class, bin, ...]
    after = before * np.array(facts["factors"], dtype=float)
    for number, (name, edges) in enumerate(zip(facts["settings"]["by"], facts["settings"]["bins"], strict=True)):
        others = tuple(axis for axis in range(1, before.ndim) if axis != number + 1)
        sums = zip(facts["classes"], before.sum(axis=others), after.sum(axis=others), strict=True)
        for of_class, jets, flattened in sums:
            row = {"class": of_class, "column": name}
            rows += points(**row, low=edges[:-1], high=edges[1:], before=jets, after=flattened)
    return rows
