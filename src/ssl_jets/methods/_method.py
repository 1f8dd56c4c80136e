"""The contract of a pretraining method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol

from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoder


class Method(nn.Module):
    """A pretraining objective: how z is learned. One file of this folder each, found by the file's name.

    A method sees no trainer, loader, optimizer, rank, logger or file. Randomness comes from torch's generator, which
    the training loop seeds for every step. What is averaged is averaged per jet first, then over the jets of the
    batch, so that equal batches on several ranks give the gradient of the joined batch. The encoder that is trained is
    kept as `encoder`, and an encoder that follows it as `teacher`: the monitor finds them by these names.

    Args:
        cfg: the method's own settings.
        encoder: the encoder to train.
        labels: names of the classes of the training jets; empty where they have none.

    A method that names others in `requires` is also handed these trained methods, as keyword arguments, and keeps each
    as the attribute of that name.
    """

    Config: ClassVar[type[MethodSettings]]
    can_generate: ClassVar[bool] = False
    """Whether `generate` makes jets."""
    saves_full_method: ClassVar[bool] = False
    """Whether a trained model keeps the whole method, settings and all weights, and not only what is exported."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Settings that hold a run of the method of that name, from which this one starts."""

    def __init__(self, cfg: MethodSettings, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.settings, self.labels = cfg, labels

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """The objective on one batch.

        Args:
            jets: the batch.
            progress: share of the training done, 0 to 1.

        Returns:
            `{"loss": scalar with gradient, **parts}`; parts are detached scalars to log.
        """
        raise NotImplementedError

    def forward(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """The loss: what a distributed wrapper hooks into."""
        return self.loss(jets, progress)

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """What only all held-out jets together tell, to log at each look; in evaluation mode, without gradient."""
        return {}

    def projection(self, z: Tensor) -> Tensor | None:
        """What the loss compares between jets and between views, made of z `[jet, D]`: `[jet, out]`; None where it
        compares nothing."""
        return None

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Take statistics of training jets, with their `jet_columns`, before the first step; not when resuming."""

    def after_step(self, progress: float) -> None:
        """Called after each optimizer step; teachers move here."""

    def lr_multipliers(self, progress: float) -> Mapping[str, float]:
        """Factors on the learning rate, by what the names of parameters begin with; the longest beginning holds.

        The beginnings are the same throughout. A factor of 0 lets these parameters rest. Others have the factor 1.
        """
        return {}

    def exported(self) -> Encoder:
        """The encoder that embed, finetune and evaluate use."""
        raise NotImplementedError

    def exported_head(self) -> nn.Module | None:
        """The head f(z) = logits over the label names, where the method trains one."""
        return None

    def exported_regressor(self) -> nn.Module | None:
        """The head f(z) = jet columns, where the method trains one."""
        return None

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Whether training with these settings needs jets with labels."""
        return False

    @classmethod
    def jet_columns(cls, cfg: MethodSettings) -> tuple[str, ...]:
        """Jet columns that `loss` and `fit_statistics` read with these settings."""
        return ()

    def generate(self, jets: int) -> Jets:
        """New jets, as many as asked for, by the methods with `can_generate`; chance is that of torch's generator."""
        raise NotImplementedError


class Tokens(Protocol):
    """What a method on codes asks of the tokenizer that it is handed.

    Attributes:
        size: number of codes.
    """

    size: int

    def codes(self, jets: Jets) -> Tensor:
        """The code of each particle, int64 `[particle]`."""

    def particles(self, codes: Tensor, offsets: Tensor) -> Jets:
        """Jets of the particles that these codes stand for; `offsets` as in `Jets`."""
