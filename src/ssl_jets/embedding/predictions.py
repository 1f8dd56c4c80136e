"""Files of jets in, a scores file out: class probabilities, regressed columns, discriminants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.files import JetFile
from ssl_jets.embedding.columns import column_of, regressed_columns
from ssl_jets.embedding.discriminants import Discriminant, parse_all
from ssl_jets.embedding.job import OutputSummary, check_options, write_output
from ssl_jets.embedding.options import OutputOptions
from ssl_jets.embedding.outputs import Output
from ssl_jets.embedding.particle_predictions import ParticleScoresOutput
from ssl_jets.errors import UsageError, in_shell, nearest
from ssl_jets.jets import Jets
from ssl_jets.model import Model
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoded
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.precision import SCORES_PRECISION
from ssl_jets.sharing.location import shown_name
from ssl_jets.zfile import Column, Level, ScoresMetadata, key_columns

SPREAD = "_spread"
"""Follows the name of a column in the name of its standard deviation over the models of an ensemble."""


def predict(
    model_paths: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    scores: Sequence[str] = (),
    with_z: bool = False,
    temperatures: Callable[[], Sequence[float]] | None = None,
    level: Level = "jet",
    **options: Any,
) -> OutputSummary:
    """Write predictions for every jet, or every particle, of `sources`, in input order, to a scores file.

    The rows are the jets of the input, one for one, as `embed` writes them. Columns: `p_CLASS` for each class of the
    head, `pred_TARGET` for each regressed target and `pred_TARGET_q16` for each of its quantiles, and discriminants.
    Of several models the mean is written, and its standard deviation over the models as `COLUMN_spread`. At level
    "particle" the rows are the particles, with the columns of `ParticleScoresOutput`.

    Arguments as in `ssl_jets.predict`; `temperatures` returns the number that divides the logits of each model, by
    default 1. Options are the fields of `OutputOptions`.

    Raises:
        UsageError: a model without head, models of different classes, a formula, an unknown suffix, an existing
            output, a column that an input does not have.
        SslJetsError: an input or the output fails.
        Interrupted: a signal came. In no case is a half-written output left behind.
    """
    chosen = OutputOptions(**{"precision": SCORES_PRECISION, **options})
    check_options(Path(out), chosen)
    models = [load_model(path) for path in model_paths]
    if level == "particle":
        _check_particles(
            models, model_paths, given={"--score": scores, "--with-z": with_z, "--temperature": temperatures}
        )
        return write_output(ParticleScoresOutput(models[0]), sources, Path(out), chosen)
    _check_models(models, model_paths)
    if with_z and len(models) > 1:
        raise UsageError("several models have several z", where="--with-z", hint="ssl-jets embed for each model")
    output = ScoresOutput(models, scores, with_z=with_z)
    output.temperatures = tuple(temperatures()) if temperatures is not None else (1.0,) * len(models)
    return write_output(output, sources, Path(out), chosen)


def _check_models(models: Sequence[Model], paths: Sequence[str | Path]) -> None:
    """Check that models predict, and the same.

    Raises:
        UsageError: no models, one that is named twice or has no head, or models that predict different things.
    """
    if not models:
        raise UsageError("no model is named", where="--model", hint="--model RUN")
    names = [shown_name(path) for path in paths]
    for model, path in zip(models, names):
        if model.head is None and model.regressor is None:
            raise UsageError(
                "this model has no head that predicts",
                where=path,
                found=f"method {model.method}",
                hint=f"ssl-jets finetune {in_shell('--model', path)} --mode full trains one"
                if model.particles is None
                else "--level particle writes its predictions of particles",
            )
    facts = [(sorted(_classes(model)), _targets(model)) for model in models]
    for path, own in zip(names, facts):
        if own != facts[0]:
            where = f"{names[0]}, {path}"
            outputs = [", ".join([*labels, *targets]) for labels, (targets, *_) in (facts[0], own)]
            found = " and ".join(text or "nothing" for text in outputs)
            raise UsageError("the models of an ensemble predict the same", where=where, found=found)
    weights = [model.sha256 for model in models]
    for path, sha256 in zip(names, weights):
        if weights.count(sha256) > 1:
            raise UsageError("a model of an ensemble is named twice", where="--model", found=path)


def _check_particles(models: Sequence[Model], paths: Sequence[str | Path], given: Mapping[str, object]) -> None:
    """Check that there is one model with heads of particles, and no option of predictions of jets.

    Raises:
        UsageError: several models, or an option of predictions of jets.
        SslJetsError: a model without heads of particles.
    """
    if len(models) != 1:
        raise UsageError("one model predicts particles", where="--model", found=f"{len(models)} models")
    for option, value in given.items():
        if value:
            raise UsageError("this option is one of predictions of jets", where=option, found="--level particle")
    if models[0].particles is None:
        hint = "ssl-jets finetune --set 'method.particle_targets=[NAME]' trains one"
        raise UsageError("this model has no head that predicts particles", where=shown_name(paths[0]), hint=hint)


def _targets(model: Model) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the regressed targets and their quantiles."""
    return ((), ()) if model.regressor is None else (model.regressor.names, model.regressor.levels)


