"""Compute the figures of `weaver_figures.json`: weaver-core's own network, on the checkpoint and jets of the tests.

    pip install weaver-core==0.4.17 numpy torch          # and once more with weaver-core==0.5.3
    PYTHONPATH=tests python tests/support/weaver_figures.py

Every run replaces the figures of the installed version. The package and its tests need no weaver-core.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from support.public_part import LENGTHS, branches, published_inputs, rescaled, state_dict

FIGURES = Path(__file__).with_suffix(".json")


def computed(jets: list[dict[str, Any]], **options: Any) -> Tensor:
    """Logits, or z without classes, of weaver's network with the random public weights, in float64."""
    from weaver.nn.model.ParticleTransformer import ParticleTransformer

    network = ParticleTransformer(input_dim=17, trim=False, **options).double().eval()
    weights = {name.removeprefix("mod."): value.double() for name, value in state_dict().items()}
    if options["fc_params"] is None:
        weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    network.load_state_dict(weights)
    size = (len(jets), max(LENGTHS))
    features, vectors = torch.zeros(size[0], 17, size[1]).double(), torch.zeros(size[0], 4, size[1]).double()
    mask = torch.zeros(size[0], 1, size[1], dtype=torch.bool)
    for index, jet in enumerate(jets):
        length = len(jet["p"])
        features[index, :, :length] = published_inputs(jet).T
        vectors[index, :, :length] = torch.tensor(jet["p"]).T
        mask[index, :, :length] = True
    with torch.no_grad():
        result: Tensor = network(features, v=vectors, mask=mask)
    return result


def main() -> None:
    """Write the figures of the installed version."""
    jets = branches()
    found = {
        "logits": computed(jets, use_pre_activation_pair=False, num_classes=10, fc_params=[]),
        "sophon_z": computed([rescaled(jet, 500) for jet in jets], fc_params=None)[:, :10],
    }
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    figures[version("weaver-core")] = {
        name: [[round(number, 6) for number in row] for row in value.tolist()] for name, value in found.items()
    }
    FIGURES.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
