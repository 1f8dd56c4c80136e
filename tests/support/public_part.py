"""Checkpoints of the Particle Transformer: names and shapes of weaver-core, jets, and a plain forward pass.

The forward pass reads public names, jet by jet and in float64, and shares no code with the package. Its figures are
those of weaver-core itself, which `weaver_figures.py` computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

Weights = Mapping[str, Tensor]
LENGTHS = [1, 7, 30, 2]
PUBLISHED_KINDS = ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
"""Kinds of `JetClass_full.yaml`, in its order."""


def shapes(inputs: int = 17, classes: int = 10) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `models/ParT_full.pt` (17 inputs), `ParT_kinpid.pt` (13) or `ParT_kin.pt` (7)."""
    found: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, 128)}

    def norm(name: str, width: int) -> None:
        found.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    def batch_norm(name: str, width: int) -> None:
        norm(name, width)
        found.update({f"{name}.running_mean": (width,), f"{name}.running_var": (width,)})
        found[f"{name}.num_batches_tracked"] = ()

    def dense(name: str, *shape: int) -> None:
        found.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    batch_norm("embed.input_bn", inputs)
    for index, (before, after) in enumerate([(inputs, 128), (128, 512), (512, 128)]):
        norm(f"embed.embed.{3 * index}", before)
        dense(f"embed.embed.{3 * index + 1}", after, before)
    batch_norm("pair_embed.embed.0", 4)
    for index, (before, after) in enumerate([(4, 64), (64, 64), (64, 64), (64, 8)]):
        dense(f"pair_embed.embed.{3 * index + 1}", after, before, 1)
        batch_norm(f"pair_embed.embed.{3 * index + 2}", after)
    for block in [*(f"blocks.{index}" for index in range(8)), "cls_blocks.0", "cls_blocks.1"]:
        found |= {f"{block}.c_attn": (8,), f"{block}.w_resid": (128,)}
        found |= {f"{block}.attn.in_proj_weight": (384, 128), f"{block}.attn.in_proj_bias": (384,)}
        dense(f"{block}.attn.out_proj", 128, 128)
        dense(f"{block}.fc1", 512, 128)
        dense(f"{block}.fc2", 128, 512)
        for name, width in (("pre_attn", 128), ("post_attn", 128), ("pre_fc", 128), ("post_fc", 512)):
            norm(f"{block}.{name}_norm", width)
    norm("norm", 128)
    dense("fc.0", classes, 128)
    return {f"mod.{name}": shape for name, shape in found.items()}


def state_dict(inputs: int = 17, classes: int = 10, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of the public names and shapes: factors near 1, positive variances."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(inputs, classes).items():
        draw = torch.randn(shape, generator=generator)
        near_one = len(shape) == 1 and name.endswith((".weight", "running_var", "c_attn", "w_resid"))
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1000)
        elif near_one:
            weights[name] = 1 + 0.2 * draw.abs()
        else:
            weights[name] = draw * (0.2 if len(shape) < 2 else shape[1] ** -0.5)
    return weights


def branches(seed: int = 0) -> list[dict[str, Any]]:
    """Jets of massive particles at large eta of either sign, in numbers that float32 holds, and their momenta."""
    random, jets = np.random.default_rng(seed), []

    def draw(values: Any) -> Any:
        return np.asarray(values, np.float32).astype(np.float64)

    for length, eta in zip(LENGTHS, draw([0.3, -1.4, 1.9, -0.05])):
        pt = draw(np.sort(random.lognormal(2, 1.2, length))[::-1])
        deta, dphi = draw(random.normal(0, 0.2, (2, length)))
        particle_eta, phi = eta + np.sign(eta) * deta, 1.1 + dphi  # JetClass multiplies deta by the sign of the jet
        px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(particle_eta)
        energy = draw(np.sqrt((pt * np.cosh(particle_eta)) ** 2 + random.choice([0.14, 0.5], length) ** 2))
        others = {name: draw(random.normal(0, 2, length)) for name in ("d0", "dz")}
        others |= {name: draw(random.exponential(0.8, length)) for name in ("d0err", "dzerr")}
        others |= {"kind": random.integers(0, len(PUBLISHED_KINDS), length), "charge": random.integers(-1, 2, length)}
        jets.append({"p": np.stack([px, py, pz, energy], 1), "eta": eta, "deta": deta, "dphi": dphi, **others})
    return jets


def rescaled(jet: dict[str, Any], jet_pt: float) -> dict[str, Any]:
    """The jet with momenta scaled to this pt of the sum of its particles, as for Sophon."""
    px, py = jet["p"][:, :2].sum(0)
    return {**jet, "p": jet["p"] * jet_pt / math.hypot(px, py)}


def published_inputs(jet: dict[str, Any]) -> Tensor:
    """The 17 inputs of `JetClass_full.yaml`, in its order."""
    px, py, _, energy = jet["p"].T
    pt, total = np.hypot(px, py), jet["p"].sum(0)

    def scaled(x: Any, offset: float, factor: float) -> Any:
        return np.clip((x - offset) * factor, -5, 5)

    columns = [
        scaled(np.log(pt), 1.7, 0.7), scaled(np.log(energy), 2.0, 0.7),
        scaled(np.log(pt / np.hypot(total[0], total[1])), -4.7, 0.7),
        scaled(np.log(energy / total[3]), -4.7, 0.7), scaled(np.hypot(jet["deta"], jet["dphi"]), 0.2, 4.0),
        jet["charge"], *(jet["kind"] == code for code in range(len(PUBLISHED_KINDS))),
        np.tanh(jet["d0"]), np.clip(jet["d0err"], 0, 1), np.tanh(jet["dz"]), np.clip(jet["dzerr"], 0, 1),
        jet["deta"], jet["dphi"],
    ]  # fmt: skip
    return torch.tensor(np.stack(columns, 1), dtype=torch.float64)


