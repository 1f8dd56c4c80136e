"""A run folder: settings, metrics, checkpoints, log. Only rank 0 writes.

RUN/config.yaml              every resolved setting
RUN/metrics.jsonl            one line per logged step
RUN/model/                   the trained model (model_file.py)
RUN/checkpoints/last.ckpt    for --resume only
RUN/checkpoints/healthy.ckpt the state at the last healthy look, with train.on_collapse=rollback
RUN/log.txt                  what was said on the terminal
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from ssl_jets.config import Settings, to_yaml
from ssl_jets.data.left_out import of_jets
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.progress import to_stderr

Say = Callable[[str], None]


class Run:
    """An open run folder.

    Args:
        folder: the folder.
        writes: whether this process writes (rank 0); other ranks' calls do nothing.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self._lock: IO[str] | None = None

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.folder / "model"

    @property
    def checkpoint(self) -> Path:
        """The file that `--resume` goes on from."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def healthy(self) -> Path:
        """The state at the last look that found no collapse, with `train.on_collapse=rollback`."""
        return self.folder / "checkpoints" / "healthy.ckpt"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.folder / "metrics.jsonl"

    def take(self) -> None:
        """Keep other processes from writing into the folder for as long as this object lives.

        A second job that goes on with the same run would mix its metrics with those of the first.

        Raises:
            SslJetsError: another process has it.
        """
        if not self.writes:
            return
        self._lock = (self.folder / ".lock").open("w", encoding="utf-8")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                hint = "wait until it ends, or --out OTHER"
                raise SslJetsError(
                    "another process is training in this run folder", where=self.folder, hint=hint
                ) from None
            # A file system without locks: nobody is kept out.

    def refuse_existing(self, *, force: bool = False) -> None:
        """An error where the folder holds something; a run is let pass with `force`. Nothing is written or removed."""
        if not self.writes or not self.folder.exists():
            return
        entries = self.folder.iterdir() if self.folder.is_dir() else [self.folder]
        if any(not entry.name.startswith(".") for entry in entries):
            if not (self.folder / "config.yaml").is_file():
                raise UsageError("the output exists and is not a run folder", where=self.folder, hint="--out OTHER")
            if not force:
                raise UsageError(
                    "the run exists", where=self.folder, hint="--resume to go on, --force to replace it, or --out OTHER"
                )

    def create(self, settings: Settings, *, force: bool = False) -> None:
        """Make the folder and write `config.yaml`; an existing run is refused unless `force`, which removes it.

        Killed at any moment, it leaves a run, or a folder that counts as empty.
        """
        if not self.writes:
            return
        self.refuse_existing(force=force)
        folder = self.folder.absolute()  # "." has no name
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        try:
            if (self.folder / "config.yaml").is_file():
                self.take()
                self.folder.rename(old)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.take()
            replace(self.folder / "config.yaml", lambda path: path.write_text(to_yaml(settings), encoding="utf-8"))
            self.checkpoint.parent.mkdir(exist_ok=True)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise SslJetsError("the run folder cannot be written", where=self.folder, found=error.strerror) from None

    def say(self, message: str) -> None:
        """One line to stderr and to `log.txt`."""
        if self.writes:
            to_stderr(message)
            self._append(self.folder / "log.txt", message + "\n")

    def log(self, record: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`; floats with seven digits, NaN and infinity as null."""
        if self.writes:
            self._append(self.metrics, json.dumps({name: _plain(value) for name, value in record.items()}) + "\n")

    def log_left_out(self, step: int, left_out: Counter[str]) -> None:
        """Say and log the number of jets left out until `step`, by reason."""
        self.log({"step": step, "kind": "left_out", "jets": dict(left_out), "all": left_out.total()})
        self.say(of_jets(left_out))

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps after `step`, which a resumed run will make again (and a half-written line)."""
        if not self.writes or not self.metrics.is_file():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):  # killed while writing
                continue
        replace(self.metrics, lambda path: path.write_text("".join(kept), encoding="utf-8"))

    def _append(self, path: Path, text: str) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise SslJetsError("the run folder cannot be written", where=path, found=error.strerror) from None


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and rename it, so that `path` is never half-written."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(fresh)
        os.replace(fresh, path)
    except OSError as error:
        raise SslJetsError("a file cannot be written", where=path, found=error.strerror or error) from None
    finally:
        fresh.unlink(missing_ok=True)


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or the first of `parent/name-2`, `parent/name-3`, ... that does not exist."""
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
