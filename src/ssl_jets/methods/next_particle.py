"""Next-particle prediction in falling pt, after a prefix that the encoder reads; without tokenizer.

    z            = g(the m hardest particles),      m = 0 for a fraction of the jets, else uniform from 1 to n - 1
    h_m ... h_n  = causal transformer(start(z), x_{m+1} ... x_{n-1}), with learned positions, and for each particle
                   pt, mass and number of particles of the jet, and what the particles before leave of them
    L = mean over jets of mean over i = m + 1 ... n of -ln p(x_i | h_i, x_1 ... x_{i-1})  +  a |A z - observables(x)|

An autoregressive model of jets in falling pt (Finke et al., arXiv:2303.07364, of binned particles; OmniJet-alpha,
arXiv:2403.05618, of tokens), with continuous particles: p is `ParticleDensity`. Jets are drawn from m = 0, with pt,
mass and number of particles of a random training jet. With m > 0, as in `next_token`, the prefix reaches the
predictions through z alone, so that z is trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import COLUMNS, Jets, offsets_of
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.autoregressive.density import ParticleDensity
from ssl_jets.nn.autoregressive.growing import GrowingJets
from ssl_jets.nn.autoregressive.totals import STATE, JetTotals, pt_before_each, totals_of
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import drawn_columns_only
from ssl_jets.nn.transformer import Transformer


class NextParticle(Method):
    """Encode the hardest particles, predict the others one by one."""

    class Config(MethodSettings):
        """Settings of `next_particle`."""

        from_nothing: float = Field(default=0.5, ge=0, le=1)
        """Fraction of the jets without a prefix (m = 0), as in generation."""
        observables_weight: float = Field(default=5.0, ge=0)
        """Weight a of the regression of the whole jet's observables from a linear map of z."""
        decoder_blocks: int = Field(default=4, ge=1)
        """Blocks of the causal transformer."""
        decoder_width: int = Field(default=96, ge=16, multiple_of=16)
        """Width of the causal transformer; one attention head for every 16."""
        longest: int = Field(default=128, ge=1)
        """Number of learned positions by pT rank; softer particles share the last one."""
        flow_width: int = Field(default=96, ge=8)
        """Width of the MLP that draws energy and track of a particle."""
        steps: int = Field(default=12, ge=1)
        """Integration steps for drawing energy and track; each evaluates the MLP twice."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=2e-3))
    can_generate: ClassVar[bool] = True
    loss_can_be_negative: ClassVar[bool] = True  # a logarithm of densities
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.particles_in = nn.Linear(encoder.width, width)
        self.state_in = nn.Linear(STATE, width)
        self.positions = nn.Embedding(cfg.longest + 1, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.density = ParticleDensity(width, cfg.flow_width, cfg.steps)
        self.totals = JetTotals()

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute -ln p of kind, pt and direction of each particle after the prefix, and the error of the flow."""
        jets = jets.by_pt()
        prefix_lengths = masking.prefix_lengths(jets, self.cfg.from_nothing)  # [jet]
        prefix = jets.place < prefix_lengths[jets.jet_of_particle]  # bool [particle]: the hardest ones
        totals = totals_of(jets)
        state, pt_before = self.totals.state(jets, totals), pt_before_each(jets, totals)
        z = self.encoder(jets.keep(prefix), z_only=True).z
        rest = drawn_columns_only(jets.keep(~prefix))
        h = self._decode(z, rest, state[~prefix], jets.place[~prefix])
        errors = self.density.errors(h, rest, pt_before[~prefix], self.encoder.features)
        kind, pt, direction, flow = rest.mean(errors).mean(0)
        parts = {"kind_loss": kind, "pt_loss": pt, "direction_loss": direction, "flow_loss": flow}
        return {"loss": kind + pt + direction + flow} | {name: part.detach() for name, part in parts.items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Store the totals of training jets."""
        self.totals.fit_statistics(batches)

    def _decode(self, z: Tensor, rest: Jets, state: Tensor, place: Tensor) -> Tensor:
        """Return h of each particle, `[particle, decoder width]`, which knows z and the particles before it."""
        before = self._embedded(rest).roll(1, 0)
        before = before.index_copy(0, rest.offsets[:-1], self.z_in(z).float())
        x = self._inputs(before, state, place)
        decoded: Tensor = self.decoder(x, rest.offsets, x.new_empty(len(z), 0, x.shape[1]), causal=True)[1]
        return decoded

    def _embedded(self, jets: Jets) -> Tensor:
        """Return the particles as the causal transformer reads them, `[particle, decoder width]`."""
        embedded: Tensor = self.particles_in(self.encoder.embedded(jets)).float()
        return embedded

    def _inputs(self, before: Tensor, state: Tensor, place: Tensor) -> Tensor:
        """Return the tokens that draw particles, given the one before each, `[particle, decoder width]`."""
        tokens: Tensor = before + self.positions(place.clamp(max=self.cfg.longest)) + self.state_in(state).float()
        return tokens

    @torch.no_grad()
    def generate(self, jets: int) -> Jets:
        """Draw new jets, particle by particle, with pt, mass and number of particles of random training jets."""
        totals = self.totals.draw(jets)
        device, counts = totals.device, totals[:, 2].long()
        longest = int(counts.max())
        drawn = torch.ones(jets, longest, len(COLUMNS), device=device)
        outputs = drawn.new_empty(jets, longest, self.cfg.decoder_width)
        empty = Jets(drawn[:0, 0, :], torch.zeros(jets + 1, dtype=torch.int64, device=device))
        before = self.z_in(self.encoder(self.only_learned(empty), z_only=True).z).float()
        growing, decoder = torch.arange(jets, device=device), GrowingJets(self.decoder, jets, longest)
        for place in range(longest):
            more = (counts[growing] > place).nonzero()[:, 0]
            decoder.keep(more)
            growing, before = growing[more], before[more]
            offsets = torch.arange(len(growing) + 1, device=device) * (place + 1)
            so_far = self.only_learned(Jets(drawn[growing, : place + 1].flatten(0, 1), offsets))
            last = offsets[1:] - 1
            state = self.totals.state(so_far, totals[growing])[last]
            outputs[growing, place] = decoder.append(self._inputs(before, state, torch.full_like(growing, place)))
            pt_before = pt_before_each(so_far, totals[growing])[last]
            h = outputs[growing, : place + 1].flatten(0, 1)
            drawn[growing, place] = self.density.draw(h, so_far, pt_before, self.encoder.features)
            newest = Jets(drawn[growing, place], torch.arange(len(growing) + 1, device=device))
            before = self._embedded(self.only_learned(newest))
        real = torch.arange(longest, device=device) < counts[:, None]
        return self.only_learned(replace(empty, particles=drawn[real], offsets=offsets_of(counts)))