def newer_names(state: Weights) -> dict[str, Tensor]:
    """The state dict in the names of weaver since June 2024, which has an attention of its own."""
    return {name.replace(".in_proj_", ".in_proj."): value for name, value in state.items()}


def sophon(state: Weights) -> dict[str, Tensor]:
    """The state dict with the head of Sophon: a hidden layer, 188 classes."""
    body = {name: value for name, value in state.items() if ".fc." not in name}
    sizes = {"fc.0.0.weight": (512, 128), "fc.0.0.bias": (512,), "fc.1.weight": (188, 512), "fc.1.bias": (188,)}
    return body | {f"mod.{name}": torch.zeros(size) for name, size in sizes.items()}


def logits(state: Weights, features: Tensor, vectors: Tensor, *, swap: bool = True) -> Tensor:
    """Logits of one jet from its inputs `[particle, input]` and four-momenta (px, py, pz, E) `[particle, 4]`.

    With `swap`, number d of head h goes to place 8 d + h after the factors of the heads, and not to 16 h + d.
    """
    w = {name.removeprefix("mod."): value.double() for name, value in state.items()}

    def normed(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def dense(x: Tensor, name: str) -> Tensor:
        return linear(x, w[f"{name}.weight"].flatten(1), w[f"{name}.bias"])

    def batch_normed(x: Tensor, name: str) -> Tensor:
        deviation = (w[f"{name}.running_var"] + 1e-5).sqrt()
        return (x - w[f"{name}.running_mean"]) / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def block(x: Tensor, name: str, bias: Tensor | float, cls: Tensor | None = None) -> Tensor:
        own = x if cls is None else cls
        keys = normed(x if cls is None else torch.cat([cls, x]), f"{name}.pre_attn_norm")
        queries = keys if cls is None else cls
        matrix, offset = w[f"{name}.attn.in_proj_weight"], w[f"{name}.attn.in_proj_bias"]
        q = linear(queries, matrix[:128], offset[:128])
        k = linear(keys, matrix[128:256], offset[128:256])
        v = linear(keys, matrix[256:], offset[256:])
        heads = []
        for head in range(8):
            part = slice(16 * head, 16 * head + 16)
            scores = q[:, part] @ k[:, part].T / math.sqrt(16)
            scores = scores + (bias if isinstance(bias, float) else bias[head])
            heads.append(scores.softmax(1) @ v[:, part])
        mixed = dense(torch.cat(heads, dim=1), f"{name}.attn.out_proj")
        mixed = mixed * w[f"{name}.c_attn"].repeat_interleave(16)
        if swap:
            mixed = mixed[:, [16 * (place % 8) + place // 8 for place in range(128)]]
        own = own + normed(mixed, f"{name}.post_attn_norm")
        hidden = gelu(dense(normed(own, f"{name}.pre_fc_norm"), f"{name}.fc1"))
        return w[f"{name}.w_resid"] * own + dense(normed(hidden, f"{name}.post_fc_norm"), f"{name}.fc2")

    x = batch_normed(features.double(), "embed.input_bn")
    for index in (0, 3, 6):
        x = gelu(dense(normed(x, f"embed.embed.{index}"), f"embed.embed.{index + 1}"))
    u = batch_normed(pairs(vectors.double()), "pair_embed.embed.0")
    for index in (1, 4, 7, 10):
        u = gelu(batch_normed(dense(u, f"pair_embed.embed.{index}"), f"pair_embed.embed.{index + 1}"))
    for index in range(8):
        x = block(x, f"blocks.{index}", u.permute(2, 0, 1))
    cls = w["cls_token"][0]
    for index in range(2):
        cls = block(x, f"cls_blocks.{index}", 0.0, cls)
    return dense(normed(cls, "norm"), "fc.0")[0]


def pairs(p: Tensor) -> Tensor:
    """ln kT, ln z, ln dR and ln m^2 of all pairs, `[particle, particle, 4]`."""
    rows = []
    for a in p.tolist():
        row = []
        for b in p.tolist():
            pt_a, pt_b = math.hypot(a[0], a[1]), math.hypot(b[0], b[1])
            rapidity_a, rapidity_b = (0.5 * math.log((q[3] + q[2]) / (q[3] - q[2])) for q in (a, b))
            phi = (math.atan2(a[1], a[0]) - math.atan2(b[1], b[0]) + math.pi) % (2 * math.pi) - math.pi
            delta = math.sqrt((rapidity_a - rapidity_b) ** 2 + phi**2)
            total = [i + j for i, j in zip(a, b)]
            m2 = total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2
            values = (min(pt_a, pt_b) * delta, min(pt_a, pt_b) / (pt_a + pt_b), delta, m2)
            row.append([math.log(max(value, 1e-8)) for value in values])
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)
