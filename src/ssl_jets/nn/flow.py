"""Flow matching: networks that carry noise to data along an ordinary differential equation.

    x_t   = (1 - t) n + t x,    n ~ N(0, 1),  t in [0, 1]
    L     = E |v(x_t, t) - (x - n)|^2
    dx/dt = v(x, t),            from t = 0 (noise) to t = 1 (data)

Lipman et al., arXiv:2210.02747 (their optimal-transport path with sigma_min = 0); rectified flow: Liu et al.,
arXiv:2209.03003. On sets: SSFM (arXiv:2409.12589).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.transformer import Transformer, init_weights


def interpolant(data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Where the straight path from noise to data is at time t, and its velocity.

    Args:
        data, noise: `[row, width]`.
        t: `[row]`, 0 at the noise and 1 at the data.

    Returns:
        x_t and dx_t/dt = data - noise, `[row, width]`.
    """
    return torch.lerp(noise, data, t.unsqueeze(1)), data - noise


def precondition(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """skip, out and into of v(x, t) = skip x + out F(into x, t), F being a network of order one.

    skip x is the exact velocity where the data are standard normal: a network that says nothing carries noise to normal
    numbers, which is what standardised data are at first sight, and F has only the rest to learn. As in EDM (Karras et
    al., arXiv:2206.00364), for the straight path: skip = (2t - 1) / s^2 and out = into = 1 / s with the variance of
    x_t, s^2 = t^2 + (1 - t)^2. Each is `[row, 1]` for t `[row]`.
    """
    t = t.unsqueeze(1)
    variance = t.square() + (1 - t).square()
    return (2 * t - 1) / variance, variance.rsqrt(), variance.rsqrt()


@torch.no_grad()
def integrate(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Follow dx/dt = velocity(x, t) from the noise at t = 0 to t = 1 by the midpoint rule, two evaluations a step."""
    x, step = noise, 1 / steps
    for number in range(steps):
        t = number * step
        middle = x + step / 2 * velocity(x, t)
        x = x + step * velocity(middle, t + step / 2)
    return x


class TimeEmbedding(nn.Module):
    """t `[row]` in [0, 1] to `[row, width]`: sines and cosines of 1 to 100 rad, then an MLP."""

    angles: Tensor

    def __init__(self, width: int, waves: int = 16) -> None:
        super().__init__()
        self.register_buffer("angles", torch.logspace(0, 2, waves), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * waves, width), nn.GELU(), nn.Linear(width, width))
        self.apply(init_weights)

    def forward(self, t: Tensor) -> Tensor:
        """`[row, width]`."""
        phase = t.unsqueeze(1) * self.angles
        out: Tensor = self.mlp(torch.cat([phase.sin(), phase.cos()], dim=1))
        return out


class VectorFlow(nn.Module):
    """The velocity field of plain vectors, an MLP: a prior over z.

    Args:
        dim: numbers of a vector.
        width: width of the two hidden layers.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.dim = dim
        self.data_in = nn.Linear(dim, width)
        self.time = TimeEmbedding(width)
        self.hidden = nn.Linear(width, width)
        self.velocity_out = nn.Linear(width, dim)
        for layer in (self.data_in, self.hidden, self.velocity_out):
            init_weights(layer)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity `[row, dim]` of x `[row, dim]` at the times t `[row]`."""
        skip, out, into = precondition(t)
        hidden = nn.functional.gelu(self.data_in(into * x) + self.time(t))
        hidden = nn.functional.gelu(hidden + self.hidden(hidden))
        velocity: Tensor = skip * x + out * self.velocity_out(hidden).float()
        return velocity

    def sample(self, noise: Tensor, steps: int) -> Tensor:
        """Vectors `[row, dim]` from standard normal noise `[row, dim]`."""
        return integrate(lambda x, t: self(x, x.new_full((len(x),), t)), noise, steps)


@dataclass(eq=False)
class Condition:
    """What a `SetFlow` is told of each jet.

    Attributes:
        z: `[jet, dim]`.
        offsets: of the complete jets, int64 `[jet + 1]`.
        made: the particles to make, bool `[particle]`.
        tokens: what is known of the others, `[other particle, width]`; None where all are to be made.
        present: the targets that the data have, float `[TARGETS]`: 0 where a column is missing.
    """

    z: Tensor
    offsets: Tensor
    made: Tensor
    present: Tensor
    tokens: Tensor | None = None

    @property
    def owner(self) -> Tensor:
        """The jet of each particle to make, int64 `[made particle]`."""
        jets = torch.arange(len(self.z), device=self.offsets.device)
        return torch.repeat_interleave(jets, self.offsets[1:] - self.offsets[:-1])[self.made]


class SetFlow(nn.Module):
    """The velocity field of the particles of a jet, p(particles | z, known particles): a transformer without positions.

    Every particle to make is a token made of its own noised features, which tell it from the others: the field, and so
    the density, is blind to the order of the particles. z and t are added to each of them and are tokens besides. A
    second head classifies the signed kind from the same noised features; with the features at t = 1 it is
    p(kind | features, z), from which kinds are drawn. The track features of a neutral particle are constants of the
    data and are made as such, so that what decides the kind is made together with the rest.

    Args:
        dim: numbers of z.
        width: width of the transformer; it has one head for every 16.
        blocks: its blocks.
        z_tokens: tokens made of z.
        token_width: width of the tokens of known particles; 0 where there are none.
    """

    def __init__(self, dim: int, width: int, blocks: int, z_tokens: int = 1, token_width: int = 0) -> None:
        super().__init__()
        self.width = width
        self.z_in = nn.Linear(dim, (1 + z_tokens) * width)
        self.time = TimeEmbedding(width)
        self.data_in = nn.Linear(TARGETS, width)
        self.tokens_in = nn.Linear(token_width, width) if token_width else None
        self.trunk = Transformer(width, blocks, max(1, width // 16))
        self.velocity_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        for layer in (self.z_in, self.data_in, self.velocity_out, self.kinds_out, self.tokens_in):
            if layer is not None:
                init_weights(layer)

    def forward(self, x: Tensor, t: Tensor, given: Condition) -> tuple[Tensor, Tensor]:
        """Velocity `[made particle, TARGETS]` and logits of the signed kind `[made particle, SIGNED_KINDS]`.

        Args:
            x: noised features, `[made particle, TARGETS]`.
            t: time of each jet, `[jet]`.
            given: what is known.
        """
        owner = given.owner
        skip, out, into = precondition(t[owner])
        of_jet = self.z_in(given.z).float().view(len(given.z), -1, self.width)
        of_jet = of_jet + self.time(t).float().unsqueeze(1)
        rows = self.data_in(into * x * given.present).float() + of_jet[owner, 0]
        if self.tokens_in is not None and given.tokens is not None:
            made, rows = rows, rows.new_empty(len(given.made), rows.shape[1])
            rows = rows.index_put((~given.made,), self.tokens_in(given.tokens).to(rows.dtype))
            rows = rows.index_put((given.made,), made)
        decoded = self.trunk(rows, given.offsets, of_jet[:, 1:])[1][given.made]
        return skip * x + out * self.velocity_out(decoded).float(), self.kinds_out(decoded).float()

    def errors(
        self, values: Tensor, kinds: Tensor, noise: Tensor, t: Tensor, given: Condition
    ) -> tuple[Tensor, Tensor]:
        """Of each particle to make, the squared error of the velocity averaged over the targets present, and the
        cross-entropy of its signed kind (0 where that is -1, unknown), both `[made particle]`.

        Args:
            values: standardised targets, `[made particle, TARGETS]`.
            kinds: signed kinds, int64 `[made particle]`.
            noise: standard normal, `[made particle, TARGETS]`.
            t: time of each jet, `[jet]`.
            given: what is known.
        """
        x, velocity = interpolant(values, noise, t[given.owner])
        predicted, logits = self(x, t, given)
        error = ((predicted - velocity).square() * given.present).sum(1) / given.present.sum().clamp(min=1)
        return error, nn.functional.cross_entropy(logits, kinds, ignore_index=-1, reduction="none")

    @torch.no_grad()
    def sample(self, noise: Tensor, given: Condition, steps: int) -> tuple[Tensor, Tensor]:
        """Particles from noise: standardised targets `[made particle, TARGETS]` and signed kinds int64.

        Args:
            noise: standard normal, `[made particle, TARGETS + 1]`; the last number chooses the kind, so that equal
                noise and slowly changing z give slowly changing particles.
            given: what is known.
            steps: steps of the integration.
        """
        jets = given.z.new_ones(len(given.z))
        values = integrate(lambda x, t: self(x, t * jets, given)[0], noise[:, :TARGETS], steps)
        shares = self(values, jets, given)[1].softmax(1).cumsum(1)
        chosen = 0.5 * (1 + torch.erf(noise[:, TARGETS:] / math.sqrt(2)))
        return values, (shares < chosen).sum(1).clamp(max=SIGNED_KINDS - 1)
