"""Trained models that a method starts from: whole methods, and the encoder of a frozen teacher with its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ssl_jets.config import MethodSettings, ModelSettings, resolve
from ssl_jets.data.files import JetFile
from ssl_jets.data.inputs import check_definitions
from ssl_jets.data.seen import after
from ssl_jets.errors import UsageError
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, load_method, load_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.foreign.adapter import require_own
from ssl_jets.nn.transformer import without_dropout
from ssl_jets.training.ancestor import Ancestor
from ssl_jets.training.run_folder import TrainingRun

TEACHER = "teacher"
"""Name among `Method.requires` of a trained model of any method."""
SETTING = f"method.{TEACHER}"


def load_required(
    cls: type[Method], settings: MethodSettings, columns: tuple[str, ...], files: Sequence[JetFile]
) -> dict[str, Method]:
    """Load the trained methods that a method builds on (`cls.requires`), by name, from the runs in its settings.

    A teacher is not among them: see `load_teacher`.

    Args:
        cls: the method.
        settings: its settings; the setting NAME is a run of method NAME.
        columns: particle columns and features that the encoder reads.
        files: the files, whose schemas define the features.

    Raises:
        UsageError: a run is not set, is of another method, or was trained on other particle columns or features.
        SslJetsError: there is no trained model.
    """
    components = {}
    for name in cls.requires:
        if name == TEACHER:
            continue
        key, run = f"method.{name}", getattr(settings, name)
        if not run:
            hint = f"ssl-jets pretrain --method {name} --out RUN, then --set {key}=RUN"
            raise UsageError(f"method {settings.name} starts from a run of method {name}", where=key, hint=hint)
        model = load_model(run)
        if model.method != name:
            raise UsageError(f"the run is not a {name}", where=f"{key}={run}", found=model.method, allowed=[name])
        _check_columns(name, model, columns, f"{key}={run}")
        check_definitions(model.encoder.cfg.features, {}, files)
        components[name] = without_dropout(load_method(run))
    return components


def _check_columns(name: str, model: Model, columns: tuple[str, ...], where: str) -> None:
    """Check that a model was trained on these particle columns and features."""
    if others := set(model.facts["training"].get("columns", [])) ^ set(columns):
        found = f"not in both: {', '.join(sorted(others))}"
        raise UsageError(f"the {name} was trained on jets with other particle columns", where=where, found=found)


@dataclass(frozen=True)
class Teacher(Ancestor):
    """Trained model whose encoder a pretraining imitates.

    Attributes:
        encoder: its encoder; of a resumed run with the weights of the checkpoint, once that is loaded.
    """

    FILE: ClassVar[str] = "teacher.json"
    LOST: ClassVar[str] = "the record of the teacher is gone"

    encoder: Encoder

    @classmethod
    def load(cls, path: str, columns: tuple[str, ...], files: Sequence[JetFile]) -> Teacher:
        """Load a trained model.

        Raises:
            UsageError: no path, or the model was trained on other particle columns or features.
            SslJetsError: there is no trained model.
        """
        if not path:
            hint = f"ssl-jets pretrain --method mae --out RUN, then --set {SETTING}=RUN"
            raise UsageError("this method learns from a trained model", where=SETTING, hint=hint)
        model = load_model(path)
        _check_columns(TEACHER, model, columns, f"{SETTING}={path}")
        encoder = require_own(model.encoder, "a teacher", "ssl-jets pretrain --method mae trains one")
        check_definitions(encoder.cfg.features, {}, files)
        return cls(path, model.sha256, model.method, model.facts["training"], encoder)

    def line(self, cls: type[Method]) -> str:
        """Return the message about the teacher of a method, with the inputs that the method hides from it."""
        hidden = [
            name
            for key, seen in (("context", cls.sees_context), ("collections", cls.sees_collections))
            for name in self.training.get(key, ())
            if not seen
        ]
        reads = f"; it reads as missing what this method hides: {', '.join(hidden)}" if hidden else ""
        return f"teacher: {self.path} ({self.method}, sha256 {self.sha256[:12]}), frozen{reads}"

    def record(self) -> dict[str, Any]:
        """Return the facts that a resumed run needs, with the settings of the encoder."""
        return super().record() | {"encoder": self.encoder.cfg.model_dump(mode="json")}

    @classmethod
    def read(cls, run: TrainingRun) -> Teacher:
        """Read the model of a resumed run; the weights of the encoder are in the checkpoint."""
        record = cls.read_record(run)
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced by those of the checkpoint
            settings = resolve(ModelSettings, record["encoder"], file=run.folder / "checkpoints" / cls.FILE)
            return cls(**record | {"encoder": Encoder(settings)})

    def joined(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the training facts of the student: through its teacher it has seen the jets of both trainings."""
        joint = after(self.training, facts)
        if labels := max(one.get("labelled_jets") or 0 for one in (facts, self.training)):
            joint["labelled_jets"] = labels
        return joint | {"teacher": self.history}


def load_teacher(
    cls: type[Method],
    settings: MethodSettings,
    columns: tuple[str, ...],
    files: Sequence[JetFile],
    resumed: TrainingRun | None,
) -> Teacher | None:
    """Load the teacher of a method; None for a method without one.

    Arguments as in `load_required`; `resumed` is the run, if it continues from a checkpoint.
    """
    if TEACHER not in cls.requires:
        return None
    if resumed is not None:
        return Teacher.read(resumed)
    return Teacher.load(getattr(settings, TEACHER), columns, files)
