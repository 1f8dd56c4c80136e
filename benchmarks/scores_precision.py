"""What bf16 changes in the scores of a model, against float32.

    OMP_NUM_THREADS=1 python benchmarks/scores_precision.py --model tiny-sup [--jets 2000] [--data SRC ...]

Printed are the largest differences of a class probability and of D = p_Hbb / (p_Hbb + p_QCD), and the jets of Hbb and
QCD that change sides of a cut on D which 50, 30 or 10 % of the Hbb jets pass in float32. The device computes in bf16.
"""

from __future__ import annotations

import argparse

import numpy as np

from ssl_jets import api
from ssl_jets.model_file import load_model
from ssl_jets.sharing.location import locate

SIGNAL, BACKGROUND = "Hbb", "QCD"


def main() -> None:
    """Print a line for the probabilities, and one for each cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--jets", type=int, default=2000)
    parser.add_argument("--data", nargs="*", default=())
    args = parser.parse_args()
    model, jets = load_model(locate(args.model)), api.read_jets(args.data)
    chosen = np.random.default_rng(0).permutation(len(jets))[: args.jets]
    jets = jets.select(np.sort(chosen))
    assert jets.labels is not None
    p = {name: model.predict(jets, precision=name) for name in ("32-true", "bf16-mixed")}  # type: ignore[arg-type]
    signal, background = (model.labels.index(name) for name in (SIGNAL, BACKGROUND))
    exact, rough = (values[:, signal] / (values[:, signal] + values[:, background]) for values in p.values())
    labels = jets.labels.numpy()
    largest = np.abs(p["32-true"] - p["bf16-mixed"]).max()
    print(f"{len(jets):,} jets: largest difference of p {largest:.4f}, of D {np.abs(exact - rough).max():.4f}")
    of_two = np.isin(labels, [signal, background])
    for efficiency in (0.5, 0.3, 0.1):
        cut = np.quantile(exact[labels == signal], 1 - efficiency)
        passed, moved = (exact > cut) & of_two, ((exact > cut) != (rough > cut)) & of_two
        print(f"efficiency {efficiency:.0%}: {moved.sum()} jets change sides, {passed.sum()} pass in float32")


if __name__ == "__main__":
    main()
