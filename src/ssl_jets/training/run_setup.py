"""Steps that pretraining and finetuning share: inputs, labelled jets, training, and export of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic

import torch
from lightning_fabric import Fabric

from ssl_jets.config import MethodSettings, MethodT, RunSettings, TrainSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.inputs import check_definitions, with_definitions
from ssl_jets.data.loading.counting import Wanted, with_any_target
from ssl_jets.data.loading.mixed import together
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.check import like_labels
from ssl_jets.data.seen import Seen, copies_of
from ssl_jets.data.skipped import require_jets, skipped_files, skipped_jets
from ssl_jets.data.subset import choose_subset, subsample
from ssl_jets.diagnostics.lidar import LidarMonitor
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.tasks import weights_of
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.precision import resolve_precision
from ssl_jets.runtime.signals import watched
from ssl_jets.sharing.location import SNAPSHOTS
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.state import FitResult
from ssl_jets.training.streams import make_stream

_STATISTICS_JETS = 10_000


@dataclass(frozen=True)
class TrainingInputs(Generic[MethodT]):
    """Inputs of one training run.

    Attributes:
        settings: resolved settings.
        data: files, with their training and held-out entries.
        request: columns to read.
        subset: the labelled jets to use, in memory; None for all of `data.train`.
        run: the run folder.
        fabric: launched Fabric.
        begins: the run has no checkpoint to continue from, the same on all ranks.
    """

    settings: RunSettings[MethodT]
    data: Dataset
    request: Request
    subset: Jets | None
    run: TrainingRun
    fabric: Fabric
    begins: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns and features that the encoder reads."""
        return self.data.columns if self.request.columns is None else self.request.columns


def with_resolved_precision(settings: RunSettings[MethodT], fabric: Fabric) -> RunSettings[MethodT]:
    """Replace the precision `auto` by the native precision of the device."""
    precision = resolve_precision(settings.train.precision, fabric.device)
    return settings.model_copy(update={"train": settings.train.model_copy(update={"precision": precision})})


def with_inputs(settings: RunSettings[MethodT], data: Dataset) -> RunSettings[MethodT]:
    """Add the definitions of the inputs that `model.inputs` chooses, from the schemas of the files."""
    return settings.model_copy(update={"model": with_definitions(settings.model, data.files)})


def require_labels(data: Dataset, message: str, hint: str = "") -> None:
    """Check that the files have labels.

    Raises:
        DataError: they have none; the hint names columns that look like labels.
    """
    if not data.label_names:
        similar = like_labels(column for file in data.files for column in file.jet_columns)
        hints = "; ".join(filter(None, (hint, similar)))
        raise DataError(message, where=", ".join(data.names[:8]), hint=hints or None)


def labelled_subset(
    data: Dataset, request: Request, wanted: Wanted, labels: float | None, *, seed: int, setting: str = "--labels"
) -> Jets | None:
    """Choose labelled training jets, in memory; None for all of them.

    Args:
        data: the files; jets that are skipped are counted in it.
        request: columns to read.
        wanted: targets of the training: jets with a class are chosen, or with any target if no classes are learned.
        labels: a share of the labelled jets (at most 1.0) or a number of them; None for all.
        seed: seed of the choice.
        setting: name of the setting, for messages.
    """
    if labels is None or labels == 1.0:
        return None
    has = None if wanted.classes else partial(with_any_target, data.files, wanted)
    jets = choose_subset(data.files, data.train, labels, seed, request, setting, data.skipped_jets, has)
    return jets if request.flatten is None else request.flatten.resampled(jets, seed)


def statistics_sample(
    data: Dataset, parts: Sequence[EntryRange], seed: int, request: Request, *, blind: bool = False
) -> Iterator[Jets]:
    """Sample 10,000 jets to compute means and standard deviations on, without labels if `blind`."""
    entries = data.entries_for(parts, _STATISTICS_JETS)
    return ordered(data.blind if blind else data.files, subsample(parts, entries, seed), request)


def training_sample(inputs: TrainingInputs[MethodT]) -> Iterable[Jets]:
    """Sample jets as the batches of a training have them, to fit statistics on: labelled ones, and unlabelled ones."""
    data, seed, request, subset = inputs.data, inputs.settings.train.seed, inputs.request, inputs.subset
    labelled = statistics_sample(data, data.train, seed, request) if subset is None else [subset]
    if not data.unlabelled or (subset is None and data.unlabelled == data.train):
        return labelled
    unlabelled = statistics_sample(data, data.unlabelled, seed, request.inputs, blind=True)
    return [together(concatenate(list(labelled)), concatenate(list(unlabelled)))]


def read_in_memory(
    files: Sequence[JetFile], parts: Sequence[EntryRange], request: Request, skipped: Counter[str] | None = None
) -> Jets | None:
    """Read all jets of `parts` into memory, None if there are none; `skipped` counts unusable jets by reason."""
    batches = list(ordered(files, parts, request, skipped=skipped))
    return concatenate(batches) if batches else None


def log_files(inputs: TrainingInputs[MethodSettings]) -> None:
    """Log skipped files and jets, copies among the files, suspicious contents, and features that files lack."""
    run, data = inputs.run, inputs.data
    suspicions = find_suspicions(data.files) if run.writes else []
    model = inputs.settings.model
    lacking = check_definitions(model.features, model.context, data.files, model.collections)
    for line in (*skipped_files(data.left_out), *copies_of(data.files), *suspicions, *lacking):
        run.log_message(line)
    resumed = run.has_checkpoint  # the metrics have the skipped files and jets already
    if data.left_out and not resumed:
        run.log_metrics({"step": 0, "kind": "left_out", "files": data.left_out, "all": len(data.left_out)})
    if data.skipped_jets and resumed:
        run.log_message(skipped_jets(data.skipped_jets))
    elif data.skipped_jets:
        run.log_skipped(0, data.skipped_jets)


