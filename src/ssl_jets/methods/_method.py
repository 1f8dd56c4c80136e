"""The contract of a pretraining method."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoder


class Method(nn.Module):
    """A pretraining objective: how z is learned. One file of this folder each, found by the file's name.

    A method sees no trainer, loader, optimizer, rank, logger or file. Randomness comes from torch's generator, which
    the training loop seeds for every step. What is averaged is averaged per jet first, then over the jets of the
    batch, so that equal batches on several ranks give the gradient of the joined batch.

    Args:
        cfg: the method's own settings.
        encoder: the encoder to train.
        labels: names of the classes of the training jets; empty where they have none.

    A method that names `parts` is also handed these trained methods, as keyword arguments, and keeps each as the
    attribute of that name.
    """

    Config: ClassVar[type[MethodSettings]]
    needs_labels: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    """Whether `generate` makes jets."""
    whole: ClassVar[bool] = False
    """Whether a trained model keeps the whole method, settings and all weights, and not only what is exported."""
    parts: ClassVar[tuple[str, ...]] = ()
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

    def after_step(self, progress: float) -> None:
        """Called after each optimizer step; teachers move here."""

    def exported(self) -> Encoder:
        """The encoder that embed, finetune and evaluate use."""
        raise NotImplementedError

    def exported_head(self) -> nn.Module | None:
        """The head f(z) = logits over the label names, where the method trains one."""
        return None

    def generate(self, jets: int) -> Jets:
        """New jets, as many as `jets`."""
        raise NotImplementedError
