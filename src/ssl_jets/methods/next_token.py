"""Next-token prediction of a tokenizer's codes, from the hardest particle to the softest, after a part that is read.

    k_1 ... k_n   = codes of the jet by a trained `tokenizer`, in falling pt; k_{n+1} = stop
    z             = g(the m hardest particles),      m = 0 for a share of the jets, else uniform from 1 to n - 1
    h_m ... h_n   = causal transformer(start(z), k_{m+1} ... k_n), each with its place 0 ... n in the jet
    L = mean over jets of sum over i = m ... n of -log softmax(W h_i)[k_{i+1}] / N  +  a |A z - summary(x)|

N is the mean number of particles of a training jet: a mean over i instead would count a code of a short jet more, and
with it the stop, and jets that are made would be too short. With m = 0 this is OmniJet-alpha (Birk et al.,
arXiv:2403.05618), and the model makes jets from nothing. With m > 0 it is a prefix language model (Raffel et al.,
arXiv:1910.10683) whose prefix reaches the decoder through z alone: z learns to tell of the hard part of a jet all that
helps to foresee the rest. Particles are read with continuous features. After a few codes these say more of the next one
than z does; what all of them amount to (`nn/observables.py`) is for z to tell.
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
from ssl_jets.nn import random
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.observables import JetObservables
from ssl_jets.nn.transformer import Transformer


class NextToken(Method):
    """Read the hardest particles, predict the codes of the others one by one."""

    class Config(MethodSettings):
        """Settings of `next_token`."""

        tokenizer: str = ""
        """Run of `tokenizer` whose codes are predicted; there is no default."""
        from_nothing: float = Field(default=0.25, ge=0, le=1)
        """Share of the jets of which nothing is read, as when jets are generated."""
        summary_weight: float = Field(default=5.0, ge=0)
        """Weight a of the error of the whole jet's summary, told by a linear map of z."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the causal transformer."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the causal transformer; it has one head for every 16."""
        longest: int = Field(default=128, ge=1)
        """Particles of the longest jet that is generated; softer ones share the last place."""

    can_generate: ClassVar[bool] = True
    saves_full_method: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("tokenizer",)

    mean_length: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = (), *, tokenizer: Method) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.tokenizer = tokenizer.requires_grad_(False)
        self.stop, width = cast(Tokens, tokenizer).size, cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.codes_in = nn.Embedding(self.stop, width)
        self.places = nn.Embedding(cfg.longest + 1, width)
        for embedding in (self.codes_in, self.places):
            nn.init.normal_(embedding.weight, std=0.02)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.summary = JetObservables(encoder.dim)
        self.register_buffer("mean_length", torch.ones(()))
        self.codes_out = nn.Linear(width, self.stop + 1)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of each next code and of the stop, how many are guessed right, and the error of the summary."""
        read = (random.uniform_per_jet(jets) * (jets.lengths - 1)).long() + 1
        read[(random.uniform_per_jet(jets) < self.cfg.from_nothing) | (jets.lengths == 1)] = 0
        prefix = jets.rank_by_pt() < read[jets.jet_of_particle]
        rest = jets.keep(~prefix)
        codes = torch.empty_like(rest.jet_of_particle)
        place = rest.offsets[:-1][rest.jet_of_particle] + rest.rank_by_pt()
        codes[place] = cast(Tokens, self.tokenizer).codes(jets)[~prefix]
        z = self.encoder(jets.keep(prefix)).z
        logits, offsets = self._predict(z, read, codes, rest.offsets)
        last = torch.zeros(len(logits), dtype=torch.bool, device=codes.device).index_fill(0, offsets[1:] - 1, True)
        goal = torch.full_like(last, self.stop, dtype=torch.int64).masked_scatter(~last, codes)
        entropy = nn.functional.cross_entropy(logits, goal, reduction="none")
        predicted = Jets(logits, offsets)  # r + 1 rows of a jet of which r particles are not read
        code = predicted.sum(entropy).mean() / self.mean_length
        accuracy = predicted.mean((logits.argmax(1) == goal).float()).mean()
        summary = self.summary.error(z, jets, self.encoder.features).mean()
        parts = {"code_loss": code, "summary_loss": summary, "accuracy": accuracy}
        loss = code + self.cfg.summary_weight * summary
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Statistics of the summaries, and the mean number of particles."""
        batches = list(batches)
        self.summary.fit_statistics(batches, self.encoder.features)
        self.mean_length.fill_(float(torch.cat([jets.lengths for jets in batches]).float().mean()))

    def _predict(self, z: Tensor, read: Tensor, codes: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of what follows the start of each jet and each of its codes, and the offsets of these."""
        offsets = offsets + torch.arange(len(offsets), device=offsets.device)
        lengths = offsets[1:] - offsets[:-1]
        place = torch.arange(int(offsets[-1]), device=offsets.device)
        place = place + torch.repeat_interleave(read - offsets[:-1], lengths)
        start = torch.zeros_like(place, dtype=torch.bool).index_fill(0, offsets[:-1], True)
        x = self.places(place.clamp(max=self.cfg.longest))
        x = x.index_put((start,), self.z_in(z).float(), accumulate=True)
        x = x.index_put((~start,), self.codes_in(codes), accumulate=True)
        decoded = self.decoder(x, offsets, x.new_empty(len(z), 0, x.shape[1]), causal=True)[1]
        return self.codes_out(decoded).float(), offsets

    @torch.no_grad()
    def generate(self, jets: int) -> Jets:
        """New jets: codes drawn one by one until stop, then decoded to particles by the tokenizer."""
        device, longest = self.codes_out.weight.device, self.cfg.longest
        nothing = Jets(torch.zeros(0, len(COLUMNS), device=device), torch.zeros(jets + 1, dtype=torch.int64).to(device))
        z = self.encoder(nothing).z
        codes = torch.full((jets, longest), self.stop, device=device)
        growing = torch.arange(jets, device=device)
        for length in range(longest):
            offsets = torch.arange(len(growing) + 1, device=device) * length
            so_far = codes[growing, :length].flatten()
            logits, offsets = self._predict(z[growing], torch.zeros_like(growing), so_far, offsets)
            logits = logits[offsets[1:] - 1]
            if length == 0:  # no jet is empty
                logits[:, self.stop] = -torch.inf
            codes[growing, length] = random.choose(logits)
            growing = growing[codes[growing, length] != self.stop]
            if not len(growing):
                break
        made = codes != self.stop
        return cast(Tokens, self.tokenizer).particles(codes[made], offsets_of(made.sum(1)))

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder
