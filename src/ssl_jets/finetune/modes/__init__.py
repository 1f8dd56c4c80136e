"""The modes of finetuning: one file, one way from a pretrained model to a finetuned one."""

from __future__ import annotations

from ssl_jets.finetune.modes._mode import Mode, Work
from ssl_jets.finetune.modes.distil import Distil
from ssl_jets.finetune.modes.full import Full
from ssl_jets.finetune.modes.head import Head
from ssl_jets.finetune.modes.last import Last
from ssl_jets.finetune.modes.lora import Lora
from ssl_jets.finetune.modes.probe import Probe
from ssl_jets.finetune.modes.scratch import Scratch

MODES: dict[str, type[Mode]] = {
    "probe": Probe,
    "head": Head,
    "last": Last,
    "lora": Lora,
    "full": Full,
    "scratch": Scratch,
    "distil": Distil,
}

__all__ = ["MODES", "Mode", "Work"]
