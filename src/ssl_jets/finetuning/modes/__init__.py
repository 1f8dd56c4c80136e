"""Finetuning modes by name."""

from __future__ import annotations

from ssl_jets.finetuning.modes.base import Mode
from ssl_jets.finetuning.modes.distil import DistilMode
from ssl_jets.finetuning.modes.freezing import FullMode, HeadMode, LastBlocksMode, ScratchMode
from ssl_jets.finetuning.modes.lora import LoraMode
from ssl_jets.finetuning.modes.probe import ProbeMode

MODES: dict[str, type[Mode]] = {
    "probe": ProbeMode,
    "head": HeadMode,
    "last-blocks": LastBlocksMode,
    "lora": LoraMode,
    "full": FullMode,
    "scratch": ScratchMode,
    "distil": DistilMode,
}

__all__ = ["MODES", "Mode"]
