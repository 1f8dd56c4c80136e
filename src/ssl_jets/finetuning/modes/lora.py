"""Mode `lora`: low-rank updates to the matrices of the blocks (LoRA, arXiv:2106.09685; DoRA, arXiv:2402.09353).

    W' = W + (alpha / rank) B A,      A [rank, in], B [out, rank], B = 0 at the start

With `dora` W' is also rescaled row by row to learned lengths. W is frozen: only A and B have gradients and moments. At
the end W' replaces W, and the model contains no trace of LoRA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_jets.errors import UsageError
from ssl_jets.finetuning.modes.base import OTHER_MODES, scale_lr
from ssl_jets.finetuning.modes.probe import EncoderMode
from ssl_jets.finetuning.objective import Objective
from ssl_jets.nn.foreign.adapter import require_own

if TYPE_CHECKING:
    from torch import nn


class LoraMode(EncoderMode):
    """Training of low-rank updates, pool, last norm and heads."""

    own_settings = (*EncoderMode.own_settings, "lora")

    def prepare(self, objective: Objective) -> None:
        """Freeze the encoder and inject the updates into its blocks."""
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            hint = "pip install 'ssl-jets[lora]', or --mode last-blocks"
            raise UsageError("mode lora needs the package peft", where="--mode lora", hint=hint) from None
        encoder = require_own(objective.encoder, "mode lora", OTHER_MODES)
        lora = self.settings.method.lora
        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), use_dora=lora.dora, lora_dropout=0.0
        )
        inject_adapter_in_model(config, encoder.transformer.blocks)
        scale_lr(objective)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_("lora_" in name)
        for module in (encoder.transformer.norm, encoder.z_out, encoder.pool):
            if module is not None:
                module.requires_grad_(True)

    def finish(self, objective: Objective) -> None:
        """Merge the updates into the matrices."""
        merge(objective.encoder)
        super().finish(objective)


def merge(module: nn.Module) -> None:
    """Replace every adapted layer of `module` by the plain layer with its update merged."""
    from peft.tuners.lora import LoraLayer

    for name, child in module.named_children():
        if isinstance(child, LoraLayer):
            child.merge(safe_merge=True)
            setattr(module, name, child.get_base_layer())
        else:
            merge(child)
