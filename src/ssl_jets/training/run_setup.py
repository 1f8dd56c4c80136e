"""Steps that pretraining and finetuning share: check and open the run folder, sample statistics, export the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_fabric import Fabric

from ssl_jets.config import (
    MethodSettings,
    MethodT,
    RunSettings,
    TrainSettings,
)
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.loading.stream import Request, ordered
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.seen import Seen, copies_of
from ssl_jets.data.skipped import require_jets, skipped_files, skipped_jets
from ssl_jets.data.subset import subsample
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.jets import Jets, concatenate
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.tasks import weights_of
from ssl_jets.runtime.precision import resolve_precision
from ssl_jets.runtime.signals import watched
from ssl_jets.training.loop import Fit
from ssl_jets.training.run_folder import Run, Say

_STATISTICS_JETS = 10_000


def sample_of(files: Sequence[JetFile], parts: Sequence[EntryRange], seed: int, request: Request) -> Iterator[Jets]:
    """A sample of training jets, to measure means and spreads on."""
    return ordered(files, subsample(parts, _STATISTICS_JETS, seed), request)


def with_resolved_precision(settings: RunSettings[MethodT], fabric: Fabric) -> RunSettings[MethodT]:
    """The settings with the precision that `auto` means here."""
    precision = resolve_precision(settings.train.precision, fabric.device)
    return settings.model_copy(update={"train": settings.train.model_copy(update={"precision": precision})})


def log_files(run: Run, data: Dataset) -> None:
    """Say what looks wrong in the files, and say and log which could not be opened, and which jets not be used."""
    suspicions = find_suspicions(data.files) if run.writes else []
    for line in (*skipped_files(data.left_out), *copies_of(data.files), *suspicions):
        run.say(line)
    logged = run.begun  # when the run began
    if data.left_out and not logged:
        run.log({"step": 0, "kind": "left_out", "files": data.left_out, "all": len(data.left_out)})
    if data.jets_left_out and logged:
        run.say(skipped_jets(data.jets_left_out))
    elif data.jets_left_out:
        run.log_left_out(0, data.jets_left_out)


def make_monitor(data: Dataset, settings: TrainSettings, request: Request, say: Say | None = None) -> Monitor | None:
    """A monitor on a sample of the held-out jets; None where none are held out."""
    left_out: Counter[str] = Counter()
    jets = read_all(data.files, subsample(data.held_out, settings.validation_jets, seed=0), request, left_out)
    if say is not None and left_out:
        say(f"held-out {skipped_jets(left_out)}")
    if jets is not None:
        weighed, zero = int((weights_of(jets) > 0).sum()), {"weight 0": len(jets)}
        require_jets(weighed, "to validate on", where=f"column {request.weights}", left_out=zero)
    return None if jets is None else Monitor(jets, settings.batch_size, len(data.label_names))


def read_all(
    files: Sequence[JetFile], parts: Sequence[EntryRange], request: Request, left_out: Counter[str] | None = None
) -> Jets | None:
    """All jets of `parts` in memory; None where there are none. Those left out are counted, by reason."""
    batches = list(ordered(files, parts, request, skipped=left_out))
    return concatenate(batches) if batches else None


def training_facts(data: Dataset, settings: RunSettings[MethodSettings], done: Fit) -> dict[str, Any]:
    """What a model remembers of its training: above all which jets it has seen."""
    return {
        **Seen.of_parts(data.files, data.all_train, [*data.held_out, *data.unlabelled_held_out]).facts(),
        "columns": list(data.columns),
        "validation_fraction": None if settings.data.validation else settings.data.validation_fraction,
        "split_seed": settings.data.split_seed,
        "jets_per_epoch": count(data.train),
        "labelled": settings.data.labelled,
        "labelled_seed": settings.data.labelled_seed,
        "steps": done.steps,
        "skipped_steps": done.skipped_steps,
        "jets": done.jets,
        "seconds": round(done.seconds, 1),
        "seed": settings.train.seed,
        "precision": settings.train.precision,
    }


def finish(run: Run, method: Method, labels: tuple[str, ...], facts: dict[str, Any], fabric: Fabric) -> None:
    """Write the trained model. From here on a signal comes too late to stop anything."""
    with watched() as watch:
        watch.at_once = False
        if run.writes:
            heads = {"head": method.exported_head(), "regressor": method.exported_regressor()}
            model = Model(method.exported(), labels=labels, facts=facts, **heads)  # type: ignore[arg-type]
            digest = save_model(model, run.model, method if method.saves_full_method else None)
            run.say(f"model: {run.model} (sha256 {digest[:12]})")
        fabric.barrier()
