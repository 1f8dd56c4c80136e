"""Options that `embed` and `predict` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ssl_jets.config import DataSettings, Settings
from ssl_jets.embedding.encoding import Progress
from ssl_jets.embedding.inputs import PartOf
from ssl_jets.model import BATCH
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.precision import PrecisionSetting

RESUME_JETS = 65_536
"""Jets of a finished part that `--resume` keeps."""


class OutSettings(Settings):
    """Settings of the output (`out.*`)."""

    rntuple: bool = False
    """Write an RNTuple, not a TTree, to a ROOT file."""
    resume_jets: int = RESUME_JETS
    """Jets of a finished part that `--resume` keeps."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of `embed` and `predict`.

    Attributes:
        keep: jet columns to copy from the input.
        data: `workers`, `bad_jets`, `bad_files`, `format`, `labels`, `jets`, `external` and `where` are used.
        batch_size: jets of one forward pass.
        precision: number format of the forward pass.
        device: by default a GPU, or the CPU of a machine without one.
        part: the part of an array job to write; None for all.
        per_file: write a file for each input; the output then has `{name}` or `{index}` in its name.
        resume: keep finished parts, and go on from the parts of a killed run.
        force: overwrite the output.
        out_settings: kind of a ROOT file, and jets of a finished part.
        report: called with the progress.
        log: called with each message about files and columns.
    """

    keep: Sequence[str] = ()
    data: DataSettings = field(default_factory=DataSettings)
    batch_size: int = BATCH
    precision: PrecisionSetting = "auto"
    device: torch.device | str | None = None
    part: PartOf | None = None
    per_file: bool = False
    resume: bool = False
    force: bool = False
    out_settings: OutSettings = field(default_factory=OutSettings)
    report: Progress | None = None
    log: Log = to_stderr

    @property
    def resume_jets(self) -> int | None:
        """Jets of a finished part; None without `resume`."""
        return self.out_settings.resume_jets if self.resume else None
