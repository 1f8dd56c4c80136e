"""Flow matching: networks that transport noise to data along an ordinary differential equation.

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
from ssl_jets.nn.masking import decoder_input
from ssl_jets.nn.transformer import Transformer, init_weights


def interpolant(data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the point at time t of the straight path from noise to data, and its velocity.

    Args:
        data: `[row, width]`.
        noise: `[row, width]`.
        t: `[row]`, 0 at the noise and 1 at the data.

    Returns:
        x_t and dx_t/dt = data - noise, `[row, width]`.
    """
    return torch.lerp(noise, data, t.unsqueeze(1)), data - noise


def precondition(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return skip, out and into of v(x, t) = skip x + out F(into x, t), with a network F of order one.

    skip x is the exact velocity for standard normal data: with F = 0 the flow maps noise to normal numbers, a good
    first guess for standardized data, and F learns only the difference. As in EDM (Karras et al., arXiv:2206.00364),
    for the straight path: skip = (2t - 1) / s^2 and out = into = 1 / s with the variance of x_t,
    s^2 = t^2 + (1 - t)^2. Each is `[row, 1]` for t `[row]`.
    """
    t = t.unsqueeze(1)
    variance = t.square() + (1 - t).square()
    return (2 * t - 1) / variance, variance.rsqrt(), variance.rsqrt()


@torch.no_grad()
def integrate(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from the noise at t = 0 to t = 1; midpoint rule, two evaluations a step."""
    x, step = noise, 1 / steps
    for number in range(steps):
        t = number * step
        middle = x + step / 2 * velocity(x, t)
        x = x + step * velocity(middle, t + step / 2)
    return x


class TimeEmbedding(nn.Module):
    """Embedding of t `[row]` in [0, 1] to `[row, width]`: sines and cosines of 1 to 100 rad, then an MLP."""

    angles: Tensor

    def __init__(self, width: int, waves: int = 16) -> None:
        super().__init__()
        self.register_buffer("angles", torch.logspace(0, 2, waves), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * waves, width), nn.GELU(), nn.Linear(width, width))
        self.apply(init_weights)

    def forward(self, t: Tensor) -> Tensor:
        """Embed t `[row]`, `[row, width]`."""
        phase = t.unsqueeze(1) * self.angles
        out: Tensor = self.mlp(torch.cat([phase.sin(), phase.cos()], dim=1))
        return out


