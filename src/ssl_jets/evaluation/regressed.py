"""Bias and resolution of regressed targets, from predictions and true columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.evaluation_data import KINEMATICS
from ssl_jets.evaluation.metrics.regression import FEWEST, RegressionMetrics, known_jets, regression_metrics
from ssl_jets.nn.regression import columns_of
from ssl_jets.runtime.console import MessageLog


def measure_targets(
    predicted: Mapping[str, Array],
    columns: Mapping[str, Array],
    weights: Array,
    note: MessageLog,
    *,
    lacking: str,
    seed: int,
) -> list[RegressionMetrics]:
    """Return the metrics of the targets whose columns are there, and that enough jets have.

    Args:
        predicted: targets by name, `[jet]` each.
        columns: jet columns by name, `[jet]` each.
        weights: of the jets, `[jet]`.
        note: logs the targets left out.
        lacking: start of the message about missing columns.
        seed: of the bootstrap.
    """
    against, found = {name: columns[name] for name in KINEMATICS if name in columns}, list[RegressionMetrics]()
    for target, values in predicted.items():
        if missing := [name for name in columns_of([target]) if name not in columns]:
            note(f"{lacking} {', '.join(missing)}, so the regression of {target} is not measured")
            continue
        first, *rest = (columns[name].astype(np.float64) for name in columns_of([target]))
        with np.errstate(divide="ignore", invalid="ignore"):
            true = first / rest[0] if rest else first
        if (known := known_jets(true, weights).sum()) < FEWEST:
            note(f"{known} jets to test on have {target}, fewer than {FEWEST}, so the regression of it is not measured")
            continue
        found.append(regression_metrics(values, true, target, against, weights=weights, seed=seed))
    return found
