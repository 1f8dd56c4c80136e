"""Protocols by name, each with the same steps: settings, run, result, table."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_jets.config import Settings
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.protocols import anomaly, domain, labels
from ssl_jets.protocols.anomaly_result import AnomalyScan
from ssl_jets.protocols.domain_result import DomainResult
from ssl_jets.protocols.labels_result import LabelCurves
from ssl_jets.protocols.result import ProtocolResult
from ssl_jets.protocols.settings import DomainRun
from ssl_jets.protocols.tables import anomaly_table, domain_table, labels_table
from ssl_jets.runtime.console import Log, to_stderr


class ProtocolRunner(typing.Protocol):
    """Function that runs a protocol, or resumes it, writes its result and returns it."""

    def __call__(
        self,
        settings: Any,
        out: str | Path,
        *,
        models: Sequence[str | Path] = (),
        z: Sequence[str | Path] = (),
        device: str | None = None,
        log: Log = to_stderr,
    ) -> ProtocolResult:
        """Run the protocol on the jets that its settings name.

        Args:
            settings: of the type `LongEvaluation.settings`; input files are in `settings.data.sources`.
            out: folder to write to; finished results in it are used again.
            models: run folders.
            z: z files of one model, in place of models and sources.
            device: by default the GPU, if there is one.
            log: called with each message.
        """


@dataclass(frozen=True)
class LongEvaluation:
    """A protocol: a long evaluation that trains as well.

    Attributes:
        settings: type of its settings.
        run: runs or resumes it.
        result: type of its result, which is read with `result.read(folder)`.
        table: formats a result for the terminal.
    """

    settings: type[Settings]
    run: ProtocolRunner
    result: type[ProtocolResult]
    table: Callable[[Any], str]


PROTOCOLS = {
    LabelCurves.NAME: LongEvaluation(EvaluateSettings, labels.run, LabelCurves, labels_table),
    AnomalyScan.NAME: LongEvaluation(EvaluateSettings, anomaly.run, AnomalyScan, anomaly_table),
    DomainResult.NAME: LongEvaluation(DomainRun, domain.run, DomainResult, domain_table),
}
"""The protocols, by the name of `--protocol`."""
