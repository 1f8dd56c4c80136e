"""ssl-jets: pretrain set transformers on particle jets, write their representation z to disk, finetune, evaluate."""

__version__ = "0.1.0"
