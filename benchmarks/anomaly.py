"""Does z find signals without labels, above the floor of the search, and better than observables with the same reader?

    python benchmarks/anomaly.py MODEL --data QCD SIGNAL ... --signals Tbqq Hbb --work FOLDER [--seeds 3]

Runs the anomaly protocol once for each seed of the split, of the random encoder and of the hidden jets; half of the
jets are tested on. Prints tables of mean and standard deviation over all draws of all seeds. Finished searches in
FOLDER are read, not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

import ssl_jets
from ssl_jets.evaluation.probes.results import COLUMNS, OBSERVABLES
from ssl_jets.protocols.anomaly_result import AnomalyScan, CwolaScan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--signals", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--counts", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    results = [search(args, seed) for seed in range(args.seeds)]
    print(cwola_table(results, "improvement", 2), cwola_table(results, "auc", 3), sep="\n\n")
    print("", cwola_table(results, "rejection", 1), difference_table(results), distance_table(results), sep="\n\n")


def search(args: argparse.Namespace, seed: int) -> AnomalyScan:
    """Return the search of one seed, made or read."""
    folder = args.work / f"seed-{seed}"
    if (folder / f"{AnomalyScan.NAME}.json").is_file():
        return AnomalyScan.read(folder)
    settings = {"data.split_seed": seed, "data.validation_fraction": 0.5}
    settings |= {"anomaly.signals": args.signals, "anomaly.counts": args.counts, "anomaly.seeds": 3}
    result = ssl_jets.evaluate(args.model, protocol="anomaly", data=args.data, out=folder, seed=seed, settings=settings)
    assert isinstance(result, AnomalyScan)
    return result


def cwola_table(results: Sequence[AnomalyScan], name: str, digits: int) -> str:
    """Return one number of all CWoLa searches: a column for each number of hidden jets, then the ceiling."""
    points = results[0].cwola[0].points
    head = ["0 (floor)", *(f"{point.signal_jets} ({point.significance:.1f})" for point in points[1:]), "labels"]
    lines = [f"| {name} | input | reader | " + " | ".join(head) + " |", "|---" * (3 + len(head)) + "|"]
    for scans in zip(*(result.cwola for result in results), strict=True):
        cells = []
        for repeated in zip(*(scan.points for scan in scans), strict=True):
            draws = [draw for point in repeated for draw in point.draws]
            limit = "≥ " * (name == "improvement" and any(draw.improvement_limit for draw in draws))
            cells.append(limit + mean_and_std([getattr(draw, name) for draw in draws], digits))
        ceilings = [getattr(scan.supervised, name) for scan in scans]
        limit = "≥ " * any(ceiling.limit for ceiling in ceilings)
        cells.append(limit + mean_and_std([ceiling.value for ceiling in ceilings], digits))
        lines.append(f"| {scans[0].signal} | {scans[0].of} | {scans[0].reader} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference_table(results: Sequence[AnomalyScan]) -> str:
    """Return improvements of z minus those of baselines with the same hidden jets and reader.

    The error is the standard error from the means of the seeds.
    """
    points = results[0].cwola[0].points
    head = " | ".join(str(point.signal_jets) for point in points)
    lines = [f"| signal | reader | z minus | {head} |", "|---" * (3 + len(points)) + "|"]
    for first, of in product((scan for scan in results[0].cwola if scan.of == "z"), (OBSERVABLES, COLUMNS)):
        pairs = [(partner(result, first, "z"), partner(result, first, of)) for result in results]
        cells = []
        for index in range(len(points)):
            draws = [(of_z.points[index].draws, other.points[index].draws) for of_z, other in pairs]
            means = [np.mean([(z.improvement or 0) - (o.improvement or 0) for z, o in zip(*two)]) for two in draws]
            cells.append(f"{np.mean(means):+.2f} ± {np.std(means, ddof=1) / len(means) ** 0.5:.2f}")
        lines.append(f"| {first.signal} | {first.reader} | {of} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def partner(result: AnomalyScan, scan: CwolaScan, of: str) -> CwolaScan:
    """Return the scan of an input with the same signal and reader as `scan`."""
    wanted = (of, scan.signal, scan.reader)
    return next(other for other in result.cwola if (other.of, other.signal, other.reader) == wanted)


def distance_table(results: Sequence[AnomalyScan]) -> str:
    """Return AUC and R50 of all distance scores."""
    lines = ["| signal | input | distance | AUC | R50 | largest SIC |", "|---" * 6 + "|"]
    for found in zip(*(result.distances for result in results), strict=True):
        numbers = [
            mean_and_std([getattr(score, name).value for score in found], digits)
            for name, digits in (("auc", 3), ("rejection", 1), ("improvement", 2))
        ]
        lines.append(f"| {found[0].signal} | {found[0].of} | {found[0].score} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def mean_and_std(values: Sequence[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


if __name__ == "__main__":
    main()
