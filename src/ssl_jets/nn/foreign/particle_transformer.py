"""Particle Transformer (ParT, arXiv:2202.03772) as a foreign encoder, for checkpoints of weaver-core.

    b_ij = MLP(ln kT, ln z, ln dR, ln m^2)                     pair bias, the same in all blocks
    x  <- x + norm(P s_h attention(norm(x), b))                blocks of particles, s_h a factor on each head
    x  <- r x + W_2 norm(GELU(W_1 norm(x)))                    r a factor on each number of the residual
    c  <- the same with queries from c, keys and values from norm(c, x), without b        class attention
    z = norm(c)

P is the identity in weaver since June 2024 (0.5). The earlier code, which trained the public checkpoints, swaps heads
and their numbers there: number d of head h becomes number h of group d.

Inputs are standardized by the constants of its authors. Jet pt and energy are sums over the particles, as in the
training data. Masses and rapidities need eta of the jet (`jet_eta` of the context); without it
particles are massless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_jets.jets import KINDS, Jets
from ssl_jets.nn.attention.attend import fused_attention
from ssl_jets.nn.foreign.part_checkpoint import translate_part
from ssl_jets.nn.foreign.registry import Translated

Inputs = Literal["kin", "kinpid", "full"]
_KINEMATIC = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "dr")
_IDENTITY = ("charge", *KINDS[:5])
_TRACK = ("tanh_d0", "d0err", "tanh_dz", "dzerr")
INPUTS: Mapping[str, tuple[str, ...]] = {
    "kin": (*_KINEMATIC, "deta", "dphi"),
    "kinpid": (*_KINEMATIC, *_IDENTITY, "deta", "dphi"),
    "full": (*_KINEMATIC, *_IDENTITY, *_TRACK, "deta", "dphi"),
}
"""Inputs of the three public models, in their order."""
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "kin": ("pt", "deta", "dphi", "energy"),
    "kinpid": ("pt", "deta", "dphi", "energy", "charge", "kind"),
    "full": ("pt", "deta", "dphi", "energy", "charge", "kind", "d0", "d0err", "dz", "dzerr"),
}
SCALES = {
    "log_pt": (1.7, 0.7),
    "log_energy": (2.0, 0.7),
    "log_pt_rel": (-4.7, 0.7),
    "log_energy_rel": (-4.7, 0.7),
    "dr": (0.2, 4.0),
}
"""Offset a and factor b of the inputs clip((x - a) b, -5, 5); the others are not scaled."""
_TINY = 1e-8
_PAIRS_AT_ONCE = 1 << 20
"""Most pairs of particles of one forward pass in evaluation mode: 64 numbers of each pair are 256 MiB."""


class ParticleTransformer(nn.Module):
    """Particle Transformer; the defaults are the public models.

    Args:
        inputs: kinematics; also charge and kind; also impact parameters.
        embed: widths of the layers that embed a particle; the last one is the width of a token.
        pair: widths of the hidden layers of the pair bias.
        heads: attention heads.
        blocks: blocks of attention among particles.
        class_blocks: blocks of class attention.
        pair_activation: GELU after the last layer of the pair bias, as in the public models.
        dropout: dropout of the blocks of particles during training.
        swap_heads: swap heads and their numbers after the factors of the heads, as in the public models.
        jet_pt: scale the momenta of each jet to this pt [GeV], 500 for Sophon (2405.12972); None keeps them.
    """

    context = ("jet_eta",)
    recorded = ("swap_heads",)

    def __init__(
        self,
        *,
        inputs: Inputs = "full",
        embed: Sequence[int] = (128, 512, 128),
        pair: Sequence[int] = (64, 64, 64),
        heads: int = 8,
        blocks: int = 8,
        class_blocks: int = 2,
        pair_activation: bool = True,
        dropout: float = 0.1,
        swap_heads: bool = True,
        jet_pt: float | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.columns, self.jet_pt = INPUTS[inputs], _COLUMNS[inputs], jet_pt
        self.width = self.dim = embed[-1]
        self.input_norm = nn.BatchNorm1d(len(self.inputs))
        layers = [(nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()) for a, b in pairwise((len(self.inputs), *embed))]
        self.embed = nn.Sequential(*(module for layer in layers for module in layer))
        steps: list[nn.Module] = [nn.BatchNorm1d(4)]
        for before, after in pairwise((4, *pair, heads)):
            steps += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.GELU()]
        self.pair = nn.Sequential(*(steps if pair_activation else steps[:-1]))
        self.class_token = nn.Parameter(0.02 * torch.randn(self.width))
        self.blocks = nn.ModuleList(Block(self.width, heads, dropout, swap_heads) for _ in range(blocks))
        self.class_blocks = nn.ModuleList(Block(self.width, heads, 0.0, swap_heads) for _ in range(class_blocks))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, jets: Jets) -> tuple[Tensor, Tensor]:
        """Return z `[jet, dim]` and tokens `[particle, width]`."""
        if self.training or not len(jets):
            return self._encode(jets)
        size = max(1, _PAIRS_AT_ONCE // max(1, int(jets.lengths.max())) ** 2)
        pieces = [self._encode(jets.select(index)) for index in torch.arange(len(jets)).to(jets.offsets).split(size)]
        return torch.cat([z for z, _ in pieces]), torch.cat([tokens for _, tokens in pieces])

    def _encode(self, jets: Jets) -> tuple[Tensor, Tensor]:
        longest = max(1, int(jets.lengths.max())) if len(jets) else 1
        _, mask = jets.to_padded(longest)  # [jet, n]
        packed = self.embed(self.input_norm(self.features(jets)))  # [particle, width]
        x = packed.new_zeros(*mask.shape, self.width).masked_scatter(mask.unsqueeze(2), packed)  # [jet, n, width]
        bias = self._bias(jets, mask).to(x.dtype)  # [jet, head, n, n]
        # A jet without particles attends to its padding, which is not read.
        visible = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]  # [jet, 1, 1, n]
        for block in self.blocks:
            x = block(x, x, bias.masked_fill(~visible, -torch.inf))
        tokens = x[mask]  # [particle, width]
        x = x.masked_fill(~mask.unsqueeze(2), 0.0)
        token = self.class_token.to(x.dtype).expand(len(jets), 1, -1)
        keys = nn.functional.pad(mask, (1, 0), value=True)[:, None, None, :]  # the class token and the particles
        for block in self.class_blocks:
            token = block(token, torch.cat([token, x], dim=1), keys)
        return self.norm(token[:, 0]), tokens

    def features(self, jets: Jets) -> Tensor:
        """Return the inputs of each particle, `[particle, input]`; 0 for a column that the jets lack."""
        absent = torch.zeros_like(jets.column("pt"))
        column = {name: jets.column(name) if name in jets.columns else absent for name in _COLUMNS["full"]}
        pt, deta, dphi = column["pt"].clamp(min=_TINY), column["deta"], column["dphi"]
        energy = _four_momenta(jets)[:, 3].float() if "energy" not in jets.columns else column["energy"]
        jet_pt = _jet_pt(jets)[jets.jet_of_particle]
        jet_energy = jets.sum(energy)[jets.jet_of_particle]
        kinds = {name: (column["kind"] == code).float() for code, name in enumerate(KINDS[:5])}
        if "kind" not in jets.columns:
            kinds = dict.fromkeys(kinds, absent)
        scale = 1.0 if self.jet_pt is None else self.jet_pt / jet_pt
        values = {
            "log_pt": (pt * scale).log(),
            "log_energy": (energy.clamp(min=_TINY) * scale).log(),
            "log_pt_rel": (pt / jet_pt).log(),
            "log_energy_rel": (energy.clamp(min=_TINY) / jet_energy).log(),
            "dr": torch.hypot(deta, dphi),
            "charge": column["charge"],
            **kinds,
            "tanh_d0": column["d0"].tanh(),
            "d0err": column["d0err"].clamp(0, 1),
            "tanh_dz": column["dz"].tanh(),
            "dzerr": column["dzerr"].clamp(0, 1),
            "deta": deta,
            "dphi": dphi,
        }
        for name, (offset, factor) in SCALES.items():
            values[name] = ((values[name] - offset) * factor).clamp(-5, 5)
        return torch.stack([values[name] for name in self.inputs], dim=1)

    def _bias(self, jets: Jets, mask: Tensor) -> Tensor:
        """Return the symmetric pair bias `[jet, head, n, n]`, zero for padding."""
        length = mask.shape[1]
        momenta = mask.new_zeros(*mask.shape, 4, dtype=torch.float64)
        momenta[mask] = _four_momenta(jets)  # [jet, n, 4]
        if self.jet_pt is not None:
            momenta *= (self.jet_pt / _jet_pt(jets).double())[:, None, None]
        one, other = torch.tril_indices(length, length, device=mask.device)
        real = mask[:, one] & mask[:, other]  # [jet, pair]
        jet, pair = real.nonzero(as_tuple=True)
        one, other = one[pair], other[pair]
        pairs = pair_features(momenta[jet, one], momenta[jet, other])
        scores: Tensor = self.pair(pairs.float())  # [pair, head]
        bias = scores.new_zeros(len(jets), length, length, scores.shape[1])
        bias = bias.index_put((jet, one, other), scores).index_put((jet, other, one), scores)
        return bias.movedim(3, 1)

    @staticmethod
    def translate(weights: Mapping[str, Tensor]) -> Translated:
        """Translate a checkpoint of weaver's `ParticleTransformer` (see `part_checkpoint.py`)."""
        return translate_part(weights, {len(names): key for key, names in INPUTS.items()})


