"""What a finetuned model remembers: the jets of both of its trainings."""

from __future__ import annotations

from typing import Any

from ssl_jets.data.seen import joint_training
from ssl_jets.finetune.modes import MODES, Work
from ssl_jets.model_file import Model
from ssl_jets.pretrain import training_facts
from ssl_jets.train import Fit


def facts_of(pretrained: Model, work: Work, done: Fit, **more: Any) -> dict[str, Any]:
    """Training facts of the finetuned model: the jets of both trainings count as seen."""
    facts, mode = training_facts(work.data, work.settings, done), work.settings.method.mode
    if not MODES[mode].starts_anew:
        before = pretrained.facts["training"]
        joint = joint_training([facts, before])
        facts = {name: value for name, value in facts.items() if name != "held_out"} | joint
        facts["pretrained"] = {"sha256": pretrained.sha256, **before}
    facts |= {"mode": mode, **more}
    return {"method": mode if MODES[mode].starts_anew else pretrained.method, "training": facts}
