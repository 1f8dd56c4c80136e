"""Loggers of other tools, fed with the lines of `metrics.jsonl` (`train.log`): TensorBoard, W&B, MLflow.

Each writes inside the run folder and contacts no server, unless the environment says otherwise (`WANDB_MODE=online`,
`MLFLOW_TRACKING_URI`). Each is an extra: `pip install "ssl-jets[tensorboard]"`.
"""

from __future__ import annotations

import importlib.util
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.reading import read_text


class MetricLogger(Protocol):
    """Logger of numbers at a step."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers by name, such as `train/loss`."""

    def close(self) -> None:
        """Write everything that is buffered."""


class TensorBoard:
    """Event files in RUN/tensorboard, of torch's writer."""

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)  # a resumed run repeats these

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write one scalar for each number."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Write everything that is buffered."""
        self._writer.close()


class WeightsAndBiases:
    """A run of W&B in RUN/wandb, offline unless `WANDB_MODE` is set; `wandb sync` uploads it later."""

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ssl-jets"),
            name=folder.name,
            id=_wandb_id(folder),
            dir=str(folder),
            config=dict(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of one step."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Finish the run of W&B."""
        self._run.finish()


def _wandb_id(folder: Path) -> str:
    """Return the identity of a run at W&B: random, and kept in the run folder, which may be moved before `--resume`."""
    file = folder / "wandb" / "run-id.txt"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        write_text(file, secrets.token_hex(8))
    return read_text(file).strip()


class MLflow:
    """A run of MLflow in RUN/mlruns, or on the server of `MLFLOW_TRACKING_URI`."""

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from mlflow.tracking import MlflowClient

        address = os.environ.get("MLFLOW_TRACKING_URI", f"file:{folder.resolve() / 'mlruns'}")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files need no server and no database
        self._client = MlflowClient(tracking_uri=address)
        experiment = self._client.get_experiment_by_name("ssl-jets")
        number = experiment.experiment_id if experiment else self._client.create_experiment("ssl-jets")
        self._run = self._client.create_run(number, run_name=folder.name).info.run_id
        for key, value in config.items():
            self._client.log_param(self._run, key, value)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log each number."""
        for name, number in numbers.items():
            self._client.log_metric(self._run, name, number, step=step)

    def close(self) -> None:
        """Mark the run of MLflow as finished."""
        self._client.set_terminated(self._run)


LOGGERS: dict[str, type[TensorBoard] | type[WeightsAndBiases] | type[MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def check_loggers(names: Sequence[str]) -> None:
    """Check that the packages of the loggers are installed.

    Raises:
        UsageError: one is not; the hint is the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            hint = f'pip install "ssl-jets[{name}]"'
            raise UsageError("the package of this logger is not installed", where="train.log", found=name, hint=hint)


class Loggers:
    """The loggers of one run; opened at the first line, since a resumed run knows its step only then."""

    def __init__(
        self, names: Sequence[str] = (), folder: Path = Path(), config: Mapping[str, Any] | None = None
    ) -> None:
        self._names, self._folder, self._config = names, folder, config or {}
        self._open: list[MetricLogger] = []

    def log(self, record: Mapping[str, Any]) -> None:
        """Log the finite numbers of a line of `metrics.jsonl`."""
        if not self._names:
            return
        step = int(record["step"])
        if not self._open:
            self._open = [LOGGERS[name](self._folder, self._config, step) for name in self._names]
        for logger in self._open:
            logger.log(step, numbers_of(record))

    def close(self) -> None:
        """Write everything that is buffered."""
        for logger in self._open:
            logger.close()
        self._open = []


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a line of `metrics.jsonl`, named by its kind.

    Example:
        >>> numbers_of({"step": 3, "kind": "train", "loss": 2.5, "lr": None, "files": {}})
        {'train/loss': 2.5}
    """
    kind = record.get("kind", "run")
    return {
        f"{kind}/{name}": float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
