"""Copies of jets of files in the JetClass layout, and errors of results, for the other scripts; imported, not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uproot

TRACKS = ("part_d0val", "part_d0err", "part_dzval", "part_dzerr")
IDENTITY = (
    "part_charge",
    "part_isChargedHadron",
    "part_isNeutralHadron",
    "part_isPhoton",
    "part_isElectron",
    "part_isMuon",
)
Rows = Callable[[Any], Any]
"""Function of the branches of a file to its rows, a slice or indices."""


def copy_jets(source: Path, out: Path, rows: Rows, drop: Sequence[str] = ()) -> Path:
    """Write some rows of a file to another one, without the branches `drop`."""
    with uproot.open(source) as file:
        jets = file["tree"].arrays()
    names = [name for name in jets.fields if name not in (*drop, "npart")]
    jets = jets[rows(jets)][names]
    out.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(out, compression=uproot.ZSTD(1)) as file:
        tree = file.mktree(
            "tree",
            {
                name: f"var * {jets[name].type.content.content}" if _jagged(name) else _type(jets[name])
                for name in names
            },
            counter_name=lambda branch: "npart",
        )
        tree.extend({name: jets[name] for name in names})
    return out


def _jagged(name: str) -> bool:
    return name.startswith("part_")


def _type(column: Any) -> Any:
    return np.asarray(column).dtype


def mean_and_error(values: Sequence[float]) -> str:
    """Return the mean over seeds and its error, the standard deviation over the root of their number."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {error:.3f}"


def draws(jets: int, number: int) -> list[Any]:
    """Return all jets once, and `number` bootstrap samples of them, as indices `[jet]`."""
    rng = np.random.default_rng(0)
    return [np.arange(jets), *(rng.integers(0, jets, jets) for _ in range(number))]


def with_error(values: Any, digits: int = 4) -> str:
    """Return the mean over seeds of values `[draw, seed]` with its error.

    The error has the spread over seeds, if there are several, and the spread over bootstrap samples of the mean.
    """
    seeds = values[0].std(ddof=1) / np.sqrt(values.shape[1]) if values.shape[1] > 1 else 0.0
    return f"{values[0].mean():.{digits}f} ± {np.hypot(seeds, values[1:].mean(axis=1).std()):.{digits}f}"
