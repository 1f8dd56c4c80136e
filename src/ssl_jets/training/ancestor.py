"""Trained model that a training goes on from or imitates: its record in the run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.reading import read_json
from ssl_jets.training.run_folder import TrainingRun


@dataclass(frozen=True)
class Ancestor:
    """Trained model that a pretraining uses; a resumed run needs neither the model nor its folder.

    Attributes:
        path: run folder or model folder, as it was named.
        sha256: of its weights.
        method: the method that trained it.
        training: facts of its training.
    """

    FILE: ClassVar[str]
    """Name of the record."""
    LOST: ClassVar[str]
    """Message without the record."""

    path: str
    sha256: str
    method: str
    training: dict[str, Any]

    @property
    def history(self) -> dict[str, Any]:
        """Facts of its training, among the facts of the next one."""
        return {"sha256": self.sha256, "method": self.method, **self.training}

    def record(self) -> dict[str, Any]:
        """Return the facts that a resumed run needs."""
        return {"path": self.path, "sha256": self.sha256, "method": self.method, "training": self.training}

    def write(self, run: TrainingRun) -> None:
        """Write the record into the run folder."""
        if run.writes:
            write_text(run.folder / "checkpoints" / self.FILE, json.dumps(self.record()))

    @classmethod
    def read_record(cls, run: TrainingRun) -> dict[str, Any]:
        """Read the record of a resumed run.

        Raises:
            SslJetsError: it is damaged or missing.
        """
        record: dict[str, Any] = read_json(run.folder / "checkpoints" / cls.FILE, cls.LOST)
        return record
