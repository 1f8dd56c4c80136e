"""Weights of the best validation of a training (`train.keep=best`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ssl_jets.config import TrainSettings
from ssl_jets.diagnostics.monitor import Diagnosis
from ssl_jets.methods._method import Method

MEASURES = {"loss": ("loss", -1), "rankme": ("rankme", 1), "lidar": ("lidar", 1), "probe": ("probe_accuracy", 1)}
"""`train.best_by` to its name in the metrics, and the sign with which it grows when a model gets better."""


class Best:
    """Best validation so far, with a copy of the weights of the method on the CPU; it is part of the checkpoint.

    A validation that finds a collapse of z is never the best: a collapsed encoder can have the smallest loss.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._on = settings.keep == "best"
        self.name, self._sign = MEASURES[settings.best_by]
        self.step, self.value = 0, math.nan
        self._weights: dict[str, Tensor] = {}

    def update(self, method: Method, step: int, diagnosis: Diagnosis) -> None:
        """Keep the weights of a validation that is better than all before it; an equal one is not."""
        value = diagnosis.metrics.get(self.name, math.nan)
        if not self._on or diagnosis.verdicts or not math.isfinite(value):
            return
        if not self._weights or self._sign * value > self._sign * self.value:
            self.step, self.value, self._weights = step, value, {}  # frees the last copy before the next one is made
            self._weights = {name: weight.detach().cpu().clone() for name, weight in method.state_dict().items()}

    def restore(self, method: Method) -> int | None:
        """Load the best weights into the method and return their step; None, and no change, if there are none."""
        if not self._weights:
            return None
        method.load_state_dict(self._weights)
        return self.step

    def state_dict(self) -> dict[str, Any]:
        """Return step, value and weights."""
        return {"step": self.step, "value": self.value, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them; a checkpoint of an older version has none."""
        if state:
            self.step, self.value, self._weights = state["step"], state["value"], dict(state["weights"])
