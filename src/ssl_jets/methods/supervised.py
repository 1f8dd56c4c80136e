"""Supervised pretraining: classification of labelled jets.

    L = mean over labelled jets of -log softmax(f(g(x)))[y]

with the encoder g, a head f on z and the label y, as ParT is trained (Qu, Li, Qian, arXiv:2202.03772). Jets without a
label (-1) do not enter the loss.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead


class Supervised(Method):
    """Cross-entropy on the class labels."""

    class Config(MethodSettings):
        """Settings of `supervised`."""

        head_hidden: int = Field(default=0, ge=0)
        """Width of the head's hidden layer; 0 for a linear head."""
        label_smoothing: float = Field(default=0.0, ge=0, lt=1)
        """Share of the target probability spread over all classes."""

    needs_labels: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.head = ClassHead(encoder.dim, len(labels), cfg.head_hidden)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Cross-entropy, and the accuracy on the batch."""
        if jets.labels is None:
            raise SslJetsError("supervised pretraining needs labels, and these jets have none")
        logits = self.head(self.encoder(jets).z)
        labelled = jets.labels >= 0
        per_jet = nn.functional.cross_entropy(
            logits, jets.labels, ignore_index=-1, label_smoothing=self.cfg.label_smoothing, reduction="sum"
        )
        count = labelled.sum().clamp(min=1)
        accuracy = ((logits.argmax(1) == jets.labels) & labelled).sum() / count
        return {"loss": per_jet / count, "accuracy": accuracy}

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder

    def exported_head(self) -> nn.Module:
        """The class head."""
        return self.head
