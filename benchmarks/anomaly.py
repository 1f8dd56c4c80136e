"""Does z find signals without labels, above the floor of the search, and better than observables with the same reader?

    python benchmarks/anomaly.py MODEL --data QCD SIGNAL ... --signals Tbqq Hbb --work FOLDER [--seeds 3]
    python benchmarks/anomaly.py MODEL --heavy-higgs --signals Hbb --work FOLDER

Runs the anomaly protocol once for each seed of the split, of the random encoder and of the hidden jets; half of the
jets are tested on. Prints tables of mean and standard deviation over all draws of all seeds. Finished searches in
FOLDER are read, not made again. With --heavy-higgs the jets are simulated first: QCD, and a Higgs boson of 200 GeV that
decays to bb, a mass that no process of `simulate` has.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import ssl_jets
from ssl_jets.protocols.anomaly_result import AnomalyScan, CwolaDraw, CwolaScan
from ssl_jets.simulation.processes import PROCESSES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", nargs="+", default=[])
    parser.add_argument("--heavy-higgs", action="store_true")
    parser.add_argument("--signals", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--counts", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    args.data += simulate_heavy_higgs(args.work) if args.heavy_higgs else []
    results = [search(args, seed) for seed in range(args.seeds)]
    print(cwola_table(results, "improvement", 2), cwola_table(results, "auc", 3), sep="\n\n")
    print("", cwola_table(results, "rejection", 1), difference_table(results), distance_table(results), sep="\n\n")


def simulate_heavy_higgs(folder: Path, mass: int = 200) -> list[str]:
    """Simulate 4,000 jets of QCD and 1,200 of a Higgs boson with this mass [GeV] that decays to bb, unless they exist.

    Both files have the same seed, detector and range of pt as the jets of `simulate`.
    """
    (settings,) = PROCESSES["hbb"].channels
    heavy = tuple(line.replace("25:m0 = 125", f"25:m0 = {mass}") for line in settings)
    assert heavy != settings
    PROCESSES["hbb"] = replace(PROCESSES["hbb"], channels=(heavy,))
    files = {"qcd": (folder / "qcd.root", 4000), "hbb": (folder / f"higgs-{mass}.root", 1200)}
    for process, (path, jets) in files.items():
        if not path.is_file():
            ssl_jets.simulate(process, jets=jets, out=path, seed=4242)
    return [str(path) for path, _ in files.values()]


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
    """Return improvements of z minus those of observables with the same hidden jets: standard error over seeds."""
    return "\n".join(
        f"| {first.signal} | {first.reader} | "
        + " | ".join(
            difference(
                [(scan.points[index].draws, partner(result, scan).points[index].draws) for result, scan in pairs],
                lambda draw: draw.improvement or 0.0,
            )
            for index in range(len(first.points))
        )
        + " |"
        for first in results[0].cwola
        if first.of == "z"
        for pairs in [[(result, partner(result, first, "z")) for result in results]]
    )


def partner(result: AnomalyScan, scan: CwolaScan, of: str = "observables") -> CwolaScan:
    """Return the scan of another input with the same signal and reader."""
    wanted = (of, scan.signal, scan.reader)
    return next(other for other in result.cwola if (other.of, other.signal, other.reader) == wanted)


def difference(
    pairs: Sequence[tuple[Sequence[CwolaDraw], Sequence[CwolaDraw]]], of: Callable[[CwolaDraw], float]
) -> str:
    """Return the mean of paired differences, and its standard error from the means of each seed."""
    means = [np.mean([of(one) - of(other) for one, other in zip(*draws, strict=True)]) for draws in pairs]
    return f"{np.mean(means):+.2f} ± {np.std(means, ddof=1) / len(means) ** 0.5:.2f}"


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
