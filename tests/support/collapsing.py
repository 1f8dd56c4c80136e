"""Methods whose representation fails by construction, each in one way, for the tests of the monitor."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.simclr import SimCLR
from ssl_jets.nn.ema import follow, teacher_of
from ssl_jets.nn.encoder import Encoder


class Shrinking(Method):
    """All that is wanted of z is that it be the same for all jets."""

    Config: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, cfg: MethodSettings, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.encoder = encoder

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """L = ln mean |z - mean z|^2."""
        z = self.encoder(jets).z
        return {"loss": (z - z.mean(0)).square().mean().log()}

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder


class DeafDecoder(MaskedAutoencoder):
    """A masked autoencoder whose decoder does not hear z."""

    def _decode(self, jets: Jets, hidden: Tensor, z: Tensor, tokens: Tensor) -> Tensor:
        return super()._decode(jets, hidden, 0 * z, tokens)


class Alike(SimCLR):
    """The projections are to be the same for all jets, and z stays as it is."""

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """L = ln (mean |p - mean p|^2 / mean |p|^2)."""
        p = self.projector(self.encoder(jets).z.detach())
        return {"loss": ((p - p.mean(0)).square().mean() / p.square().mean()).log()}


class Taught(Method):
    """A student that is near its teacher, who follows with momentum m."""

    Config: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, encoder: Encoder, momentum: float) -> None:
        super().__init__(MethodSettings(), encoder, ())
        self.encoder, self.teacher, self.momentum = encoder, teacher_of(encoder), momentum
        self.predictor = nn.Linear(encoder.dim, encoder.dim)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """L = mean |predictor(z) - z'|^2, and the scale of z against a constant."""
        z = self.encoder(jets).z
        return {"loss": (self.predictor(z) - self.teacher(jets).z.roll(1, 1)).square().mean()}

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        follow(self.teacher, self.encoder, self.momentum)

    def exported(self) -> Encoder:
        """The student."""
        return self.encoder
