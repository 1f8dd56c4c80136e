"""Quick settings for the tests of finetuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssl_jets.config import RunSettings
from ssl_jets.data.files import JetFile
from ssl_jets.finetuning import FinetuneSettings, resolve_finetune
from support.overridden import overridden

QUICK = [
    "train.precision=32-true", "train.steps=3", "train.batch_size=16", "train.validation_jets=20", "train.log_every=1",
    "data.buffer=300",
]  # fmt: skip


def sources(files: list[JetFile]) -> dict[str, Any]:
    """The settings that name these files."""
    return {"data": {"sources": [str(file.source) for file in files]}}


def settings_of(pretrained: Path, files: list[JetFile], *more: str) -> RunSettings[FinetuneSettings]:
    """Quick settings and `more`."""
    return resolve_finetune(pretrained, sources(files), overridden(QUICK, *more))
