"""Classes that cannot be measured: only one of them, or some without jets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_jets.evaluate.estimate import Array
from ssl_jets.evaluate.notes import Notes
from ssl_jets.evaluate.probes import ITERATIONS, tree_iterations

MOST_NAMED = 20
"""Classes that a note names, at most."""

LEFT_OUT = "probes of the class, trees on jet columns, metrics of a head, accuracy on changed jets"
"""What needs labels of two classes."""


def only_class(y_fit: Array, y_test: Array, classes: tuple[str, ...]) -> str:
    """What to say where the jets to fit or to test on are all of one class; "" where they are not."""
    for labels, purpose in ((y_fit, "fit"), (y_test, "test")):
        if len(present := np.unique(labels)) < 2:
            return f"the jets to {purpose} probes with are all of one class ({classes[int(present[0])]})"
    return ""


def tell_absent(y_fit: Array, y_test: Array, classes: tuple[str, ...], tell: Notes) -> None:
    """Name the classes that cannot be measured, and how many classes limit the trees."""
    tested = {classes[label] for label in np.unique(y_test)}
    unfitted = tested - {classes[label] for label in np.unique(y_fit)}
    if untested := [name for name in classes if name not in tested]:
        tell(
            f"{len(untested)} of the {len(classes)} classes have no test jets, so nothing is measured of them and they "
            f"are left out of all averages over classes: {_some_of(untested)}"
        )
    if (iterations := tree_iterations(len(tested))) < ITERATIONS:
        tell(f"of {len(tested)} classes boosted trees take {iterations} iterations of larger steps, not {ITERATIONS}")
    if unfitted:
        tell(
            f"{len(unfitted)} of the {len(tested)} classes with test jets have none to fit probes on, so no probe can "
            f"find them: {_some_of(sorted(unfitted))}"
        )


def _some_of(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