class VectorFlow(nn.Module):
    """Velocity field of vectors, an MLP: the prior over z, or p(vector | condition).

    Args:
        dim: width of a vector.
        width: width of the MLP.
        condition: width of the condition; 0 without one.
    """

    def __init__(self, dim: int, width: int, condition: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.data_in = nn.Linear(dim, width)
        self.time = TimeEmbedding(width)
        self.hidden = nn.Linear(width, width)
        self.velocity_out = nn.Linear(width, dim)
        self.condition_in = nn.Linear(condition, width) if condition else None
        for layer in (self.data_in, self.hidden, self.velocity_out, self.condition_in):
            if layer is not None:
                init_weights(layer)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the velocity `[row, dim]` of x `[row, dim]` at the times t `[row]`, given `[row, condition]`."""
        skip, out, into = precondition(t)
        hidden = self.data_in(into * x) + self.time(t)
        if self.condition_in is not None and condition is not None:
            hidden = hidden + self.condition_in(condition)
        hidden = nn.functional.gelu(hidden)
        hidden = nn.functional.gelu(hidden + self.hidden(hidden))
        velocity: Tensor = skip * x + out * self.velocity_out(hidden).float()
        return velocity

    def sample(self, noise: Tensor, steps: int) -> Tensor:
        """Transport standard normal noise `[row, dim]` to vectors `[row, dim]`."""
        return integrate(lambda x, t: self(x, x.new_full((len(x),), t)), noise, steps)


@dataclass(eq=False)
class Condition:
    """Condition of a `SetFlow`: z of each jet, and its known particles.

    Attributes:
        z: `[jet, dim]`.
        offsets: of the complete jets, int64 `[jet + 1]`.
        generated: the particles to generate, bool `[particle]`.
        present: the targets present in the data, float `[TARGETS]`: 0 for a missing column.
        tokens: of the known particles, `[known particle, width]`; None if all particles are generated.
    """

    z: Tensor
    offsets: Tensor
    generated: Tensor
    present: Tensor
    tokens: Tensor | None = None

    @property
    def jet_of_generated(self) -> Tensor:
        """The jet of each generated particle, int64 `[generated particle]`."""
        jets = torch.arange(len(self.z), device=self.offsets.device)
        return torch.repeat_interleave(jets, self.offsets[1:] - self.offsets[:-1])[self.generated]


class SetFlow(nn.Module):
    """Velocity field of p(particles | z, known particles): a transformer without positions.

    Each generated particle is a token made of its own noised features, which distinguish it from the others, so that
    field and density are permutation invariant. z and t are added to each of them and are tokens as well. A second head
    classifies the signed kind from the same noised features; with the features at t = 1 it is p(kind | features, z),
    from which kinds are drawn. The track features of a neutral particle are constants of the data and stay in the flow,
    so that all features that determine the kind are generated jointly.

    Args:
        dim: dimension of z.
        width: width of the transformer; one attention head for every 16.
        blocks: blocks of the transformer.
        z_tokens: tokens made of z.
        token_width: width of the tokens of known particles; 0 without known particles.
    """

    def __init__(self, dim: int, width: int, blocks: int, z_tokens: int = 1, token_width: int = 0) -> None:
        super().__init__()
        self.width = width
        self.z_in = nn.Linear(dim, (1 + z_tokens) * width)
        self.time = TimeEmbedding(width)
        self.data_in = nn.Linear(TARGETS, width)
        self.tokens_in = nn.Linear(token_width, width) if token_width else None
        self.transformer = Transformer(width, blocks, max(1, width // 16))
        self.velocity_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        for layer in (self.z_in, self.data_in, self.velocity_out, self.kinds_out, self.tokens_in):
            if layer is not None:
                init_weights(layer)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """Return velocity, logits of the signed kind, and output of the transformer at the generated particles.

        Args:
            x: noised features, `[generated particle, TARGETS]`.
            t: time of each jet, `[jet]`.
            condition: z and the known particles.

        Returns:
            `[generated particle, TARGETS]`, `[generated particle, SIGNED_KINDS]`, `[generated particle, width]`.
        """
        jet = condition.jet_of_generated
        skip, out, into = precondition(t[jet])
        z_tokens = self.z_in(condition.z).float().view(len(condition.z), -1, self.width)  # [jet, 1 + z_tokens, width]
        z_tokens = z_tokens + self.time(t).float().unsqueeze(1)
        rows = self.data_in(into * x * condition.present).float() + z_tokens[jet, 0]  # [generated particle, width]
        if self.tokens_in is not None and condition.tokens is not None:
            rows = decoder_input(condition.generated, self.tokens_in(condition.tokens), rows)  # [particle, width]
        decoded = self.transformer(rows, condition.offsets, z_tokens[:, 1:])[1][condition.generated]
        velocity = skip * x + out * self.velocity_out(decoded).float()
        return velocity, self.kinds_out(decoded).float(), decoded

    def errors(
        self, values: Tensor, kinds: Tensor, noise: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the errors of velocity and signed kind, and the output of the transformer.

        The first is the squared error of the velocity averaged over the targets present, the second the cross-entropy
        of the signed kind, 0 for an unknown kind (-1); both `[generated particle]`.

        Args:
            values: standardized targets, `[generated particle, TARGETS]`.
            kinds: signed kinds, int64 `[generated particle]`.
            noise: standard normal, `[generated particle, TARGETS]`.
            t: time of each jet, `[jet]`.
            condition: z and the known particles.
        """
        noised, velocity = interpolant(values, noise, t[condition.jet_of_generated])
        prediction, logits, decoded = self(noised, t, condition)
        return *_errors(prediction - velocity, logits, kinds, condition.present), decoded

    @torch.no_grad()
    def sample(self, noise: Tensor, condition: Condition, steps: int) -> tuple[Tensor, Tensor]:
        """Draw particles: standardized targets `[generated particle, TARGETS]` and signed kinds, int64.

        Args:
            noise: standard normal, `[generated particle, TARGETS + 1]`; the last number chooses the kind, so that with
                the same noise particles vary continuously with z.
            condition: z and the known particles.
            steps: integration steps.
        """
        ones = condition.z.new_ones(len(condition.z))
        values = integrate(lambda x, t: self(x, t * ones, condition)[0], noise[:, :TARGETS], steps)
        return values, _draw_kinds(self(values, ones, condition)[1], noise[:, TARGETS:])


class ParticleFlow(nn.Module):
    """Velocity field of p(particle | condition): an MLP of one particle, as the head of MAR (arXiv:2406.11838).

        h = W x_t,  h <- h + MLP(norm(h + time(t) + C c)) twice,  v and the logits of the signed kind are linear in h

    Args:
        condition: width of the condition c.
        width: width of the MLP.
        blocks: its residual blocks.
    """

    def __init__(self, condition: int, width: int, blocks: int = 2) -> None:
        super().__init__()
        self.data_in, self.condition_in = nn.Linear(TARGETS, width), nn.Linear(condition, width)
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.velocity_out, self.kinds_out = nn.Linear(width, TARGETS), nn.Linear(width, SIGNED_KINDS)
        self.apply(init_weights)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity `[particle, TARGETS]` and the logits of the signed kind.

        Args:
            x: noised features, `[particle, TARGETS]`.
            t: time of each particle, `[particle]`.
            condition: `[particle, condition]`.
            present: the targets present in the data, float `[TARGETS]`.
        """
        skip, out, into = precondition(t)
        hidden = self.data_in(into * x * present).float()
        context = (self.time(t) + self.condition_in(condition)).float()
        for block in self.blocks:
            hidden = hidden + block(hidden + context).float()
        return skip * x + out * self.velocity_out(hidden).float(), self.kinds_out(hidden).float()

    def errors(
        self, values: Tensor, kinds: Tensor, noise: Tensor, t: Tensor, condition: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the errors of velocity and signed kind as `SetFlow.errors`, with t of each particle."""
        noised, velocity = interpolant(values, noise, t)
        prediction, logits = self(noised, t, condition, present)
        return _errors(prediction - velocity, logits, kinds, present)

    @torch.no_grad()
    def sample(self, noise: Tensor, condition: Tensor, present: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Draw particles as `SetFlow.sample`: standardized targets and signed kinds."""
        ones = noise.new_ones(len(noise))
        values = integrate(lambda x, t: self(x, t * ones, condition, present)[0], noise[:, :TARGETS], steps)
        return values, _draw_kinds(self(values, ones, condition, present)[1], noise[:, TARGETS:])


def _errors(difference: Tensor, logits: Tensor, kinds: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared difference averaged over the targets present, and the cross-entropy of the signed kind."""
    squared = difference.square() * present
    error = squared.sum(1) / present.sum().clamp(min=1)
    return error, nn.functional.cross_entropy(logits, kinds, ignore_index=-1, reduction="none")


def _draw_kinds(logits: Tensor, noise: Tensor) -> Tensor:
    """Return the signed kind, int64 `[particle]`, that standard normal noise `[particle, 1]` chooses by its logits."""
    cumulative = logits.softmax(1).cumsum(1)
    uniform = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))  # normal to uniform in [0, 1]
    return (cumulative < uniform).sum(1).clamp(max=SIGNED_KINDS - 1)