def make_monitor(data: Dataset, settings: TrainSettings, request: Request, log: Log | None = None) -> Monitor | None:
    """Build a monitor on a sample of the held-out jets, None if there are none.

    Raises:
        DataError: all held-out jets have weight 0.
    """
    skipped: Counter[str] = Counter()
    entries = data.entries_for(data.held_out, settings.validation_jets)
    jets = read_in_memory(data.files, subsample(data.held_out, entries, seed=0), request, skipped)
    if log is not None and skipped:
        log(f"held-out {skipped_jets(skipped)}")
    if jets is None:
        return None
    weighted = int((weights_of(jets) > 0).sum())
    require_jets(weighted, "to validate on", where=f"column {request.weights}", left_out={"weight 0": len(jets)})
    measures_lidar = settings.keep == "best" and settings.best_by == "lidar"
    return (LidarMonitor if measures_lidar else Monitor)(jets, settings.batch_size, len(data.label_names))


Facts = Callable[[FitResult], dict[str, Any]]
"""Function of the length of a training so far that returns the facts of its model."""


def train(method: Method, inputs: TrainingInputs[MethodSettings], title: str, facts: Facts | None = None) -> FitResult:
    """Train a method on its inputs, with validation on held-out jets; without `facts` no snapshots are written.

    Raises:
        UsageError: the best validation is to be found by a probe, and there are no labels.
    """
    settings, data, run = inputs.settings, inputs.data, inputs.run
    if settings.train.keep == "best" and settings.train.best_by == "probe" and not data.label_names:
        hint = "--set train.best_by=rankme needs no labels"
        raise UsageError("the files have no labels to probe z with", where="train.best_by", found="probe", hint=hint)
    with closing(make_stream(data, settings, inputs.fabric, inputs.request, inputs.subset)) as stream:
        return fit(
            method,
            stream,
            run,
            settings.train,
            fabric=inputs.fabric,
            monitor=make_monitor(data, settings.train, inputs.request, run.log_message),
            file_names=data.names,
            resume=not inputs.begins,
            title=title,
            snapshot=None if facts is None else partial(_snapshot, inputs, method, facts),
        )


def training_facts(inputs: TrainingInputs[MethodSettings], result: FitResult) -> dict[str, Any]:
    """Return the training facts of a model file: the jets it has seen, its inputs, its split, its length."""
    data, settings, context = inputs.data, inputs.settings, inputs.request.context
    collections = [one.name for one in inputs.request.collections]
    return {
        **Seen.of_parts(data.files, data.all_train, [*data.held_out, *data.unlabelled_held_out]).facts(),
        "columns": list(inputs.columns),
        **({"context": list(context)} if context else {}),
        **({"collections": collections} if collections else {}),
        **({"schema": Path(settings.data.format).name} if settings.data.format else {}),
        "validation_fraction": None if settings.data.validation else settings.data.validation_fraction,
        "fold": None if settings.data.folds is None else [settings.data.fold, settings.data.folds],
        "split_seed": settings.data.split_seed,
        "jets_per_epoch": data.jets(data.train),
        "where": settings.data.where,
        "labelled": settings.data.labelled,
        "labelled_seed": settings.data.labelled_seed,
        "steps": result.steps,
        "skipped_steps": result.skipped_steps,
        "best_step": result.best_step,
        "jets": result.jets,
        "seconds": round(result.seconds, 1),
        "seed": settings.train.seed,
        "precision": settings.train.precision,
    }


def split_of(training: dict[str, Any]) -> dict[str, Any]:
    """Return the settings `data.*` of the held-out jets from the training facts of a model file."""
    return {key: training[key] for key in ("validation_fraction", "split_seed") if training.get(key) is not None}


def computing_facts(fabric: Fabric) -> dict[str, Any]:
    """Return the processes of a training, the threads of each, and the device, for the cost in the model card."""
    device = fabric.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "processes": fabric.world_size, "threads": torch.get_num_threads()}


def export(inputs: TrainingInputs[MethodSettings], method: Method, facts: dict[str, Any]) -> None:
    """Write the trained model into the run folder. A signal that arrives now no longer stops the run."""
    with watched() as watch:
        watch.at_once = False
        _save(inputs, method, facts, inputs.run.model, "model")


def _snapshot(inputs: TrainingInputs[MethodSettings], method: Method, facts: Facts, result: FitResult) -> None:
    """Write the model as it is to `snapshots/step-N` of the run folder."""
    _save(inputs, method, facts(result), inputs.run.folder / SNAPSHOTS / f"step-{result.steps}", "snapshot")


def _save(
    inputs: TrainingInputs[MethodSettings], method: Method, facts: dict[str, Any], folder: Path, kind: str
) -> None:
    run = inputs.run
    if run.writes:
        facts = facts | {"training": facts["training"] | computing_facts(inputs.fabric)}
        heads = {"head": method.exported_head(), "regressor": method.exported_regressor()}
        heads |= {"particles": method.exported_particle_heads()}
        model = Model(method.exported(), labels=inputs.data.label_names, facts=facts, **heads)  # type: ignore[arg-type]
        digest = save_model(model, folder, method if method.saves_full_method else None)
        run.log_message(f"{kind}: {folder} (sha256 {digest[:12]})")
    inputs.fabric.barrier()
