"""Jets whose classes are separated with a known skill."""

from collections.abc import Callable

import numpy as np
import pytest

Scored = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def scored() -> Callable[..., Scored]:
    def make(jets: int, classes: int, skill: float = 1.5, seed: int = 0, digits: int | None = None) -> Scored:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, classes, jets)
        logits = rng.normal(size=(jets, classes)) + skill * np.eye(classes)[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        if digits is not None:
            probabilities = np.round(probabilities, digits)
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities, labels

    return make
