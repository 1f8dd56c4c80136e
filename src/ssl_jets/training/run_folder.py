"""Run folder: settings, metrics, checkpoints, log. Only rank 0 writes.

RUN/config.yaml              every resolved setting
RUN/metrics.jsonl            one line per logged step
RUN/model/                   the trained model (model_file.py)
RUN/flatten.json             spectra of the training jets, with `data.flatten`
RUN/snapshots/step-N/         the model at step N, with `train.snapshot_minutes`
RUN/checkpoints/last.ckpt    for --resume only; last-1.ckpt is the one before it, and so on
RUN/checkpoints/start.json   the model that a run goes on from (`train.model`); teacher.json, pretrained.json likewise
RUN/checkpoints/files.json   name, size and digest of each input file, and of a schema of your own, for --resume
RUN/log.txt                  messages on the terminal
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ssl_jets.config import Settings, to_yaml
from ssl_jets.data.identity import FileId
from ssl_jets.data.skipped import skipped_jets
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime.atomic import (
    WorkFolder,
    check_run_folder,
    clear_left_behind,
    open_to_append,
    real,
    whole_file,
    write_text,
)
from ssl_jets.runtime.console import to_stderr
from ssl_jets.runtime.reading import guarded, read_text
from ssl_jets.runtime.terminal import escaped
from ssl_jets.training.loggers import Loggers


class TrainingRun:
    """An open run folder.

    Args:
        folder: the folder.
        writes: this process writes (rank 0); calls of other ranks do nothing.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.loggers = Loggers()
        self._lock: IO[str] | None = None

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.folder / "model"

    @property
    def checkpoint(self) -> Path:
        """Newest checkpoint, from which `--resume` continues."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def spectrum(self) -> Path:
        """File of the spectra measured for `data.flatten`."""
        return self.folder / "flatten.json"

    @property
    def has_checkpoint(self) -> bool:
        """True if there is a checkpoint to continue from."""
        return bool(checkpoints(self.checkpoint))

    @property
    def files(self) -> Path:
        """Record of the input files."""
        return self.checkpoint.with_name("files.json")

    @property
    def can_check_files(self) -> bool:
        """True if `record_or_check_files` compares files with those that the run began with."""
        return self.has_checkpoint and self.files.is_file()

    @property
    def finished(self) -> bool:
        """True if the trained model exists, which is written last."""
        return (self.model / "config.json").is_file()

    @property
    def metrics(self) -> Path:
        """File of the metrics, one JSON object per line."""
        return self.folder / "metrics.jsonl"

    def lock(self) -> None:
        """Keep other processes from writing into the folder during the lifetime of this object.

        A second job that continues the same run would mix its metrics into the file.

        Raises:
            SslJetsError: another process has the lock.
        """
        if not self.writes:
            return
        self._lock = open_to_append(self.folder / ".lock")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                hint = "wait until it ends, or --out OTHER"
                raise SslJetsError(
                    "another process is training in this run folder", where=self.folder, hint=hint
                ) from None
            # The file system has no locks: other processes are not kept out.

    def check_replaceable(self, *, force: bool = False) -> None:
        """Check that the folder is empty, or a run to be replaced with `force` (`check_run_folder`)."""
        if self.writes:
            check_run_folder(self.folder, force=force)

    def create(self, settings: Settings, *, force: bool = False) -> None:
        """Create the folder and write `config.yaml`; `force` replaces an existing run.

        A kill at any moment leaves a run, or a folder that counts as empty. A link to a folder stays a link.
        """
        if not self.writes:
            return
        self.check_replaceable(force=force)
        folder = real(self.folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            old = None
            if (folder / "config.yaml").is_file():
                self.lock()
                old = WorkFolder(folder)
                folder.rename(old.path / "old")
            folder.mkdir(exist_ok=True)
            self.lock()
            write_text(folder / "config.yaml", to_yaml(settings))
            self.checkpoint.parent.mkdir(exist_ok=True)
            if old is not None:
                old.remove()
            clear_left_behind(folder)
        except OSError as error:
            raise SslJetsError("the run folder cannot be written", where=self.folder, found=error.strerror) from None

    def record_or_check_files(self, files: Sequence[FileId], schemas: Collection[str] = ()) -> None:
        """Record the input files of a new run, or check that a resumed run has the same ones.

        Args:
            files: the files.
            schemas: SHA-256 of the user's own schemas that they are read with. Another order of the classes, another
                unit or cut would change what the weights mean.

        Raises:
            UsageError: names, contents or schemas differ.
        """
        record = self.files
        if not self.has_checkpoint:
            if self.writes:
                write_text(record, json.dumps({"files": files, "schemas": sorted(schemas)}))
        elif not record.is_file():
            self.log_message("an older ssl-jets began the run and recorded no files: they are taken as unchanged")
        else:
            with guarded("the list of files of the run cannot be read", record, hint="--force begins the run anew"):
                stored = json.loads(read_text(record))
                rows, known = (stored["files"], stored["schemas"]) if isinstance(stored, dict) else (stored, None)
                recorded = [FileId(*row) for row in rows]
            before = Counter((file.name, file.digest) for file in recorded)
            now = Counter((file.name, file.digest) for file in files)
            if before != now:
                differing = dict.fromkeys(name for name, _ in (before - now) + (now - before))
                raise UsageError(
                    "the files are not those that the run began with",
                    where=record,
                    found=f"other names or contents: {', '.join(list(differing)[:8])}",
                    hint="--resume with the files as they were, or --out OTHER for a new run",
                )
            if known not in (None, sorted(schemas)):  # None in the records of older versions
                raise UsageError(
                    "the schema is not the one that the run began with",
                    where=record,
                    hint="--resume with the schema as it was, or --out OTHER for a new run",
                )

    def log_message(self, message: str) -> None:
        """Write one line to stderr and to `log.txt`."""
        if self.writes:
            to_stderr(message)
            self._append(self.folder / "log.txt", escaped(message) + "\n")

    def log_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one line to `metrics.jsonl` and pass it to the loggers; floats have seven digits, NaN is null."""
        if self.writes:
            self.loggers.log(record)
            self._append(self.metrics, json.dumps({name: _plain(value) for name, value in record.items()}) + "\n")

    def log_skipped(self, step: int, skipped: Counter[str]) -> None:
        """Log the number of jets skipped up to `step`, by reason, to the metrics and as a message."""
        self.log_metrics({"step": step, "kind": "left_out", "jets": dict(skipped), "all": skipped.total()})
        self.log_message(skipped_jets(skipped))

    def drop_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps after `step`, which a resumed run repeats, and a half-written line."""
        if not self.writes or not self.metrics.is_file():
            return
        with (
            guarded("the metrics of the run cannot be read", self.metrics),
            self.metrics.open("rb") as lines,
            whole_file(self.metrics, force=True) as fresh,
            fresh.open("wb") as kept,
        ):
            for line in lines:
                with suppress(ValueError, KeyError, TypeError, RecursionError):  # killed while writing, or damaged
                    if json.loads(line)["step"] <= step:
                        kept.write(line.rstrip(b"\r\n") + b"\n")

    def _append(self, path: Path, text: str) -> None:
        try:
            with open_to_append(path) as file:
                file.write(text)
        except OSError as error:
            raise SslJetsError("the run folder cannot be written", where=path, found=error.strerror) from None


def checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints on disk, newest first: `last.ckpt`, then `last-1.ckpt`, `last-2.ckpt`, ..."""
    older = [file for file in path.parent.glob(f"{path.stem}-*{path.suffix}") if _age(file) > 0]
    return [*([path] if path.is_file() else []), *sorted(older, key=_age)]


def _age(file: Path) -> int:
    """Return the number in `last-2.ckpt`; 0 if there is none."""
    number = file.stem.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
