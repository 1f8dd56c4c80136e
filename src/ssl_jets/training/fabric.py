"""Setup of Lightning Fabric: devices, precision and the processes of a launch."""

from __future__ import annotations

import logging
import sys
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.strategy import Strategy

from ssl_jets.config import TrainSettings
from ssl_jets.errors import UsageError
from ssl_jets.runtime.gpu import count_gpus
from ssl_jets.runtime.launcher import end_with_parent, join
from ssl_jets.runtime.precision import resolve_precision
from ssl_jets.runtime.process_group import COLLECTIVE_TIMEOUT, connecting
from ssl_jets.runtime.threads import allowed_threads
from ssl_jets.training.placement import sharding_strategy


class Bf16Arithmetic(MixedPrecision):
    """Products in bfloat16, jets in float32: Fabric's plugin rounds all inputs of a module, also targets and weights.

    In bfloat16 a mass of 83.7 GeV is 83.5 GeV, and the vertices 256 and 257 of two particles are both 256.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    def convert_input(self, data: Any) -> Any:
        """Return the jets as they are."""
        return data


def make_fabric(settings: TrainSettings) -> Fabric:
    """Launch Fabric with these settings; under torchrun or srun it joins the processes already launched.

    Raises:
        UsageError: there are fewer GPUs than processes, or several processes in a notebook.
        SslJetsError: a GPU cannot be used, or the processes do not meet.
    """
    torch.set_num_threads(allowed_threads())
    gpus, nodes = count_gpus(), 1
    device = "cuda" if gpus else "cpu"
    launch = join()
    joins = launch is not None and not launch.by_fabric
    if gpus and launch is not None and launch.by_fabric and launch.rank:
        end_with_parent()
    notebook = launch is None and hasattr(sys, "ps1")  # Fabric starts processes by running the script again
    devices = settings.devices or (1 if notebook else max(1, gpus))
    if notebook and devices > 1:
        hint = "torchrun, or the command line"
        raise UsageError("a notebook trains in one process", where="train.devices", found=devices, hint=hint)
    world = devices
    if launch is not None and joins:
        devices, world = launch.local_world, launch.world
        nodes = world // devices
    if gpus and gpus < devices:
        hint = "srun --gpus-per-node=N --gpu-bind=none" if joins else "a smaller --devices"
        raise UsageError("a process sees fewer GPUs than its machine has processes", found=gpus, hint=hint)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # config.yaml records devices and precision
    strategy: Strategy | str = "auto"
    if world > 1:  # Fabric's timeout of 30 minutes would end trainings whose first rank validates or reads for longer
        replicated = settings.strategy == "ddp"
        strategy = DDPStrategy(timeout=COLLECTIVE_TIMEOUT) if replicated else sharding_strategy(world)
    # Explicit: Fabric's SLURM environment refuses several devices in one task, and several tasks in some jobs.
    plugins: list[Any] = [TorchElasticEnvironment() if joins else LightningEnvironment()]
    if resolve_precision(settings.precision, device) == "bf16-mixed":
        plugins.append(Bf16Arithmetic(device))
    fabric = Fabric(accelerator=device, strategy=strategy, devices=devices, num_nodes=nodes, plugins=plugins)
    with connecting():
        fabric.launch()
    return fabric
