"""Masked autoregression: each hidden particle is drawn by a flow of its own, given the particles drawn so far.

    hidden      = ceil(r n) of the n particles at random,   r ~ N(1, 0.25) cut to [r_min, 1]
    tokens, z   = g(visible)
    c           = decoder({z, tokens, z + mask token of each hidden particle})[hidden]
    x_t         = (1 - t) n + t x,                          n ~ N(0, 1),  t ~ U(0, 1) for each particle, T times
    L = mean over jets of mean over its hidden particles of
        |v(x_t, t, c) - (x - n)|^2 averaged over the features + w CE(kind and charge | x_t, t, c)

MAR (Li et al., arXiv:2406.11838) on sets, with a rectified flow (arXiv:2209.03003) as head. v is a small MLP; particles
interact in encoder and decoder only. A new jet begins with n drawn from the multiplicities of the training jets, all
hidden; in each of K rounds the model draws some of the hidden particles, independent of each other given c, until
cos(pi/2 k/K) of them are left after round k. Mask tokens go by pT rank among the hidden particles, in training and in
generation, so that a visible particle does not bracket the pt of a hidden one. Columns that are not drawn, such as
features of a schema, are hidden in half of the batches, as they are in generation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import COLUMNS, Jets, offsets_of
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking, random
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import TARGETS
from ssl_jets.nn.flow import ParticleFlow
from ssl_jets.nn.heads import drawn_columns_only, learned_columns
from ssl_jets.nn.transformer import Transformer


class MaskedAutoregression(Method):
    """Hide most particles, encode the rest, transport noise to each hidden one."""

    class Config(MethodSettings):
        """Settings of `mar`."""

        least_hidden: float = Field(default=0.7, ge=0, lt=1)
        """Smallest fraction r_min of a jet's particles that is hidden; the largest is 1."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        head_width: int = Field(default=128, ge=8)
        """Width of the MLP that is the flow of a particle."""
        times: int = Field(default=4, ge=1)
        """Times T drawn for each hidden particle; the MLP is cheap compared with encoder and decoder."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge."""
        mask_tokens: int = Field(default=64, ge=1)
        """Number of mask tokens, by pT rank; softer hidden particles share the last one."""
        most_particles: int = Field(default=128, ge=1)
        """Largest multiplicity that can be generated."""
        rounds: int = Field(default=16, ge=1)
        """Rounds K of generation; each runs encoder and decoder once."""
        steps: int = Field(default=25, ge=1)
        """Integration steps for drawing a particle; each evaluates the MLP twice."""

    can_generate: ClassVar[bool] = True
    cfg: Config
    multiplicity: Tensor
    has_column: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        self.mask_tokens = masking.MaskTokens(cfg.mask_tokens, width)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.head = ParticleFlow(width, cfg.head_width)
        self.register_buffer("multiplicity", torch.ones(cfg.most_particles))  # number of jets with 1, 2, ... particles
        self.register_buffer("has_column", torch.ones(len(COLUMNS)))

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the squared error of the velocity and the cross-entropy on the kind of the hidden particles."""
        drawn = drawn_columns_only(jets)
        if drawn.columns != jets.columns and random.once() < 0.5:  # the encoder learns to read drawn particles
            jets = drawn
        hidden = masking.hide_most(jets, self.cfg.least_hidden)  # bool [particle]
        decoded = self._decode(jets, hidden, masking.hidden_pt_rank(jets, hidden))  # [hidden particle, width]
        masked = jets.keep(hidden)
        values, _, kinds = self.encoder.features.targets(masked)
        present = self.encoder.features.present(jets)
        errors = []
        for _ in range(self.cfg.times):
            t, noise = random.uniform(masked).float(), random.normal(masked, TARGETS)
            errors.append(torch.stack(self.head.errors(values, kinds, noise, t, decoded, present), dim=1))
        flow_loss, kind_loss = masked.mean(torch.stack(errors).mean(0)).mean(0)
        loss = flow_loss + self.cfg.kind_weight * kind_loss
        return {"loss": loss, "flow_loss": flow_loss.detach(), "kind_loss": kind_loss.detach()}

    def _decode(self, jets: Jets, hidden: Tensor, rank: Tensor) -> Tensor:
        """Return the condition c of each hidden particle, `[hidden particle, width]`, given its pT rank among them."""
        z, tokens = self.encoder(jets.keep(~hidden))
        z, tokens, mask_tokens = self.z_in(z), self.tokens_in(tokens), self.mask_tokens(rank)
        return masking.decode_hidden(self.decoder, jets, hidden, z, tokens, mask_tokens)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Count the multiplicities of training jets, and record the columns that they have."""
        most = self.cfg.most_particles
        self.multiplicity.zero_()
        for jets in batches:
            self.multiplicity += torch.bincount(jets.lengths.clamp(1, most) - 1, minlength=most)
            self.has_column.copy_(torch.tensor([float(name in jets.columns) for name in COLUMNS]))

    @torch.no_grad()
    def generate(self, jets: int) -> Jets:
        """Draw new jets: n from the training multiplicities, then the particles in rounds, from none to all."""
        counts = torch.multinomial(self.multiplicity, jets, replacement=True) + 1
        drawn = Jets(torch.zeros(int(counts.sum()), len(COLUMNS), device=counts.device), offsets_of(counts))
        return self.complete(drawn, torch.ones_like(drawn.jet_of_particle, dtype=torch.bool), 1)[0]

    @torch.no_grad()
    def complete(self, jets: Jets, hidden: Tensor, samples: int) -> list[Jets]:
        """Draw the hidden particles (bool `[particle]`), `samples` times; in columns that jets and training have."""
        learned = learned_columns([name for name, there in zip(COLUMNS, self.has_column, strict=True) if there])
        jets = jets.without([name for name in jets.columns if name not in learned])
        return [self._complete(jets, hidden) for _ in range(samples)]

    def _complete(self, jets: Jets, hidden: Tensor) -> Jets:
        """Draw the hidden particles in rounds."""
        counts, rounds, drawn = jets.sum(hidden.long()), self.cfg.rounds, jets.particles.clone()
        jets = replace(jets, particles=drawn)  # `drawn` is filled in place
        for number in range(1, rounds + 1):
            left = jets.sum(hidden.long())
            after = (counts * math.cos(math.pi / 2 * number / rounds)).long() if number < rounds else 0 * counts
            now = left - after.minimum(left - 1).clamp(min=0)  # 40 particles, 16 rounds: 1, 1, 1, 1, 1, 2 ... 4, 4, 3
            in_random_order = jets.rank_within(random.uniform(jets) + (~hidden).double())
            chosen = hidden & (in_random_order < now[jets.jet_of_particle])
            drawn[chosen] = self._draw(jets, hidden, chosen)
            hidden = hidden & ~chosen
        return jets

    def _draw(self, jets: Jets, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Draw the chosen ones of the hidden particles, `[chosen particle, column]`; hidden rows are in falling pt."""
        condition = self._decode(jets, hidden, jets.keep(hidden).place)[chosen[hidden]]
        present = self.encoder.features.present(jets)
        noise = random.normal(jets.keep(chosen), TARGETS + 1)
        particles = self.encoder.features.particles(*self.head.sample(noise, condition, present, self.cfg.steps))
        return particles[:, [COLUMNS.index(name) for name in jets.columns]]
