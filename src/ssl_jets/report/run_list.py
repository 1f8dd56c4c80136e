"""List of the runs in a folder: settings, length, last measures and state of each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ssl_jets.errors import SslJetsError, UsageError, nearest, some_of
from ssl_jets.report.folders import RunFolder, read_run

_REMAINS = ("metrics.jsonl", "checkpoints", "log.txt")
"""Entries of a run folder that has lost its `config.yaml`."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, ">=": ge, "<=": le, ">": gt, "<": lt}
_CONDITION = re.compile(r"(?P<key>\w+)(?P<operator>!=|>=|<=|=|>|<)(?P<value>.*)")


class RunSummary(BaseModel):
    """One run.

    Attributes:
        run: path of the run folder.
        state: "finished", "unfinished" (running, or stopped), or "broken".
        method: the pretraining method, or `finetune MODE`.
        size: size of the encoder.
        data: files trained on; "sample" for the bundled sample.
        steps: steps taken.
        of_steps: steps of the whole training; None if the number is not known before its end.
        loss: held-out loss of the validation of the model, or of the last validation.
        probe: accuracy of the linear probe of the same validation.
        rankme: RankMe of z of the same validation.
        sha256: of the weights of the model; empty without one.
        error: the first thing that is wrong with a broken run.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    state: str
    method: str = ""
    size: str = ""
    data: str = ""
    steps: int | None = None
    of_steps: int | None = None
    loss: float | None = None
    probe: float | None = None
    rankme: float | None = None
    sha256: str = ""
    error: str = ""


def list_runs(folder: Path, *, sort: str = "run", conditions: Sequence[str] = ()) -> list[RunSummary]:
    """Read all runs in a folder and its subfolders; a run that cannot be read is listed as broken.

    Args:
        folder: the folder, or a run.
        sort: attribute to sort by, `-` before it for falling order; runs without it come last.
        conditions: conditions that all runs of the list fulfil, such as `method=mae`, `data=*TTBar*`, `probe>0.5`.

    Raises:
        UsageError: no such folder, attribute or condition.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder)
    key = sort.removeprefix("-")
    _check_key(key, "--sort")
    fulfilled = [_condition(text) for text in conditions]
    found = [summary for summary in map(_summary, _run_folders(folder)) if all(test(summary) for test in fulfilled)]
    having = [summary for summary in found if getattr(summary, key) not in (None, "")]
    having.sort(key=lambda summary: getattr(summary, key), reverse=sort.startswith("-"))
    return [*having, *(summary for summary in found if getattr(summary, key) in (None, ""))]


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yield the run folders, sorted, without those inside of a run."""
    for place, folders, files in os.walk(folder):
        names = {*folders, *files}
        if "config.yaml" in names or "metrics.jsonl" in names or {*_REMAINS} <= names:
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _summary(folder: Path) -> RunSummary:
    try:
        return _of(read_run(folder))
    except SslJetsError as error:
        return RunSummary(run=str(folder), state="broken", error=error.what)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}".partition("\n")[0]
        return RunSummary(run=str(folder), state="broken", error=f"its files are not those of a run: {found}")


def _of(run: RunFolder) -> RunSummary:
    settings, training = run.settings, run.model.get("training", {})
    method, data = settings["method"], settings["data"]
    steps = [line["step"] for line in run.lines if line["kind"] == "train"]
    validations = {line["step"]: line for line in run.lines if line["kind"] == "validation"}
    measured: Mapping[str, Any] = validations.get(training.get("best_step") or max(validations, default=0), {})
    return RunSummary(
        run=str(run.folder),
        state="finished" if run.model else "unfinished",
        method=" ".join(filter(None, (method["name"], method.get("mode")))),
        size=settings["model"].get("architecture") or settings["model"]["size"],
        data=_names(data.get("sources") or list(data.get("proportions") or ())),
        steps=training.get("steps", max(steps, default=0)),
        of_steps=training.get("steps", settings["train"].get("steps")),
        loss=measured.get("loss"),
        probe=measured.get("probe_accuracy"),
        rankme=measured.get("rankme"),
        sha256=run.model.get("weights_sha256", ""),
    )


def _names(sources: Sequence[str]) -> str:
    """Return the first names of files, without their folders."""
    names = [name.rstrip("/").rpartition("/")[2] for name in sources]
    return some_of(names, 2) or "sample"


def _check_key(key: str, where: str) -> None:
    if key not in RunSummary.model_fields:
        allowed = nearest(key, list(RunSummary.model_fields))
        raise UsageError("a run has no such attribute", where=where, found=key, allowed=allowed)


def _condition(text: str) -> Callable[[RunSummary], bool]:
    """Return the test of a condition; a run without the attribute fails it."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise UsageError("this is no condition", where="--filter", found=text, hint="--filter method=mae 'probe>0.5'")
    key, operator, value = match["key"], match["operator"], match["value"].strip()
    _check_key(key, f"--filter {text}")
    if RunSummary.model_fields[key].annotation is str:
        if operator not in ("=", "!="):
            raise UsageError("text has no order", where="--filter", found=text, allowed=[f"{key}=...", f"{key}!=..."])
        return lambda summary: fnmatchcase(getattr(summary, key), value) == (operator == "=")
    try:
        number = float(value)
    except ValueError:
        raise UsageError("this attribute is a number", where="--filter", found=text) from None
    compare = _OPERATORS[operator]
    return lambda summary: getattr(summary, key) is not None and compare(getattr(summary, key), number)