class Block(nn.Module):
    """Block of attention with norms after attention and activation, and learned factors (NormFormer, 2110.09456)."""

    def __init__(self, width: int, heads: int, dropout: float, swap_heads: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.swap_heads = heads, dropout, swap_heads
        self.norm_in, self.norm_attention = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_mlp, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(4 * width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head_scale = nn.Parameter(torch.ones(heads))
        self.residual_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Update tokens `[jet, query, width]` by attention to `context` `[jet, key, width]`.

        The queries are normalized like the keys in self-attention (`x is context`), and not in class attention.
        `mask` is added to the scores, or true for visible keys; `[jet, head or 1, query or 1, key]`.
        """
        keys = self.norm_in(context)
        queries = keys if x is context else x
        weight, bias = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = (
            nn.functional.linear(tokens, w, b).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [jet, head, token, d]
            for tokens, w, b in zip((queries, keys, keys), weight, bias, strict=True)
        )
        rate = self.dropout if self.training else 0.0
        mixed = fused_attention(q, k, v, mask if mask.dtype == torch.bool else mask.to(q.dtype), dropout=rate)
        update = self.proj(mixed.transpose(1, 2).flatten(2)).unflatten(2, (self.heads, -1))
        update = update * self.head_scale.unsqueeze(1)  # [jet, query, head, d]
        update = (update.transpose(2, 3) if self.swap_heads else update).flatten(2)
        x = x + self._drop(self.norm_attention(update))
        hidden = self._drop(nn.functional.gelu(self.up(self.norm_mlp(x))))
        result: Tensor = self.residual_scale * x + self._drop(self.down(self.norm_hidden(hidden)))
        return result

    def _drop(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, self.dropout, self.training)


def pair_features(one: Tensor, other: Tensor) -> Tensor:
    """Compute ln kT, ln z, ln dR and ln m^2, `[pair, 4]`, of four-momenta (px, py, pz, E) `[pair, 4]`."""
    pt_one, pt_other = one[:, :2].norm(dim=1), other[:, :2].norm(dim=1)
    phi = torch.atan2(one[:, 1], one[:, 0]) - torch.atan2(other[:, 1], other[:, 0])
    phi = torch.remainder(phi + torch.pi, 2 * torch.pi) - torch.pi
    distance = torch.hypot(_rapidity(one) - _rapidity(other), phi)
    softer, total = torch.minimum(pt_one, pt_other), one + other
    mass = total[:, 3].square() - total[:, :3].square().sum(1)
    values = [softer * distance, softer / (pt_one + pt_other).clamp(min=_TINY), distance, mass]
    return torch.stack(values, dim=1).clamp(min=_TINY).log()


def _rapidity(momentum: Tensor) -> Tensor:
    pz, energy = momentum[:, 2], momentum[:, 3]
    return 0.5 * torch.log1p(2 * pz / (energy - pz).clamp(min=1e-20))


def _four_momenta(jets: Jets) -> Tensor:
    """Return (px, py, pz, E) of each particle, float64 `[particle, 4]`, with the jet at phi = 0."""
    pt, deta, dphi = (jets.column(name).double() for name in ("pt", "deta", "dphi"))
    jet_eta = jets.context.get("jet_eta")
    known = torch.zeros(len(jets), device=pt.device) if jet_eta is None else jet_eta
    known = known.double()[jets.jet_of_particle]
    eta = deta + known.nan_to_num(0.0)
    momentum = pt * eta.cosh()
    energy = momentum
    if jet_eta is not None and "energy" in jets.columns:
        energy = jets.column("energy").double().maximum(momentum).where(known.isfinite(), momentum)
    return torch.stack([pt * dphi.cos(), pt * dphi.sin(), pt * eta.sinh(), energy], dim=1)


def _jet_pt(jets: Jets) -> Tensor:
    """Return pt of the sum of the particles of each jet, `[jet]`."""
    pt, dphi = jets.column("pt").clamp(min=_TINY), jets.column("dphi")
    return torch.hypot(jets.sum(pt * dphi.cos()), jets.sum(pt * dphi.sin()))
