"""Setup of Lightning Fabric: devices, precision and the processes of a launch."""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from ssl_jets.config import TrainSettings
from ssl_jets.errors import UsageError
from ssl_jets.runtime.launcher import join
from ssl_jets.runtime.precision import resolve_precision
from ssl_jets.runtime.process_group import connecting
from ssl_jets.runtime.threads import allowed_threads
from ssl_jets.training.placement import sharding_strategy


def make_fabric(settings: TrainSettings) -> Fabric:
    """Launch Fabric with these settings; under torchrun or srun it joins the processes already launched."""
    torch.set_num_threads(allowed_threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    devices: int | str = settings.devices or ("auto" if device == "cuda" else 1)
    world, nodes = devices if isinstance(devices, int) else torch.cuda.device_count(), 1
    launch = join()
    joins = launch is not None and not launch.by_fabric
    if launch is not None and joins:
        devices, world = launch.local_world, launch.world
        nodes = world // devices
        if device == "cuda" and torch.cuda.device_count() < devices:
            hint = "srun --gpus-per-node=N --gpu-bind=none"
            raise UsageError("a process sees fewer GPUs than its machine has processes", hint=hint)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # config.yaml records devices and precision
    sharded = settings.strategy == "fsdp" and world > 1
    fabric = Fabric(
        accelerator=device,
        strategy=sharding_strategy(world) if sharded else "auto",
        devices=devices,
        num_nodes=nodes,
        precision=resolve_precision(settings.precision, device),
        # Explicit: Fabric's SLURM environment refuses several devices in one task, and several tasks in some jobs.
        plugins=[TorchElasticEnvironment() if joins else LightningEnvironment()],
    )
    with connecting():
        fabric.launch()
    return fabric
