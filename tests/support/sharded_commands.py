"""Whole pretrainings and finetunings on two ranks, replicated and sharded: validation, best weights, snapshots."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_jets.config import TrainSettings
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.training import state
from ssl_jets.training.optimizer import JoinedOptimizer, make_optimizer
from support.overridden import overridden

QUICK = [
    "train.precision=32-true", "train.steps=3", "train.batch_size=8", "train.validation_jets=20", "train.log_every=1",
    "train.lr=0.02", "train.warmup=0", "data.buffer=100",
]  # fmt: skip
BEST = ["train.keep=best", "train.validate_every=1"]
PRETRAININGS = {
    "mae": [*BEST, "model.size=tiny", "train.snapshot_minutes=1e-6"],
    "supervised": [
        *("model.size=tiny", "train.precision=bf16-mixed", "method.observables_weight=0.1", "train.optimizer=adamw")
    ],
    "vicreg": ["model.size=tiny", "train.optimizer=muon"],
}
"""Methods and their settings."""
FINETUNINGS = {
    "full": ["method.layer_decay=0.5", "method.unfreeze=0.5", *BEST],
    "last-blocks": ["method.mode=last-blocks"],
    "lora": ["method.mode=lora"],
    "head": ["method.mode=head"],
    "probe": ["method.mode=probe"],
    "distil": ["method.mode=distil", "model.size=tiny"],
    "dann": ["method.adapt=dann"],
    "reweight": ["method.adapt=reweight"],
}
"""Finetunings of the first pretrained model by name: modes and adaptations.

Not `method.probe_first`, which comes before the weights are sharded: heads fitted on z that hardly varies blow up
rounding."""


def descent(method: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Descent with the groups of AdamW, which would blow up rounding of zero gradients; Muon stays."""
    built = make_optimizer(method, settings)
    muon, adamw = built.parts if isinstance(built, JoinedOptimizer) else (None, built)
    kept = [{key: group[key] for key in ("params", "part", "weight_decay")} for group in adamw.param_groups]
    plain = torch.optim.SGD(kept, lr=settings.lr)
    return plain if muon is None else JoinedOptimizer(muon, plain)


def train_both_ways(source: str, target: str, out: Path) -> None:
    """Run all commands with both strategies into `out`/NAME-STRATEGY; errors go to `out`/errors-RANK.pt by name."""
    state.make_optimizer = descent  # type: ignore[assignment]
    errors: dict[str, str] = {}
    for strategy in ("ddp", "fsdp"):
        for name, words in (PRETRAININGS | FINETUNINGS).items():
            layer = overridden(QUICK, *words, f"train.strategy={strategy}")
            layer["data"] |= {"sources": [source], "unlabelled": [target] if "method.adapt" in str(words) else []}
            run: dict[str, Any] = {"out": out / f"{name}-{strategy}"}
            try:
                if name in PRETRAININGS:
                    pretrain(resolve_pretrain(name, layer), **run)
                else:
                    finetune(resolve_finetune(out / "mae-ddp", layer), **run)
            except Exception:
                errors[f"{name}-{strategy}"] = traceback.format_exc()
    torch.save(errors, out / f"errors-{torch.distributed.get_rank()}.pt")
