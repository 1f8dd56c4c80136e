"""Make the bundled sample: the first jets of each ROOT file of a folder, in the JetClass layout, small.

    python make_sample.py SOURCE_FOLDER OUTPUT_FOLDER --jets 1000

Particle values of floating type are rounded to 15 bits behind the binary point of the mantissa (relative error at most
2^-16, about 1.5e-5), because without that the sample would be a third larger; all else is kept as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

MANTISSA_BITS = 15
CLUSTER = 500


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """float32 values to the nearest with `MANTISSA_BITS` bits of mantissa; other types as they are."""
    if values.dtype != np.float32:
        return values
    drop = 23 - MANTISSA_BITS
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + np.uint32(1 << (drop - 1))) & ~np.uint32((1 << drop) - 1)).view(np.float32)


def copy(source: Path, target: Path, jets: int) -> None:
    """Write the first `jets` entries of the tree of `source` to `target`."""
    branches: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for name, array in uproot.open(source)["tree"].arrays(entry_stop=jets, library="ak", how=dict).items():
        if name == "npart":
            continue
        if array.ndim == 2:
            values = rounded(ak.to_numpy(ak.flatten(array)))
            branches[name] = ak.unflatten(values, ak.num(array))
            types[name] = f"var * {values.dtype}"
        else:
            branches[name] = ak.to_numpy(array)
            types[name] = branches[name].dtype
    with uproot.recreate(target, compression=uproot.LZMA(9)) as file:
        tree = file.mktree("tree", types, counter_name=lambda counted: "npart")
        for start in range(0, jets, CLUSTER):
            tree.extend({name: values[start : start + CLUSTER] for name, values in branches.items()})


def main() -> None:
    """Copy every file of the source folder; `NAME_000.root` becomes `NAME.root`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of ROOT files in the JetClass layout, one class a file")
    parser.add_argument("output", type=Path, help="folder for the sample")
    parser.add_argument("--jets", type=int, default=1000, help="jets per file (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for source in sorted(arguments.source.glob("*.root")):
        copy(source, arguments.output / f"{source.stem.rstrip('0123456789_')}.root", arguments.jets)


if __name__ == "__main__":
    main()
