"""Tiny encoders, methods and reordered batches for the tests of networks, methods and training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssl_jets import methods
from ssl_jets.config import ModelSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def tiny_encoder(jets: Jets, seed: int = 0, **settings: Any) -> Encoder:
    """A tiny encoder with the feature statistics of `jets`, the same for the same seed."""
    torch.manual_seed(seed)
    encoder = Encoder(ModelSettings(**({"size": "tiny"} | settings)))
    encoder.features.fit_statistics([jets])
    if encoder.pair_bias is not None:  # zero before the training, which a test would not notice
        torch.nn.init.normal_(encoder.pair_bias.mlp[-1].weight, std=0.1)
    return encoder


def build_method(name: str, jets: Jets, seed: int = 0, *, blocks: int | None = None, **settings: Any) -> Method:
    """A method on a tiny encoder, with untrained methods in the place of the runs that it starts from."""
    cls = methods.find(name)
    parts: dict[str, Any] = {
        part: build_method(part, jets, seed + 10, blocks=blocks) for part in cls.requires if part != "teacher"
    }
    if "teacher" in cls.requires:
        parts["teacher"] = tiny_encoder(jets, seed + 10, blocks=blocks)
    encoder = tiny_encoder(jets, seed, blocks=blocks)
    return cls(cls.Config(name=name, **settings), encoder, CLASSES, **parts)


def shuffle_particles(jets: Jets, seed: int = 0) -> tuple[Jets, Tensor]:
    """The same jets with the particles of each in another order, and the index of each particle before."""
    random = torch.rand(len(jets.particles), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    index = torch.argsort(jets.jet_of_particle + random)
    return replace(jets, particles=jets.particles[index]), index


def few_particles(jets: Jets) -> Jets:
    """The 8, 12, 16 or 20 hardest particles of each jet, in turn.

    Attention runs over jets of equal length: networks on real jets, whose lengths all differ, take three times as long.
    """
    return jets.keep(jets.rank_by_pt() < 8 + 4 * (jets.jet_of_particle % 4))


def without_columns(jets: Jets, *names: str) -> Jets:
    """The jets as a format would give them that lacks these particle columns."""
    kept = [position for position, name in enumerate(jets.columns) if name not in names]
    return replace(jets, particles=jets.particles[:, kept], columns=tuple(jets.columns[index] for index in kept))


def made_jets(lengths: list[int], seed: int = 0) -> Jets:
    """Jets of given lengths with plausible random values; no two particles have the same pt."""
    generator = torch.Generator().manual_seed(seed)
    particles = sum(lengths)
    normal = torch.randn(particles, 10, generator=generator)
    kind = torch.randint(0, 6, (particles,), generator=generator)
    charged = torch.isin(kind, torch.tensor([0, 3, 4]))
    sign = torch.where(normal[:, 4] > 0, 1.0, -1.0) * charged
    columns = [
        (normal[:, 0] * 1.2 + 2).exp(), normal[:, 1] * 0.2, normal[:, 2] * 0.2, (normal[:, 3] * 1.2 + 2.5).exp(),
        sign, kind.float(), normal[:, 6] * charged, normal[:, 7].abs() * 0.1 * charged, normal[:, 8] * charged,
        normal[:, 9].abs() * 0.1 * charged,
    ]  # fmt: skip
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    labels = torch.arange(len(lengths)) % len(CLASSES)
    source = torch.stack([labels * 0, torch.arange(len(lengths)), labels * 0], dim=1)
    return Jets(torch.stack(columns, dim=1), offsets, labels=labels, source=source)
