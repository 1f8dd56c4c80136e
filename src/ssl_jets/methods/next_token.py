"""Next-token prediction of a tokenizer's codes in falling pt, after a prefix that the encoder reads.

    k_1 ... k_n   = codes of the jet by a trained `tokenizer`, in falling pt; k_{n+1} = stop
    z             = g(the m hardest particles),      m = 0 for a fraction of the jets, else uniform from 1 to n - 1
    h_m ... h_n   = causal transformer(start(z), k_{m+1} ... k_n), with learned positions m ... n
    L = mean over jets of sum over i = m ... n of -log softmax(W h_i)[k_{i+1}] / N  +  a |A z - observables(x)|

N is the mean number of particles of a training jet. A mean over i instead would weight the stop of a short jet more,
and generated jets would be too short. With m = 0 this is OmniJet-alpha (Birk et al., arXiv:2403.05618), and the model
generates jets. With m > 0 it is a prefix language model (Raffel et al., arXiv:1910.10683) whose prefix, read with
continuous features, reaches the decoder through z alone. After a few codes the decoder predicts the next one better
from these than from z, so a linear map of z is also trained to predict jet observables (`nn/observables.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import COLUMNS, Jets, offsets_of
from ssl_jets.methods._method import Method, Tokens
from ssl_jets.nn import masking, random
from ssl_jets.nn.autoregressive.growing import GrowingJets
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.observables import JetObservables
from ssl_jets.nn.transformer import Transformer


class NextToken(Method):
    """Encode the hardest particles, predict the codes of the others one by one."""

    class Config(MethodSettings):
        """Settings of `next_token`."""

        tokenizer: str = ""
        """Run of `tokenizer` whose codes are predicted; there is no default."""
        from_nothing: float = Field(default=0.25, ge=0, le=1)
        """Fraction of the jets without a prefix (m = 0), as in generation."""
        observables_weight: float = Field(default=5.0, ge=0)
        """Weight a of the regression of the whole jet's observables from a linear map of z."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the causal transformer."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the causal transformer; one attention head for every 16."""
        longest: int = Field(default=128, ge=1)
        """Largest multiplicity that is generated; softer particles share the last position."""

    can_generate: ClassVar[bool] = True
    regresses_observables: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("tokenizer",)
    cfg: Config
    mean_length: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = (), *, tokenizer: Method) -> None:
        super().__init__(cfg, encoder, labels)
        self.tokenizer = tokenizer.requires_grad_(False)
        self.stop = cast(Tokens, tokenizer).size  # the code after the last of the codebook
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.codes_in = nn.Embedding(self.stop, width)
        self.positions = nn.Embedding(cfg.longest + 1, width)
        for embedding in (self.codes_in, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.observables = JetObservables(encoder.dim)
        self.register_buffer("mean_length", torch.ones(()))
        self.codes_out = nn.Linear(width, self.stop + 1)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the cross-entropy of each next code and of the stop, its accuracy, and the observables' error."""
        # Example: one jet of n = 4 particles, codes [7, 2, 9, 5] in falling pt, prefix of m = 1.
        prefix_lengths = masking.prefix_lengths(jets, self.cfg.from_nothing)  # [jet]
        prefix = jets.rank_by_pt() < prefix_lengths[jets.jet_of_particle]  # bool [particle]: the hardest one
        rest = jets.keep(~prefix)
        codes = torch.empty_like(rest.jet_of_particle)
        position = rest.offsets[:-1][rest.jet_of_particle] + rest.rank_by_pt()
        codes[position] = cast(Tokens, self.tokenizer).codes(self.whole(jets))[~prefix]  # [2, 9, 5]
        z = self.encoder(jets.keep(prefix), z_only=True).z
        # Input [start(z), 2, 9, 5] at positions 1, 2, 3, 4; targets [2, 9, 5, stop].
        logits, offsets = self._predict(z, prefix_lengths, codes, rest.offsets)
        last = torch.zeros(len(logits), dtype=torch.bool, device=codes.device).index_fill(0, offsets[1:] - 1, True)
        target = torch.full_like(last, self.stop, dtype=torch.int64).masked_scatter(~last, codes)
        entropy = nn.functional.cross_entropy(logits, target, reduction="none")
        rows = Jets(logits, offsets)  # n - m + 1 rows of each jet, here 4
        code_loss = rows.sum(entropy).mean() / self.mean_length
        accuracy = rows.mean((logits.argmax(1) == target).float()).mean()
        observables_loss = self.observables.error(z, jets, self.encoder.features).mean()
        parts = {"code_loss": code_loss, "observables_loss": observables_loss, "accuracy": accuracy}
        loss = code_loss + self.cfg.observables_weight * observables_loss
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the jet observables and the mean number of particles."""
        batches = list(batches)
        self.observables.fit_statistics(batches, self.encoder.features)
        self.mean_length.fill_(float(torch.cat([jets.lengths for jets in batches]).float().mean()))

    def _predict(self, z: Tensor, prefix_lengths: Tensor, codes: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits after the start of each jet and after each of its codes, `[row, code]`, and their offsets.

        Each jet has one row more than codes: offsets [0, 3, 7] of the codes become [0, 4, 9] of the rows.
        """
        offsets = offsets + torch.arange(len(offsets), device=offsets.device)
        lengths = offsets[1:] - offsets[:-1]
        row = torch.arange(int(offsets[-1]), device=offsets.device)
        position = row + torch.repeat_interleave(prefix_lengths - offsets[:-1], lengths)
        start = torch.zeros_like(row, dtype=torch.bool).index_fill(0, offsets[:-1], True)
        x = self.positions(position.clamp(max=self.cfg.longest))  # [row, width]
        x = x.index_put((start,), self.z_in(z).float(), accumulate=True)
        x = x.index_put((~start,), self.codes_in(codes), accumulate=True)
        decoded = self.decoder(x, offsets, x.new_empty(len(z), 0, x.shape[1]), causal=True)[1]
        return self.codes_out(decoded).float(), offsets

    @torch.no_grad()
    def generate(self, jets: int) -> Jets:
        """Draw new jets: codes one by one until the stop, decoded to particles by the tokenizer."""
        device, longest = self.codes_out.weight.device, self.cfg.longest
        offsets = torch.zeros(jets + 1, dtype=torch.int64).to(device)
        empty = Jets(torch.zeros(0, len(COLUMNS), device=device), offsets)
        codes = torch.full((jets, longest), self.stop, device=device)
        growing, decoder = torch.arange(jets, device=device), GrowingJets(self.decoder, jets, longest)
        before = self.z_in(self.encoder(empty, z_only=True).z).float()  # then the codes drawn, embedded
        for length in range(longest):
            logits = self.codes_out(decoder.append(before + self.positions.weight[length])).float()
            if length == 0:  # no jet is empty
                logits[:, self.stop] = -torch.inf
            codes[growing, length] = drawn = random.choose(logits)
            more = (drawn != self.stop).nonzero()[:, 0]
            if not len(more):
                break
            decoder.keep(more)
            growing, before = growing[more], self.codes_in(drawn[more])
        is_particle = codes != self.stop
        return cast(Tokens, self.tokenizer).particles(codes[is_particle], offsets_of(is_particle.sum(1)))
