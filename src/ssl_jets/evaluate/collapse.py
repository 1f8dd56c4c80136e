"""The spread of z beside that of random weights, and whether z has collapsed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ssl_jets.evaluate.estimate import Array
from ssl_jets.jets import Jets
from ssl_jets.monitor import CHECK_JETS, another_view
from ssl_jets.nn import collapse
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.spread import spread

Encode = Callable[[Encoder, Jets], Array]


def spreads(
    encode: Encode, jets: Jets, found: tuple[Encoder, Array], random: tuple[Encoder, Array], *, labels: bool
) -> dict[str, Any]:
    """The parts `spread` and `collapse` of an evaluation.

    Args:
        encode: an encoder and jets to z `[jet, D]`.
        jets: the jets of z.
        found: the encoder and its z.
        random: the encoder of random weights and its z.
        labels: whether the encoder was trained to tell classes.
    """
    # Jets come file by file, and a file has one class: the first ones would not stand for all.
    order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))
    view = another_view(jets.select(order[:CHECK_JETS]))
    of_model, of_random = (
        spread(torch.from_numpy(z)[order], torch.from_numpy(encode(encoder, view))) for encoder, z in (found, random)
    )
    return {
        "spread": {"z": of_model, "z of random weights": of_random},
        "collapse": collapse.of_z(of_model, of_random, labels=labels),
    }
