"""AdamW, or Muon and AdamW, with parameter groups that have multipliers of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ssl_jets.config import TrainSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.methods._method import Method
from ssl_jets.nn.transformer import Block
from ssl_jets.training.muon import Muon


def make_optimizer(method: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Build AdamW, or Muon for the matrices of the blocks and AdamW for all other weights.

    Weight decay acts on the matrices of linear layers only, not on biases, norms, tokens, embeddings. Each part of the
    network that `method.lr_multipliers` names is a parameter group of its own.
    """
    parts = method.lr_multipliers(0.0) if isinstance(method, Method) else {}
    decayed, of_blocks = _matrices(method), set[int]()
    if settings.optimizer == "muon":
        of_blocks = {key for module in method.modules() if isinstance(module, Block) for key in _matrices(module)}

    def groups(*, by_muon: bool) -> list[dict[str, Any]]:
        members: dict[tuple[str, bool], list[nn.Parameter]] = {
            (part, decays): [] for part in (*parts, "") for decays in (True, False)
        }
        for name, parameter in method.named_parameters():
            if parameter.requires_grad and (id(parameter) in of_blocks) == by_muon:
                members[part_of(name, parts), id(parameter) in decayed].append(parameter)
        return [
            {"params": parameters, "part": part, "weight_decay": settings.weight_decay if decays else 0.0}
            for (part, decays), parameters in members.items()
            if parameters
        ]

    optimizers: list[torch.optim.Optimizer] = []
    if matrices := groups(by_muon=True):
        dtype = torch.bfloat16 if settings.precision == "bf16-mixed" else torch.float32
        optimizers.append(Muon(matrices, lr=settings.lr, dtype=dtype))
    if others := groups(by_muon=False):
        optimizers.append(torch.optim.AdamW(others, lr=settings.lr, betas=(0.9, 0.98)))
    return optimizers[0] if len(optimizers) == 1 else JoinedOptimizer(*optimizers)


def _matrices(module: nn.Module) -> set[int]:
    """Return the ids of the trained matrices of all linear layers."""
    layers = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
    return {id(layer.weight) for layer in layers if layer.weight.requires_grad}


class JoinedOptimizer(torch.optim.Optimizer):
    """Optimizers of different weights as one: one list of groups, one state.

    Attributes:
        parts: the optimizers; the groups of the joined one are theirs, in this order.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step with each of the optimizers."""
        for part in self.parts:
            part.step(closure)

    def _share(self) -> None:
        """Give the optimizers the groups and the state of the joined one."""
        first = 0
        for part in self.parts:
            after = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:after], self.state
            first = after


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
