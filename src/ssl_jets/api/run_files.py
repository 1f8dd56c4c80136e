"""Files that runs were trained on, for an evaluation without `data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_jets.errors import DataError, SslJetsError, UsageError, some_of

READING = ("format", "jets", "labels", "where", "bad_jets", "bad_files")
"""Settings of a run for reading its files (`data.*`)."""


@dataclass(frozen=True)
class Remembered:
    """Files of a run, and the settings for reading them.

    Attributes:
        sources: as for `data`; none for the bundled sample.
        reading: settings `data.*` of the run.
    """

    sources: tuple[str, ...] = ()
    reading: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Path]) -> Remembered:
        """Read `config.yaml` of each run; a model folder alone has none.

        Raises:
            UsageError: the runs were trained on different files.
            DataError: files do not exist any more.
            SslJetsError: a path is neither a run nor a model.
        """
        remembered = {run: cls._of(run) for run in runs}
        first_run, first = next(iter(remembered.items()))
        for run, other in remembered.items():
            differing = [key for key in ("format", "where") if other.reading.get(key) != first.reading.get(key)]
            if other.sources != first.sources or differing:
                raise UsageError(
                    "the runs were trained on different " + ("jets" if differing == ["where"] else "files"),
                    where=f"{first_run}, {run}",
                    hint="name the files to evaluate on: --data FILE",
                )
        first._check(first_run)
        labels = [one.reading["labels"] for one in remembered.values() if one.reading.get("labels")]
        return cls(first.sources, first.reading | ({"labels": labels[-1]} if labels else {}))

    @classmethod
    def _of(cls, run: Path) -> Remembered:
        from ssl_jets.config import read_config
        from ssl_jets.sharing.location import model_folder

        folder = run.parent if run.name == "model" else run
        if not folder.is_dir() and "@" in run.name:  # a snapshot of the run, RUN@step-500
            folder = run.with_name(run.name.rpartition("@")[0])
        config = folder / "config.yaml"
        if not config.is_file():
            model_folder(run)  # raises for a path that is no model either, such as a file of jets
            return cls()
        data = read_config(config).get("data") or {}
        sources = [*(data.get("sources") or data.get("proportions") or ()), *(data.get("validation") or ())]
        return cls(tuple(sources), {key: data[key] for key in READING if data.get(key) is not None})

    def _check(self, run: Path) -> None:
        from ssl_jets.data.sources import resolve_sources

        try:
            if "-" in self.sources:
                raise DataError("standard input", where="-")
            if self.sources:
                resolve_sources(self.sources)
        except SslJetsError as error:
            raise DataError(
                "the files that the run was trained on cannot be found",
                where=run,
                found=error.where,
                hint="name the files to evaluate on: --data FILE",
            ) from None

    def line(self) -> str:
        """Return the message that names the files."""
        schema = self.reading.get("format")
        where = self.reading.get("where")
        return (
            f"no --data: the files of the run, {some_of(self.sources, 4)}"
            + (f", read with {schema}" if schema else "")
            + (f", where {where}" if where else "")
        )
