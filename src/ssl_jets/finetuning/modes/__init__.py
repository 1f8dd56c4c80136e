"""Finetuning modes by name."""

from __future__ import annotations

from ssl_jets.finetuning.modes.base import Mode
from ssl_jets.finetuning.modes.distil import DistilMode
from ssl_jets.finetuning.modes.freezing import FullMode, HeadMode, LastBlocksMode, ScratchMode
from ssl_jets.finetuning.modes.lora import LoraMode
from ssl_jets.finetuning.modes.probe import ProbeMode
from ssl_jets.finetuning.settings import FinetuneSettings

MODES: dict[str, type[Mode]] = {
    "probe": ProbeMode,
    "head": HeadMode,
    "last-blocks": LastBlocksMode,
    "lora": LoraMode,
    "full": FullMode,
    "scratch": ScratchMode,
    "distil": DistilMode,
}


def unused_settings(method: FinetuneSettings) -> list[str]:
    """Return the settings that other modes read, and this one does not, although they are not at their defaults.

    >>> unused_settings(FinetuneSettings(mode="lora", layer_decay=0.8, probe_first=True))
    ['method.layer_decay']
    """
    names = dict.fromkeys(name for mode in MODES.values() for name in mode.own_settings)
    changed = [name for name in names if getattr(method, name) != FinetuneSettings.model_fields[name].default]
    return [f"method.{name}" for name in changed if name not in MODES[method.mode].own_settings]


__all__ = ["MODES", "Mode", "unused_settings"]
