"""Finetune: a pretrained model and labelled jets in, a model with a head out."""

from ssl_jets.finetune.finetune import FinetuneSettings, finetune, resolve_finetune

__all__ = ["FinetuneSettings", "finetune", "resolve_finetune"]
