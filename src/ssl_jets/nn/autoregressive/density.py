"""Density of a particle given the harder particles of its jet, which an autoregressive model learns and draws from.

    p(particle | h) = p(kind | h) p(pt | kind, h) p(direction | pt, kind, h) p(energy, track | direction, pt, kind, h)

with a vector h that a causal transformer computes from the particles before. Kind and charge are one softmax. No
particle is harder than the one before: s = ln(ln(pt_before / pt) + `EQUAL`) is a mixture of logistic distributions. The
direction is a mixture of isotropic normal distributions in (deta, dphi), around every particle before with several
widths, and around free centres: radiation is collinear, so most particles are near a harder one, at any scale. Energy
and track come from a flow (`VectorFlow`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn import random
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS, TRACK_TARGETS, Features
from ssl_jets.nn.flow import VectorFlow, integrate, interpolant
from ssl_jets.nn.heads import mlp
from ssl_jets.nn.transformer import init_weights

EQUAL = 0.003
"""Logarithm of the ratio of two pts that count as equal."""

LOGISTICS = 8
"""Components of the density of s."""

WIDTHS = (0.004, 0.012, 0.03, 0.08, 0.25)
"""Widths in (deta, dphi) around a particle before, at the beginning of a training."""

CENTRES = 8
"""Free centres of the density of directions."""

KEY = 16
"""Width of the vectors whose product is the weight of a particle before."""

FLOWING = (1, *TRACK_TARGETS)
"""The targets that the flow draws: energy and track."""


@dataclass(frozen=True)
class Normals:
    """Parameters of the density of the direction of each particle.

    Attributes:
        queries: their product with the key of a particle before is its weight, `[particle, width, KEY]`.
        shift: added to that weight, `[particle, width]`.
        scale: logarithm of the width, `[particle, width]`.
        weight: of the free centres, `[particle, centre]`; all weights are logits of one softmax.
        centre: deta and dphi, `[particle, centre, 2]`.
        centre_scale: logarithm of the width, `[particle, centre]`.
    """

    queries: Tensor
    shift: Tensor
    scale: Tensor
    weight: Tensor
    centre: Tensor
    centre_scale: Tensor


class ParticleDensity(nn.Module):
    """Density of each particle given those before it, in falling pt.

    Args:
        width: width of h.
        flow_width: width of the flow.
        steps: integration steps of the flow.
    """

    def __init__(self, width: int, flow_width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.kind_out = mlp(width, 2 * width, SIGNED_KINDS)
        self.kind_in = nn.Embedding(SIGNED_KINDS + 1, width)  # the last one is an unknown kind
        self.pt_out = mlp(width, 2 * width, 3 * LOGISTICS)
        self.pt_in = mlp(width + 2, 2 * width, width)
        self.direction_out = mlp(width, 2 * width, len(WIDTHS) * (KEY + 2) + 4 * CENTRES)
        self.key = nn.Linear(width, KEY + len(WIDTHS))
        for module in (self.kind_out, self.pt_out, self.pt_in, self.direction_out, self.key):
            module.apply(init_weights)
        self.flow = VectorFlow(len(FLOWING), flow_width, width + 2)

    def errors(self, h: Tensor, jets: Jets, pt_before: Tensor, features: Features) -> Tensor:
        """Compute the errors of each particle, `[particle, 4]`.

        They are -ln p of the kind (0 if unknown), of s and of the direction, and the squared error of the flow's
        velocity, averaged over the targets present.

        Args:
            h: `[particle, width]`; a row knows the particles of its jet before it.
            jets: the jets, their particles in falling pt.
            pt_before: pt of the particle before, for the first one an upper bound, `[particle]` [GeV].
            features: of the encoder.
        """
        values, _, kinds = features.targets(jets)
        kind = nn.functional.cross_entropy(self.kind_out(h).float(), kinds, ignore_index=-1, reduction="none")
        with_kind = h + self.kind_in(kinds.where(kinds >= 0, SIGNED_KINDS))
        s = ((pt_before / jets.column("pt")).log().clamp(min=0) + EQUAL).log()
        pt = -_log_logistics(s, *self._logistics(with_kind))
        context = self._with_pt(with_kind, s, values[:, 0])
        direction = -self._log_direction(h, context, jets)
        flow = self._flow_error(values, context, jets, features)
        return torch.stack([kind, pt, direction, flow], dim=1)

    def _logistics(self, with_kind: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, means and log widths of the density of s, `[particle, LOGISTICS]` each."""
        weight, mean, scale = self.pt_out(with_kind).float().chunk(3, dim=1)
        first = torch.linspace(-5.5, 0.5, LOGISTICS, device=mean.device)
        return weight.log_softmax(1), first + 2 * mean, scale.clamp(-5, 3)

    def _with_pt(self, with_kind: Tensor, s: Tensor, log_pt: Tensor) -> Tensor:
        """Return h with kind and pt, `[particle, width]`; `log_pt` is standardized."""
        context: Tensor = with_kind + self.pt_in(torch.cat([with_kind, s[:, None], log_pt[:, None]], dim=1)).float()
        return context

    def _normals(self, context: Tensor) -> Normals:
        """Return the parameters of the density of the direction."""
        out, widths = self.direction_out(context).float(), len(WIDTHS)
        sizes = [widths * KEY, widths, widths, CENTRES, 2 * CENTRES, CENTRES]
        queries, shift, scale, weight, centre, centre_scale = out.split(sizes, dim=1)
        return Normals(
            queries.unflatten(1, (widths, KEY)) / KEY**0.5,
            shift,
            out.new_tensor(WIDTHS).log() + scale.clamp(-1.5, 1.5),
            weight - 1,
            0.3 * centre.unflatten(1, (CENTRES, 2)),
            (centre_scale - 2).clamp(-6, 0),
        )

    def _log_direction(self, h: Tensor, context: Tensor, jets: Jets) -> Tensor:
        """Compute ln p(deta, dphi) of each particle, `[particle]`."""
        normals, direction = self._normals(context), _directions(jets)
        later, earlier = pairs_before(jets.offsets)
        place = jets.place
        key = self.key(h).float()  # the row after a particle is the first that knows it
        products = _products(normals.queries, key[:, :KEY], jets)
        product = products[jets.jet_of_particle[later], place[later], :, place[earlier] + 1]  # [pair, width]
        weight = product + key[earlier + 1, KEY:] + normals.shift[later]
        around = _log_normal(direction[later] - direction[earlier], normals.scale[later])  # [pair, width]
        free = _log_normal(direction - normals.centre, normals.centre_scale)
        return _log_sum(normals.weight + free, weight + around, later) - _log_sum(normals.weight, weight, later)

    def _flow_error(self, values: Tensor, context: Tensor, jets: Jets, features: Features) -> Tensor:
        """Compute the squared error of the velocity, averaged over the targets present, `[particle]`."""
        present = features.present(jets)[list(FLOWING)]
        goal = torch.cat([_relative_energy(values, features, -1), values[:, list(TRACK_TARGETS)]], dim=1)
        t, noise = random.uniform(jets).float(), random.normal(jets, len(FLOWING))
        noised, velocity = interpolant(goal, noise, t)
        error = self.flow(noised * present, t, torch.cat([context, values[:, 2:4]], dim=1)) - velocity
        mean: Tensor = (error.square() * present).sum(1) / present.sum().clamp(min=1)
        return mean

    @torch.no_grad()
    def draw(self, h: Tensor, jets: Jets, pt_before: Tensor, features: Features) -> Tensor:
        """Draw the last particle of each jet, `[jet, column]` in the order of `COLUMNS`; absent ones mean nothing.

        Args:
            h: `[particle, width]`; a row knows the particles of its jet before it.
            jets: jets of one length; their last particles are not read.
            pt_before: pt of the particle before the last one, or an upper bound of the first one, `[jet]` [GeV].
            features: of the encoder.
        """
        count, row = len(jets), torch.arange(len(jets), device=h.device)
        h = h.unflatten(0, (count, -1))  # [jet, particle, width]
        kinds = random.choose(self.kind_out(h[:, -1]).float())
        known = {"kind", "charge"} <= set(jets.columns)
        with_kind = h[:, -1] + self.kind_in(kinds if known else torch.full_like(kinds, SIGNED_KINDS))
        weight, mean, scale = self._logistics(with_kind)
        chosen, uniform = random.choose(weight), torch.rand(count, device=h.device).clamp(1e-6, 1 - 1e-6)
        s = mean[row, chosen] + scale[row, chosen].exp() * uniform.logit()
        fall = (s.clamp(max=2).exp() - EQUAL).clamp(min=0)  # ln(pt_before / pt), at most 7.4
        values = h.new_zeros(count, TARGETS)
        values[:, 0] = (pt_before.log() - fall - features.mean[0]) / features.std[0]
        context = self._with_pt(with_kind, (fall + EQUAL).log(), values[:, 0])
        values[:, 2:4] = (self._draw_direction(h, context, jets) - features.mean[2:4]) / features.std[2:4]
        values[:, list(FLOWING)] = self._draw_flow(values, context, features.present(jets)[list(FLOWING)])
        values[:, 1:2] = _relative_energy(values, features, 1)
        particles: Tensor = features.particles(values, kinds)
        return particles

    def _draw_direction(self, h: Tensor, context: Tensor, jets: Jets) -> Tensor:
        """Draw deta and dphi, `[jet, 2]`, with h as `[jet, particle, width]`."""
        normals, row = self._normals(context), torch.arange(len(h), device=h.device)
        before = _directions(jets)[:, 0].unflatten(0, h.shape[:2])[:, :-1]
        key = self.key(h[:, 1:]).float()
        weight = normals.queries @ key[..., :KEY].mT + key[..., KEY:].mT + normals.shift[..., None]
        scale = normals.scale[..., None].expand_as(weight)  # [jet, width, particle]
        chosen = random.choose(torch.cat([weight.flatten(1), normals.weight], dim=1))
        centre = torch.cat([before.repeat(1, len(WIDTHS), 1), normals.centre], dim=1)[row, chosen]
        width = torch.cat([scale.flatten(1), normals.centre_scale], dim=1)[row, chosen].exp()
        return centre + width[:, None] * torch.randn_like(centre)

    def _draw_flow(self, values: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Draw the targets of the flow, `[jet, len(FLOWING)]`."""
        condition = torch.cat([context, values[:, 2:4]], dim=1)

        def velocity(x: Tensor, t: float) -> Tensor:
            out: Tensor = present * self.flow(x, x.new_full((len(x),), t), condition)
            return out

        return integrate(velocity, present * torch.randn(len(values), len(FLOWING), device=values.device), self.steps)


def pairs_before(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return all pairs of a particle and one before it in its jet, as indices int64 `[pair]` each.

    Example:
        >>> [side.tolist() for side in pairs_before(torch.tensor([0, 3, 5]))]
        [[1, 2, 2, 4], [0, 0, 1, 3]]
    """
    lengths = offsets[1:] - offsets[:-1]
    first = torch.repeat_interleave(offsets[:-1], lengths)  # [particle], of its jet
    index = torch.arange(len(first), device=offsets.device)
    place = index - first
    later = torch.repeat_interleave(index, place)
    earlier = torch.arange(len(later), device=offsets.device) - (place.cumsum(0) - place)[later] + first[later]
    return later, earlier


def _products(queries: Tensor, keys: Tensor, jets: Jets) -> Tensor:
    """Return the products of queries `[particle, width, KEY]` and keys `[particle, KEY]` of each jet.

    They are padded, `[jet, particle, width, particle]`: products of matrices, without a copy of a query for each key.
    """
    padded = [Jets(vectors.flatten(1), jets.offsets).to_padded()[0] for vectors in (queries, keys)]
    rows = padded[0].unflatten(2, queries.shape[1:]).flatten(1, 2)  # [jet, particle * width, KEY]
    products: Tensor = (rows @ padded[1].mT).unflatten(1, (-1, queries.shape[1]))
    return products


def _directions(jets: Jets) -> Tensor:
    """Return deta and dphi, `[particle, 1, 2]`."""
    return torch.stack([jets.column("deta"), jets.column("dphi")], dim=1).unsqueeze(1)


def _relative_energy(values: Tensor, features: Features, sign: int) -> Tensor:
    """Return the standardized ln E plus or minus ln pt in the same unit, `[row, 1]`."""
    return values[:, 1:2] + sign * values[:, :1] * features.std[0] / features.std[1]


def _log_logistics(x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Compute ln p(x) of a mixture of logistic distributions, `[row]`; `scale` is a logarithm."""
    y = (x[:, None] - mean) * (-scale).exp()
    return (weight - scale - y - 2 * nn.functional.softplus(-y)).logsumexp(1)


def _log_normal(difference: Tensor, scale: Tensor) -> Tensor:
    """Compute ln p of isotropic normal distributions in the plane, `[row, component]`.

    Args:
        difference: from the centres, `[row, component, 2]`, or `[row, 1, 2]` from one centre.
        scale: logarithm of the widths, `[row, component]`.
    """
    return -difference.square().sum(2) * (-2 * scale).exp() / 2 - 2 * scale - math.log(2 * math.pi)


def _log_sum(own: Tensor, others: Tensor, row: Tensor) -> Tensor:
    """Compute ln(sum of exp of `own` `[row, a]` and of those `others` `[pair, b]` that belong to it), `[row]`."""
    own, others = own.logsumexp(1), others.logsumexp(1)
    top = own.detach().scatter_reduce(0, row, others.detach(), "amax")
    return top + (own - top).exp().index_add(0, row, (others - top[row]).exp()).log()
