"""Lightning Fabric set up for a run, and checkpoints written straight to disk."""

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
from ssl_jets.runtime.process_group import meeting


def make_fabric(settings: TrainSettings) -> Fabric:
    """Fabric for these settings; under torchrun or srun it joins the processes already launched."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    devices: int | str = settings.devices or ("auto" if device == "cuda" else 1)
    nodes = 1
    launch = join()
    joins = launch is not None and not launch.by_fabric
    if launch is not None and joins:
        devices = launch.local_world
        nodes = launch.world // devices
        if device == "cuda" and torch.cuda.device_count() < devices:
            hint = "srun --gpus-per-node=N --gpu-bind=none"
            raise UsageError("a process sees fewer GPUs than its machine has processes", hint=hint)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it is using is in config.yaml
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision=resolve_precision(settings.precision, device),
        # Named, since Fabric's own for SLURM refuses several devices in one task, and several tasks in some jobs.
        plugins=[TorchElasticEnvironment() if joins else LightningEnvironment()],
    )
    with meeting():
        fabric.launch()
    return fabric
