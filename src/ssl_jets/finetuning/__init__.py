"""Finetuning of a pretrained model on labelled jets."""

from ssl_jets.finetuning.finetune import finetune
from ssl_jets.finetuning.memory_plan import make_plan
from ssl_jets.finetuning.settings import FinetuneSettings, resolve_finetune

__all__ = ["FinetuneSettings", "finetune", "make_plan", "resolve_finetune"]
