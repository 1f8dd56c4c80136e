"""What the linear probe gains when cross-validation chooses its penalty.

    OMP_NUM_THREADS=1 python benchmarks/penalty.py --model small-ssl --train TRAIN --shifted SHIFTED
        [--quark QUARK --gluon GLUON]

Tasks and jets as in `bundled_models.py`. z, observables and both together are read by logistic regression with
scikit-learn's C = 1 and with the chosen C, on the same jets.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from bundled_models import reading, remembered, tasks_of
from sklearn.linear_model import LogisticRegression

from ssl_jets.arrays import Array
from ssl_jets.evaluation.probes.classes import Labelled, chosen_strength, linear_reader, standardize
from ssl_jets.evaluation.probes.observables import observable_inputs
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model


def row(x_fit: Array, x_test: Array, fit: Array, truth: Array) -> list[str]:
    """Return the accuracy with C = 1 and with the chosen C, the chosen C, and the seconds of choosing."""
    x_fit, x_test = standardize(x_fit, x_test)
    fixed = LogisticRegression(C=1.0, max_iter=1000).fit(x_fit, fit).predict(x_test) == truth
    jets = Labelled.of(x_fit, fit)
    start = time.process_time()
    strength = chosen_strength(jets)
    seconds = time.process_time() - start
    chosen = linear_reader(jets, int(truth.max()) + 1)(x_test).argmax(1) == truth
    return [f"{fixed.mean():.3f}", f"{chosen.mean():.3f}", f"{strength:.3g}", f"{seconds:.1f}"]


def main() -> None:
    """Print a row for each task and input."""
    parser = reading(__doc__)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    z = remembered(partial(embed_jets, load_model(args.model).encoder))
    print("| task | input | C = 1 | chosen C | C | choosing [s] |\n|---|---|---|---|---|---|")
    for task in tasks_of(args):
        rows, truth = task.rows(), np.asarray(task.test.labels)
        observables = tuple(np.nan_to_num(side) for side in observable_inputs(task.fit, task.test))
        of_z = z(task.fit), z(task.test)
        both = tuple(np.hstack(pair) for pair in zip(of_z, observables, strict=True))
        for name, (x_fit, x_test) in {"z": of_z, "observables": observables, "z and observables": both}.items():
            cells = [task.name, name, *row(x_fit[rows], x_test, np.asarray(task.fit.labels)[rows], truth)]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
