"""AdamW with parameter groups, each with its own multiplier of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ssl_jets.config import TrainSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.methods._method import Method


def make_optimizer(method: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Build AdamW with weight decay on the matrices of linear layers only, not on biases, norms, tokens, embeddings.

    Each part of the network that `method.lr_multipliers` names is a parameter group of its own.
    """
    decayed = {
        id(module.weight)
        for module in method.modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    }
    parts = method.lr_multipliers(0.0) if isinstance(method, Method) else {}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {
        (part, decays): [] for part in (*parts, "") for decays in (True, False)
    }
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            groups[part_of(name, parts), id(parameter) in decayed].append(parameter)
    parameter_groups = [
        {"params": parameters, "part": part, "weight_decay": settings.weight_decay if decays else 0.0}
        for (part, decays), parameters in groups.items()
        if parameters
    ]
    return torch.optim.AdamW(parameter_groups, lr=settings.lr, betas=(0.9, 0.98))


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments of a checkpoint; the weight decay comes from the settings, which `--resume` may change."""
    if len(state["param_groups"]) != len(optimizer.param_groups):
        raise SslJetsError(
            "the run is of an earlier version, which trained the uncertainties at another rate",
            hint="--force instead of --resume begins the run anew",
        )
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, decay in zip(optimizer.param_groups, decays):
        group["weight_decay"] = decay


def part_of(name: str, parts: Iterable[str]) -> str:
    """Return the longest part that a parameter name begins with; "" for none.

    >>> part_of("encoder.blocks.0.up.weight", ["encoder.", "encoder.blocks.0."])
    'encoder.blocks.0.'
    """
    return max((part for part in parts if name.startswith(part)), key=len, default="")


def set_rates(optimizer: torch.optim.Optimizer, lr: float, rates: Mapping[str, float]) -> None:
    """Set the learning rate of each group: `lr` times the multiplier of its part."""
    for group in optimizer.param_groups:
        group["lr"] = lr * rates.get(group.get("part", ""), 1.0)


def skip_frozen(optimizer: torch.optim.Optimizer) -> None:
    """Drop the gradients of groups with learning rate zero, so that norm and moments do not contain them."""
    for group in optimizer.param_groups:
        if not group["lr"]:
            for parameter in group["params"]:
                parameter.grad = None
