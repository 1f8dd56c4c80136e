"""Predictions of particles as columns of a scores file, with a row for each particle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.data.files import JetFile
from ssl_jets.embedding.columns import column_of, regressed_columns
from ssl_jets.embedding.outputs import Output
from ssl_jets.jets import Jets
from ssl_jets.model import Model
from ssl_jets.nn.encoder import Encoded
from ssl_jets.nn.particles.heads import ParticleHeads
from ssl_jets.nn.particles.pairs import components, within_jets
from ssl_jets.runtime.console import Log
from ssl_jets.zfile import Column, Level, ScoresMetadata
from ssl_jets.zfile.columns import TRUE


class ParticleScoresOutput(Output):
    """Predictions of the heads of particles of one model.

    Columns: `p_TARGET_CLASS` for each class of a target, `pred_TARGET` for each number and `pred_TARGET_q16` for each
    of its quantiles, `pred_TARGET` for each grouping, the number of the group in its jet, -1 for a particle alone, and
    `true_TARGET` of targets that some input has: the index of the class, -1 without one, or the number, NaN without
    one.
    """

    level: Level = "particle"

    def __init__(self, model: Model) -> None:
        assert model.particles is not None
        super().__init__([model])
        self._heads = model.particles

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the output: predictions, then true labels."""
        whole = {column_of(target.name) for target in self._heads.grouped}
        predicted = (Column(name, "i8" if name in whole else "f4") for name in predicted_columns(self._heads))
        given = [target for target in self._heads.targets if target.name in self.particle_labels]
        return (*predicted, *(Column(f"{TRUE}{one.name}", "i8" if one.classes else "f4") for one in given))

    @property
    def metadata(self) -> ScoresMetadata:
        """Metadata of the scores file."""
        regressor = self._heads.regressor
        return ScoresMetadata(
            levels=() if regressor is None else regressor.levels,
            models=(self.models[0].sha256,),
            particle_targets={target.name: target.classes for target in self._heads.targets},
        )

    def prepare(self, files: Sequence[JetFile], log: Log) -> tuple[str, ...]:
        """Return the particle columns that the model reads, and find the targets that some file has labels for."""
        names = [target.name for target in self._heads.targets]
        self.particle_labels = tuple(name for name in names if any(name in file.particle_labels for file in files))
        return super().prepare(files, log)

    def compute(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        """Compute the columns of a batch, `[particle]` each."""
        result = predictions(self._heads, encoded.tokens, jets)
        for target in self._heads.targets:
            if target.name in self.particle_labels:
                truth = target.labels(jets) if target.classes else target.truth(jets)
                result[f"{TRUE}{target.name}"] = truth.numpy()
        return result


def predicted_columns(heads: ParticleHeads) -> tuple[str, ...]:
    """Return the names of the predicted columns of heads, in the order of `predictions`."""
    levels = () if heads.regressor is None else heads.regressor.levels
    names = [f"p_{target.name}_{label}" for target in heads.classified for label in target.classes]
    names += regressed_columns((target.name for target in heads.regressed), levels)
    return (*names, *(column_of(target.name) for target in heads.grouped))


@torch.inference_mode()
def predictions(heads: ParticleHeads, tokens: torch.Tensor, jets: Jets) -> dict[str, Array]:
    """Predict all columns from tokens `[particle, width]` on the CPU, `[particle]` each."""
    blocks = [logits.double().softmax(1).numpy() for logits in heads.logits(tokens).values()]
    if heads.regressor is not None:
        points, bands = heads.regressor.physical(tokens).numpy(), heads.regressor.bands(tokens).numpy()
        blocks.append(np.concatenate([points[:, :, None], bands], axis=2).reshape(len(tokens), -1))
    values = [column for block in blocks for column in block.T]
    owner = jets.jet_of_particle.numpy()
    values += [within_jets(components(pairs, len(tokens)), owner) for pairs in heads.pairs(tokens, jets).values()]
    return dict(zip(predicted_columns(heads), values, strict=True))