def _predicted_columns(model: Model) -> tuple[str, ...]:
    """Return the names of the predicted columns of a model, without discriminants."""
    targets, levels = _targets(model)
    return (*(f"p_{name}" for name in _classes(model)), *regressed_columns(targets, levels))


def _classes(model: Model) -> tuple[str, ...]:
    """Return the classes of the head; none without one."""
    return model.labels if model.head is not None else ()


class ScoresOutput(Output):
    """Predictions of one model, or the mean and spread of several.

    Attributes:
        temperatures: number that divides the logits of each model.
    """

    level: Level = "jet"

    def __init__(self, models: Sequence[Model], scores: Sequence[str] = (), *, with_z: bool = False) -> None:
        super().__init__(models)
        self._with_z, self._names, self._classes = with_z, _predicted_columns(models[0]), _classes(models[0])
        key = [column.name for column in key_columns("particle", labelled=True)]
        taken = [*self._classes, *self._names, *(f"{name}{SPREAD}" for name in self._names), *key, "z"]
        self._discriminants = parse_all(scores, taken)
        self.temperatures = (1.0,) * len(models)
        own = {*self._names, *self._classes, *(one.name for one in self._discriminants)}
        read = (name for one in self._discriminants for name in one.formula.names)
        self.jet_columns = tuple(dict.fromkeys(name for name in read if name not in own))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the output: z if asked for, predictions, discriminants, and their spreads."""
        names = (*self._names, *(one.name for one in self._discriminants))
        spreads = tuple(f"{name}{SPREAD}" for name in names) if len(self.models) > 1 else ()
        z = (Column("z", "f4", self.models[0].encoder.dim),) if self._with_z else ()
        return (*z, *(Column(name, "f4") for name in (*names, *spreads)))

    @property
    def metadata(self) -> ScoresMetadata:
        """Metadata of the scores file."""
        targets, levels = _targets(self.models[0])
        return ScoresMetadata(
            classes=self._classes,
            regressed={target: column_of(target) for target in targets},
            levels=levels,
            discriminants={one.name: one.formula.text.strip() for one in self._discriminants},
            temperatures=self.temperatures,
            models=tuple(model.sha256 for model in self.models),
        )

    def prepare(self, files: Sequence[JetFile], log: Log) -> tuple[str, ...]:
        """Check the names in the formulas; return the particle columns that any model reads."""
        for one in self._discriminants:
            self._check_names(one, files)
        return super().prepare(files, log)

    def _check_names(self, one: Discriminant, files: Sequence[JetFile]) -> None:
        before = [other.name for other in self._discriminants[: self._discriminants.index(one)]]
        own = [*self._classes, *self._names, *before]
        for name in one.formula.names:
            if name not in own and not all(name in file.jet_columns for file in files):
                allowed = nearest(name, dict.fromkeys([*own, *(files[0].jet_columns if files else ())]))
                where = f"--score {one.name}"
                raise UsageError("there is no such class or column", where=where, found=name, allowed=allowed)

    def compute(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        """Compute the columns of a batch, float64 `[jet]` each, and z."""
        each = encoded.z.split([model.encoder.dim for model in self.models], dim=1)
        trio = zip(self.models, each, self.temperatures, strict=True)
        members = [self._predict(model, z.numpy(), temperature) for model, z, temperature in trio]
        mean = {name: np.mean([one[name] for one in members], axis=0) for name in self._names}
        of_jets = {name: jets.jet[name].numpy() for name in self.jet_columns}
        result = self._with_discriminants(mean, of_jets)
        if len(members) > 1:
            own = [self._with_discriminants(one, of_jets) for one in members]
            with np.errstate(invalid="ignore"):  # infinite discriminants
                result |= {
                    f"{name}{SPREAD}": np.std([one[name] for one in own], axis=0, ddof=1) for name in list(result)
                }
        return result | ({"z": encoded.z.numpy()} if self._with_z else {})

    def _predict(self, model: Model, z: Array, temperature: float) -> dict[str, Array]:
        """Predict the columns of one model, float64 `[jet]` each."""
        blocks = []
        if model.head is not None:
            blocks.append(model.probabilities(z, self._classes, temperature=temperature))
        if model.regressor is not None:
            points, bands = model.regressed(z), model.regressed_quantiles(z)  # [jet, target], [jet, target, level]
            blocks.append(np.concatenate([points[:, :, None], bands], axis=2).reshape(len(z), -1).astype(np.float64))
        return dict(zip(self._names, np.concatenate(blocks, axis=1).T, strict=True))

    def _with_discriminants(self, predicted: dict[str, Array], of_jets: dict[str, Array]) -> dict[str, Array]:
        """Return predicted columns and discriminants."""
        result = dict(predicted)
        jets = len(next(iter(predicted.values())))
        values = of_jets | result | {name: predicted[f"p_{name}"] for name in self._classes}
        for one in self._discriminants:
            result[one.name] = values[one.name] = one(values, jets)
        return result
