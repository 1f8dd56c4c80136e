"""Outputs of an encoder as columns of a file: z of each jet, or the token of each particle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from ssl_jets.arrays import Array
from ssl_jets.data.files import JetFile
from ssl_jets.embedding.encoding import columns_to_encode
from ssl_jets.jets import Jets
from ssl_jets.model import Model, encode
from ssl_jets.nn.encoder import Encoded
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.precision import Precision
from ssl_jets.zfile import Column, Level
from ssl_jets.zfile.columns import VECTORS


class Output(Protocol):
    """Computation of columns of a file from batches of jets.

    Attributes:
        columns: the computed columns.
        level: row per jet or per particle.
        jet_columns: jet columns of the input that the computation reads.
        particle_labels: labels of particles that it reads; known after `prepare`.
    """

    @property
    def columns(self) -> tuple[Column, ...]: ...

    @property
    def level(self) -> Level: ...

    @property
    def jet_columns(self) -> tuple[str, ...]: ...

    @property
    def particle_labels(self) -> tuple[str, ...]: ...

    def prepare(self, files: Sequence[JetFile], log: Log) -> tuple[str, ...]:
        """Check the files, return their particle columns to read, and log the columns that are missing or not used."""

    def encode(
        self, batches: Iterator[Jets], device: torch.device | str, precision: Precision, *, batch: int
    ) -> Iterator[tuple[Jets, Encoded]]:
        """Yield each batch with its z (of several models one after another, `[jet, D of all]`) and its tokens."""

    def compute(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        """Compute the columns of a batch, `[jet]` or `[particle]` each."""


class ZOutput:
    """z of each jet, or the token of each particle, of one model."""

    jet_columns: tuple[str, ...] = ()
    particle_labels: tuple[str, ...] = ()

    def __init__(self, model: Model, level: Level) -> None:
        self._model, self.level = model, level
        self.dim = model.encoder.dim if level == "jet" else model.encoder.width
        self.columns = (Column(VECTORS[level], "f4", self.dim),)

    def prepare(self, files: Sequence[JetFile], log: Log) -> tuple[str, ...]:
        return columns_to_encode(self._model, files, log)

    def encode(
        self, batches: Iterator[Jets], device: torch.device | str, precision: Precision, *, batch: int
    ) -> Iterator[tuple[Jets, Encoded]]:
        return encode(self._model.encoder, batches, device, precision, batch=batch, tokens=self.level == "particle")

    def compute(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        return {VECTORS[self.level]: (encoded.z if self.level == "jet" else encoded.tokens).numpy()}
