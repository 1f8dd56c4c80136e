"""Temperatures of the models of `predict`: given, or fitted on held-out labelled jets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ssl_jets.errors import DataError, UsageError
from ssl_jets.runtime.console import log

FIT = "fit"


def temperatures_of(value: str | float | None, models: Sequence[Path]) -> list[float]:
    """Return the temperature of each model: 1, a number, or fitted.

    "fit" reads the files that the run was trained on and minimizes the log loss of the jets held out from it, at most
    50,000 of them (arXiv:1706.04599).

    Raises:
        UsageError: neither a number above zero nor "fit", or a model without classes.
        DataError: the files of the run are gone, or have no labels of two classes.
    """
    if value is None:
        return [1.0] * len(models)
    if value == FIT:
        return [_fit(model) for model in models]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError("there is no such temperature", where="--temperature", found=value, allowed=["1.3", FIT])
    return [number] * len(models)


def _fit(path: Path) -> float:
    """Fit the temperature of one model."""
    from ssl_jets.api.evaluate_request import run_of
    from ssl_jets.api.run_files import Remembered
    from ssl_jets.config import resolve
    from ssl_jets.evaluation.evaluation_data import EvaluationData, labels_of
    from ssl_jets.evaluation.metrics.calibration import temperature
    from ssl_jets.evaluation.settings import EvaluateSettings
    from ssl_jets.model_file import load_model
    from ssl_jets.runtime.console import MessageLog
    from ssl_jets.runtime.precision import SCORES_PRECISION

    model = load_model(path)
    if model.head is None:
        raise UsageError("a model without classes has no temperature", where="--temperature", found=path)
    if not (run_of(path) / "config.yaml").is_file():
        hint = "--temperature 1.3, or a run folder with its config.yaml"
        raise UsageError("a model folder alone does not name the files of its training", where=path, hint=hint)
    remembered = Remembered.of([path])
    settings = resolve(EvaluateSettings, {"data": remembered.reading})
    data = EvaluationData.of([model], remembered.sources, settings, MessageLog(lambda message: None))
    if not data.named:
        raise DataError("the files of the run have no labels to fit a temperature on", where=path)
    z = model.embed(data.test, precision=SCORES_PRECISION)
    labels = labels_of(data.test)
    found = temperature(model.probabilities(z, data.named), labels, data.weights(data.test))
    log(f"temperature of {path}: {found:.3f}, fitted on {len(labels):,} jets held out from its training")
    return found
