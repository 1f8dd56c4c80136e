"""The modes of finetuning: one file, one way from a pretrained model to a finetuned one."""

from __future__ import annotations

from ssl_jets.finetune.modes._mode import Mode, Work
from ssl_jets.finetune.modes.full import Full
from ssl_jets.finetune.modes.probe import Probe
from ssl_jets.finetune.modes.scratch import Scratch

MODES: dict[str, type[Mode]] = {"probe": Probe, "full": Full, "scratch": Scratch}

__all__ = ["MODES", "Mode", "Work"]
