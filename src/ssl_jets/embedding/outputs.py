"""Outputs of models as columns of a file; z of each jet, or the token of each particle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ssl_jets.arrays import Array
from ssl_jets.data.files import JetFile
from ssl_jets.embedding.encoding import columns_to_encode
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.model import Model, batch_encoder, encode, with_columns
from ssl_jets.nn.encoder import Encoded
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.precision import Precision
from ssl_jets.runtime.threads import map_in_order
from ssl_jets.zfile import Column, Level, ScoresMetadata
from ssl_jets.zfile.columns import VECTORS


class Output:
    """Base of computations of columns of a file from batches of jets, by one model or several.

    Attributes:
        level: row per jet or per particle.
        jet_columns: jet columns of the input that the computation reads.
        particle_labels: labels of particles that it reads; known after `prepare`.
    """

    level: Level
    jet_columns: tuple[str, ...] = ()
    particle_labels: tuple[str, ...] = ()

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = models

    @property
    def columns(self) -> tuple[Column, ...]:
        """The computed columns."""
        raise NotImplementedError

    @property
    def metadata(self) -> ScoresMetadata | None:
        """Metadata of a scores file; None for a z file."""
        return None

    def prepare(self, files: Sequence[JetFile], log: Log) -> tuple[str, ...]:
        """Check the files, return the particle columns that any model reads, and log missing and unused columns."""
        read = [columns_to_encode(model, files, log) for model in self.models]
        names = dict.fromkeys(name for columns in read for name in columns)
        return (*(name for name in COLUMNS if name in names), *(name for name in names if name not in COLUMNS))

    def encode(
        self, batches: Iterator[Jets], device: torch.device | str, precision: Precision, *, batch: int
    ) -> Iterator[tuple[Jets, Encoded]]:
        """Yield each batch with its z (of several models one after another, `[jet, D of all]`) and its tokens."""
        if len(self.models) == 1:
            encoder, tokens = self.models[0].encoder, self.level == "particle"
            return encode(encoder, batches, device, precision, batch=batch, tokens=tokens)
        each = [(model, batch_encoder(model.encoder, device, precision, batch=batch)) for model in self.models]

        def compute(jets: Jets) -> tuple[Jets, Encoded]:
            z = [encode_batch(with_columns(jets, model.columns)).z for model, encode_batch in each]
            return jets, Encoded(torch.cat(z, dim=1), torch.empty(0, 0))

        return map_in_order(compute, batches, device)

    def compute(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        """Compute the columns of a batch, `[jet]` or `[particle]` each."""
        raise NotImplementedError


class ZOutput(Output):
    """z of each jet, or the token of each particle, of one model."""

    def __init__(self, model: Model, level: Level) -> None:
        super().__init__([model])
        self.level = level

    @property
    def columns(self) -> tuple[Column, ...]:
        encoder = self.models[0].encoder
        return (Column(VECTORS[self.level], "f4", encoder.dim if self.level == "jet" else encoder.width),)

    def compute(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        return {VECTORS[self.level]: (encoded.z if self.level == "jet" else encoded.tokens).numpy()}
