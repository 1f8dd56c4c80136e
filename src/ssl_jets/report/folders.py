"""Files of the folders that reports are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from ssl_jets.config import read_config
from ssl_jets.errors import DataError
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.runtime import reading
from ssl_jets.runtime.reading import guarded, json_object

MOST_LINES = 5000
"""Lines of training steps that a report is sure to show."""

_Numbered = tuple[int, dict[str, Any]]
"""Number and contents of a line."""


@dataclass(frozen=True)
class RunFolder:
    """A pretrain or finetune run.

    Attributes:
        folder: path of the run.
        settings: `config.yaml`.
        lines: `metrics.jsonl`, without a last line that was cut off; of a long training some of the lines (`_lines`).
        model: `model/config.json`; empty for a run that is not finished.
        spectrum: `flatten.json`; empty for a run without `data.flatten`.
    """

    folder: Path
    settings: dict[str, Any]
    lines: list[dict[str, Any]]
    model: dict[str, Any]
    spectrum: dict[str, Any] = field(default_factory=dict)


def is_run(folder: Path) -> bool:
    """Check whether a folder is a run folder, and not a model alone."""
    return (folder / "config.yaml").is_file()


def read_run(folder: Path) -> RunFolder:
    """Read a run folder, finished or not.

    Raises:
        DataError: it has no `config.yaml`, or a file in it cannot be read.
    """
    config, model, spectrum = (folder / name for name in ("config.yaml", "model/config.json", "flatten.json"))
    if not is_run(folder):
        raise DataError("this is not a run folder: it has no config.yaml", where=folder)
    return RunFolder(
        folder,
        read_config(config),
        _lines(folder / "metrics.jsonl"),
        read_json(model) if model.is_file() else {},
        read_json(spectrum) if spectrum.is_file() else {},
    )


def evaluations_in(folder: Path) -> list[Evaluation]:
    """Read the evaluations inside a run folder, by name.

    Raises:
        DataError: one of them cannot be read.
    """
    return [Evaluation.read(path.parent) for path in sorted(folder.glob("*/metrics.json"))]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a folder.

    Raises:
        DataError: it is missing or is not JSON.
    """
    return reading.read_json(path, "a file of the report cannot be read")


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`; only the last may be cut off, by a kill while it was written.

    Of more than 2 `MOST_LINES` lines of training steps every second, fourth, ... is kept, and the last: a figure shows
    no more, and lines of a million steps take gigabytes.
    """
    if not path.is_file():
        return []
    others, steps, last = list[_Numbered](), list[_Numbered](), list[_Numbered]()
    read, every = 0, 1  # training steps that were read; every so many is kept
    with guarded("a file of the report cannot be read", path), path.open("rb") as file:
        for number, line in _parsed(file, path):
            if line.get("kind") != "train":
                others.append((number, line))
                continue
            last, read = [(number, line)], read + 1
            if read % every == 0:
                steps += last
            if len(steps) > 2 * MOST_LINES:
                every, steps = 2 * every, steps[1::2]
    steps += last if steps[-1:] != last else []
    return [line for _, line in sorted([*others, *steps], key=itemgetter(0))]


def _parsed(file: Iterable[bytes], path: Path) -> Iterator[_Numbered]:
    """Yield the number and the object of each line; none for a last line that is not JSON."""
    wrong: tuple[int, bytes] | None = None
    for number, text in enumerate(file, start=1):
        if wrong is not None:
            found = wrong[1].decode("utf-8", errors="replace").rstrip("\r\n")
            raise DataError("a line of the metrics is not JSON", where=f"{path}, line {wrong[0]}", found=found)
        try:
            yield number, json_object(text.decode("utf-8"))
        except (ValueError, RecursionError):
            wrong = number, text
