"""Placement of a training on its processes: replicated (`ddp`), or fully sharded (`train.strategy=fsdp`).

Sharded, each process keeps a part of weights, gradients and moments (ZeRO stage 3, arXiv:1910.02054). The blocks of all
transformers, and the rest of the method, are sharded by `fully_shard` (FSDP2 of torch): the weights of a block are
gathered when it is used, and its gradients are averaged over the processes into their parts. Validation, checkpoints
and the model need the method as a whole: they use a plain copy of it, into which the weights are gathered first. So a
checkpoint is the same with every strategy and number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ssl_jets.methods._method import Method
from ssl_jets.nn.collectives import from_first_rank
from ssl_jets.nn.transformer import Block
from ssl_jets.runtime.process_group import COLLECTIVE_TIMEOUT
from ssl_jets.training.optimizer import load_optimizer


def sharding_strategy(world: int) -> ModelParallelStrategy:
    """Return the strategy that shards a module over `world` processes."""
    return ModelParallelStrategy(_shard, data_parallel_size=world, tensor_parallel_size=1, timeout=COLLECTIVE_TIMEOUT)


def _shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    processes = mesh["data_parallel"]
    for block in [inner for inner in module.modules() if isinstance(inner, Block)]:
        fully_shard(block, mesh=processes)
    fully_shard(module, mesh=processes)
    return module


class Placement:
    """A method in training and its optimizer, replicated on each process or sharded over all.

    Args:
        method: the method, on the CPU. Sharded, it stays whole, and has the trained weights after `gather` on rank 0.
        make_optimizer: function of the module to train.
        fabric: launched Fabric.
        strategy: `ddp` or `fsdp`; a single process is never sharded.

    Attributes:
        trained: the module that is trained: the method itself, or its sharded copy.
        wrapped: the module to call.
        optimizer: the optimizer of its weights.
    """

    def __init__(
        self,
        method: Method,
        make_optimizer: Callable[[Method], torch.optim.Optimizer],
        fabric: Fabric,
        strategy: Literal["ddp", "fsdp"],
    ) -> None:
        self._whole = method
        self._first = fabric.is_global_zero
        self._sharded = strategy == "fsdp" and fabric.world_size > 1
        if not self._sharded:
            self.trained = method
            self.wrapped, self.optimizer = fabric.setup(method, make_optimizer(method))
            return
        self.trained = copy.deepcopy(method)
        fabric.to_device(self.trained)
        if fabric.is_global_zero:
            fabric.to_device(method)
        start_from_first(self.trained)
        self.wrapped = fabric.setup_module(self.trained)
        self.optimizer = fabric.setup_optimizers(make_optimizer(self.trained))

    def gather(self) -> None:
        """Give the whole method the trained weights; every process calls this."""
        if self._sharded:
            gather_weights(self.trained, self._whole)

    def state_dict(self) -> dict[str, Any]:
        """Return whole weights and moments, the same with every strategy; every process calls this, rank 0 uses it."""
        self.gather()
        state = self.optimizer.state_dict()
        return {
            "method": self._whole.state_dict(),
            "optimizer": gather_moments(state, keep=self._first) if self._sharded else state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; every process calls this, with the same state."""
        self._whole.load_state_dict(state["method"])
        moments = state["optimizer"]
        if self._sharded:
            scatter_weights(self._whole, self.trained)
            moments = scatter_moments(moments, self.optimizer)
        load_optimizer(self.optimizer, moments)


@torch.no_grad()
def start_from_first(module: nn.Module) -> None:
    """Give a module the weights and buffers of rank 0, as DDP does; every process calls this.

    Each process has built it for itself, and processors of two kinds can differ in the last digits of statistics.
    """
    for value in (*module.parameters(), *module.buffers()):
        value.copy_(from_first_rank(value.detach()))


@torch.no_grad()
def gather_weights(sharded: nn.Module, whole: nn.Module) -> None:
    """Copy weights and buffers of a sharded module into the whole one; every process calls this."""
    for part, weight in zip(sharded.parameters(), whole.parameters(), strict=True):
        weight.copy_(full(part))
    _copy_buffers(sharded, whole)


@torch.no_grad()
def scatter_weights(whole: nn.Module, sharded: nn.Module) -> None:
    """Copy weights and buffers of a module, the same on all processes, into the sharded one."""
    for weight, part in zip(whole.parameters(), sharded.parameters(), strict=True):
        part.copy_(_like(weight, part))
    _copy_buffers(whole, sharded)


def _copy_buffers(source: nn.Module, target: nn.Module) -> None:
    """Copy buffers, which each process has whole."""
    for before, after in zip(source.buffers(), target.buffers(), strict=True):
        after.copy_(before)


def gather_moments(state: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    """Return the state of an optimizer with whole moments, without any unless `keep`; every process calls this.

    They are collected on the CPU: a GPU that trains a part may have no memory for the whole.
    """
    moments: dict[int, dict[str, Any]] = {}
    for number, of_weight in state["state"].items():
        for name, value in of_weight.items():
            whole = full(value) if isinstance(value, Tensor) else value
            if keep:
                moments.setdefault(number, {})[name] = whole.cpu() if isinstance(whole, Tensor) else whole
    return {**state, "state": moments}


def scatter_moments(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer with the parts of this process, of whole moments."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        number: {
            name: _like(value, weights[number]) if isinstance(value, Tensor) and value.dim() else value
            for name, value in of_weight.items()
        }
        for number, of_weight in state["state"].items()
    }
    return {**state, "state": moments}


def full(value: Tensor) -> Tensor:
    """Gather a sharded tensor, and return any other one as it is; every process calls this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _like(whole: Tensor, part: Tensor) -> Tensor:
    """Return a tensor, the same on all processes, sharded as another one."""
    if not isinstance(part, DTensor):
        return whole
    return distribute_tensor(whole.detach().to(part.device), part.device_mesh, part.placements)
