"""How close jets of `simulate` are to other simulated jets of the same classes, and how fast they are made.

    python benchmarks/simulated_jets.py REFERENCE_FOLDER OUTPUT_FOLDER [--jets 500] [--seed 1]

The reference has one file a class in the JetClass layout, such as `HToBB_000.root`. For each class and observable the
table has the Kolmogorov-Smirnov distance, the largest difference of the cumulative distributions, beside the distance
that two samples of these sizes from one distribution exceed in 5 % of the cases. Classes that were simulated into the
output folder before are read again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from scipy.stats import ks_2samp

import ssl_jets

FILES = {
    "qcd": "ZJetsToNuNu",
    "hbb": "HToBB",
    "hcc": "HToCC",
    "hgg": "HToGG",
    "h4q": "HToWW4Q",
    "hqql": "HToWW2Q1L",
    "zqq": "ZToQQ",
    "wqq": "WToQQ",
    "tbqq": "TTBar",
    "tbl": "TTBarLep",
}
"""Beginning of the name of the reference file of each process."""
BRANCHES = ["jet_sdmass", "jet_pt", "jet_nparticles", "jet_tau1", "jet_tau2", "part_charge", "part_d0val", "part_d0err"]


def charged(jets: Any) -> Any:
    return jets.part_charge != 0


def third_significance(jets: Any) -> Any:
    """The third largest d0 significance of a jet: large for two long-lived hadrons, one number a jet."""
    significance = np.abs(jets.part_d0val / jets.part_d0err)[charged(jets)]
    third = ak.sort(significance, ascending=False)[:, 2:3]
    return ak.fill_none(ak.firsts(third), 0.0)


OBSERVABLES: dict[str, Callable[[Any], Any]] = {
    "soft-drop mass": lambda jets: jets.jet_sdmass,
    "pt": lambda jets: jets.jet_pt,
    "particles": lambda jets: jets.jet_nparticles,
    "charged": lambda jets: ak.sum(charged(jets), axis=1),
    "tau21": lambda jets: np.nan_to_num(jets.jet_tau2 / jets.jet_tau1),
    "third d0/d0err": third_significance,
}
"""One number a jet, so that the samples are of independent numbers."""


def critical(first: int, second: int) -> float:
    """Distance that two samples of one distribution exceed in 5 % of the cases."""
    return float(1.358 * np.sqrt((first + second) / (first * second)))


def distances(simulated: Path, reference: Path) -> dict[str, tuple[float, float, float]]:
    """Distance and the two means of each observable."""
    ours, theirs = (uproot.open(path)["tree"].arrays(BRANCHES) for path in (simulated, reference))
    table = {}
    for name, observable in OBSERVABLES.items():
        one, other = (ak.to_numpy(observable(jets)).astype(np.float64) for jets in (ours, theirs))
        table[name] = (float(ks_2samp(one, other).statistic), float(one.mean()), float(other.mean()))
    return table


def simulated_file(process: str, folder: Path, jets: int, seed: int) -> tuple[Path, dict[str, float]]:
    """File of a process, and its counts from the manifest."""
    path = folder / f"{process}.root"
    if not path.exists():
        ssl_jets.simulate(process, jets=jets, out=path, seed=seed)
    manifest = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    return path, manifest["processes"][process]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--jets", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rest = "5 % | particles (ref.) | jets per CPU s | jets per event"
    print(f"| class | jets | {' | '.join(OBSERVABLES)} | {rest} |")
    print("|---" * (len(OBSERVABLES) + 6) + "|")
    for process, name in FILES.items():
        path, counts = simulated_file(process, arguments.output, arguments.jets, arguments.seed)
        reference = next(arguments.reference.glob(f"{name}_*.root"))
        table = distances(path, reference)
        jets, others = counts["jets"], uproot.open(reference)["tree"].num_entries
        cells = [f"{distance:.3f}" for distance, *_ in table.values()]
        _, mean, other = table["particles"]
        rate, yield_ = jets / counts["cpu_seconds"], jets / counts["events"]
        tail = f"{critical(jets, others):.3f} | {mean:.1f} ({other:.1f}) | {rate:.0f} | {yield_:.2f}"
        print(f"| {process} | {jets:.0f} | {' | '.join(cells)} | {tail} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
