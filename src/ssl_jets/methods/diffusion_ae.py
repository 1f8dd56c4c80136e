"""Diffusion autoencoder with a bottleneck: a set is compressed into z, and p(set | z) is a flow.

    z   = u(g(x)) + s e,                     u(z) = z / rms(z), K x d numbers,  e ~ N(0, 1)
    x_t = (1 - t) n + t x,                   n ~ N(0, 1),  t ~ U(0, 1) for each jet
    L   = mean over jets of mean over its particles of
          |v(x_t, t, z) - (x - n)|^2 averaged over the features + w CE(kind and charge | x_t, t, z) + `FeatureHead`
          + c CE(number of particles | z) + a |A z - observables(x)|
          + |prior velocity(u_t, t) - (u - n_u)|^2 with u = u(g(x)) cut from the gradient

Diff-AE (Preechakul et al., arXiv:2111.15640) on sets, by flow matching (Lipman et al., arXiv:2210.02747). The fixed
scale of z keeps the encoder from outgrowing the noise s, which trains the decoder between the z of two jets. The prior
is a flow over u(g(x)), for generation: u ~ prior, z = u + s e, n ~ p(n | z), x ~ p(x | z, n), rescaled to the pt
predicted from z.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings, ModelSettings, Recipe
from ssl_jets.jets import Jets, offsets_of
from ssl_jets.methods._method import Method
from ssl_jets.nn import random
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import TARGETS
from ssl_jets.nn.flow import Condition, SetFlow, VectorFlow, interpolant
from ssl_jets.nn.heads import CountHead, target_head, target_loss
from ssl_jets.nn.normalize import add_noise, project_to_sphere
from ssl_jets.nn.observables import JetObservables


class DiffusionAutoencoder(Method):
    """Compress a jet into z, transport noise to its particles given z."""

    class Config(MethodSettings):
        """Settings of `diffusion_ae`."""

        blur: float = Field(default=0.1, ge=0)
        """Standard deviation s of the noise on z in training; z is scaled to a mean square of 1."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge."""
        count_weight: float = Field(default=0.1, ge=0)
        """Weight c of the cross-entropy on the number of particles."""
        observables_weight: float = Field(default=5.0, ge=0)
        """Weight a of the regression of jet observables (`nn/observables.py`) from a linear map of z."""
        most_particles: int = Field(default=128, ge=1)
        """Largest multiplicity that can be generated."""
        prior_width: int = Field(default=256, ge=8)
        """Width of the prior over z."""
        steps: int = Field(default=25, ge=1)
        """Integration steps for drawing particles; each evaluates the decoder twice."""

    recipe: ClassVar[Recipe] = Recipe(model=ModelSettings(z_tokens=8, z_width=8))
    can_generate: ClassVar[bool] = True
    regresses_observables: ClassVar[bool] = True
    cfg: Config
    present: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.decoder = SetFlow(encoder.dim, cfg.decoder_width, cfg.decoder_blocks, encoder.cfg.z_tokens)
        self.counts = CountHead(encoder.dim, cfg.most_particles, cfg.decoder_width)
        self.observables = JetObservables(encoder.dim)
        self.prior = VectorFlow(encoder.dim, cfg.prior_width)
        self.register_buffer("present", torch.ones(TARGETS))
        self.targets_out = target_head(cfg.decoder_width, encoder.features)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the errors of particles, multiplicity, jet observables and the prior over z."""
        z = self.encoder(jets, z_only=True).z
        values, _, kinds = self.encoder.features.targets(jets)
        t, noise = random.uniform_per_jet(jets).float(), random.normal(jets, TARGETS)
        noised_z = add_noise(jets, z, self.cfg.blur)
        condition = self._condition(noised_z, jets.offsets, self.encoder.features.present(jets))
        velocity_error, kind_error, decoded = self.decoder.errors(values, kinds, noise, t, condition)
        u_noise = random.normal_per_jet(jets, self.encoder.dim)
        noised_u, velocity_u = interpolant(project_to_sphere(z.detach()), u_noise, t)
        parts = {
            "flow_loss": jets.mean(velocity_error).mean(),
            "kind_loss": jets.mean(kind_error).mean(),
            "count_loss": self.counts.error(noised_z, jets.lengths).mean(),
            "observables_loss": self.observables.error(noised_z, jets, self.encoder.features).mean(),
            "prior_loss": torch.square(self.prior(noised_u, t) - velocity_u).mean(),
        }
        declared = target_loss(self.targets_out, decoded, jets, self.encoder.features)
        weights = (1.0, self.cfg.kind_weight, self.cfg.count_weight, self.cfg.observables_weight, 1.0)
        weighted = [weight * part for weight, part in zip(weights, parts.values(), strict=True)]
        loss = torch.stack([*weighted, *declared.values()]).sum()
        return {"loss": loss} | {name: part.detach() for name, part in (parts | declared).items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the jet observables, and record the targets present in the training data."""
        batches = list(batches)
        self.observables.fit_statistics(batches, self.encoder.features)
        self.present.copy_(torch.stack([self.encoder.features.present(jets) for jets in batches]).amax(0))

    @staticmethod
    def _condition(z: Tensor, offsets: Tensor, present: Tensor) -> Condition:
        """Return the condition of jets without known particles: all particles are generated."""
        return Condition(z, offsets, torch.ones(int(offsets[-1]), dtype=torch.bool, device=z.device), present)

    @torch.no_grad()
    def decode(self, z: Tensor, counts: Tensor, noise: Tensor, blur: Tensor | float = 0.0) -> Jets:
        """Decode u(z) + `blur`, multiplicities int64 `[jet]` and normal noise `[particle, TARGETS + 1]` to jets."""
        condition = self._condition(project_to_sphere(z) + blur, offsets_of(counts), self.present)
        values, kinds = self.decoder.sample(noise, condition, self.cfg.steps)
        jets = self.only_learned(Jets(self.encoder.features.particles(values, kinds), condition.offsets))
        if self.cfg.observables_weight:
            factor = self.observables.pt(condition.z) / jets.sum(jets.column("pt"))  # [jet]
            jets = jets.scaled(factor[jets.jet_of_particle])
        return jets

    @torch.no_grad()
    def reconstruct(self, jets: Jets) -> Jets:
        """Draw jets from p(x | z, n) of their own z, with n the median of p(n | z)."""
        return self.interpolate(jets, jets, 1)[0]

    @torch.no_grad()
    def interpolate(self, jets_a: Jets, jets_b: Jets, steps: int) -> list[Jets]:
        """Decode `steps` points of the great circle from z of a to z of b: the same noise, n the median of p(n | z)."""
        a, b = (project_to_sphere(self.encoder(self.learned(jets), z_only=True).z) for jets in (jets_a, jets_b))
        angle = nn.functional.cosine_similarity(a, b).clamp(-1 + 1e-6, 1 - 1e-6).arccos().unsqueeze(1)
        noise = torch.randn(len(a), self.cfg.most_particles, TARGETS + 1, device=a.device)
        decoded = []
        for share in torch.linspace(0, 1, steps).tolist():
            z = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
            counts = self.counts.quantile(z, z.new_full((len(z),), 0.5))
            first = torch.arange(noise.shape[1], device=z.device) < counts.unsqueeze(1)  # bool [jet, most_particles]
            decoded.append(self.decode(z, counts, noise[first]))
        return decoded

    @torch.no_grad()
    def generate(self, jets: int) -> Jets:
        """Draw new jets: z from the prior, with noise, n from p(n | z), particles from p(x | z, n)."""
        device = self.encoder.features.mean.device
        z = self.prior.sample(torch.randn(jets, self.encoder.dim, device=device), self.cfg.steps)
        # p(n | z) and p(x | z, n) are of a noised z: without noise new jets would vary less than real ones.
        blur = self.cfg.blur * torch.randn_like(z)
        counts = self.counts.quantile(project_to_sphere(z) + blur, torch.rand(jets, device=device))
        return self.decode(z, counts, torch.randn(int(counts.sum()), TARGETS + 1, device=device), blur)
