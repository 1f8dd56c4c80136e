"""Guard against a loss or gradient that is not finite: stop, or skip the step on all ranks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssl_jets.config import TrainSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.nn.ema import drop_collected
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.training.run_folder import TrainingRun

LOSS, GRADIENT = "the loss is not finite", "the gradient is not finite"


@dataclass(frozen=True)
class Fault:
    """Loss or gradient that is not finite.

    Attributes:
        message: `LOSS` or `GRADIENT`.
        value: the value.
        files: files of the jets that it was computed from, at most eight.
    """

    message: str
    value: float
    files: tuple[str, ...]


class NonFinite:
    """Guard of the optimizer steps.

    Attributes:
        total: number of steps skipped so far.
        in_a_row: number of steps skipped since the last one that was taken.
    """

    def __init__(self, settings: TrainSettings, file_names: Sequence[str], ranks: Ranks, device: torch.device) -> None:
        self.settings, self.file_names, self.ranks, self.device = settings, file_names, ranks, device
        self.total, self.in_a_row = 0, 0
        self._fault: Fault | None = None
        self._buffers: list[Tensor] = []

    def begin(self, method: nn.Module) -> None:
        """Begin a step. If it may be skipped, keep the buffers: the forward pass changes batch statistics."""
        self._fault = None
        if self.settings.on_nonfinite == "skip":
            self._buffers = [buffer.clone() for buffer in method.buffers()]

    def check(self, value: Tensor, batches: Sequence[Jets], message: str) -> None:
        """Record the first value of this step that is not finite; it was computed from `batches`."""
        if self._fault is not None or bool(torch.isfinite(value).all()):
            return
        sources = [jets.source[:, 0] for jets in batches if jets.source is not None]
        rows = torch.cat(sources).unique().tolist() if sources else []
        files = tuple(self.file_names[row] for row in rows[:8])
        self._fault = Fault(message, float(value.detach().float().mean()), files)

    def decide(self, step: int, method: nn.Module, run: TrainingRun) -> bool:
        """Return True to take the step, False to skip it, the same on all ranks.

        Raises:
            SslJetsError: a value is not finite, and such steps are not skipped, or too many came in a row.
        """
        if not self._on_any_rank():
            self.in_a_row = 0
            return True
        fault = _joined([fault for fault in self.ranks.gather(self._fault) if fault is not None])
        self.total += 1
        self.in_a_row += 1
        if self.settings.on_nonfinite == "stop" or self.in_a_row >= self.settings.max_nonfinite:
            raise self._error(fault, step)
        with torch.no_grad():
            for buffer, before in zip(method.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
        drop_collected(method)
        run.log_metrics({"step": step + 1, "kind": "nonfinite", "what": fault.message, "files": list(fault.files)})
        run.log_message(f"step {step + 1} is skipped: {fault.message}, in a batch of jets from {_file_list(fault)}")
        return False

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the counts."""
        self.total, self.in_a_row = state.get("total", 0), state.get("in_a_row", 0)

    def _on_any_rank(self) -> bool:
        if self.ranks.world == 1:
            return self._fault is not None
        faulty = torch.tensor(int(self._fault is not None), device=self.device)
        dist.all_reduce(faulty, op=dist.ReduceOp.MAX)
        return bool(faulty)

    def _error(self, fault: Fault, step: int) -> SslJetsError:
        lr = f"train.lr={self.settings.lr / 4:g}"
        skipping = self.settings.on_nonfinite == "skip"
        other = "train.precision=32-true" if skipping else "train.on_nonfinite=skip"
        return SslJetsError(
            fault.message + (f", in {self.in_a_row} steps in a row" if skipping else ""),
            where=f"step {step}, in a batch of jets from {_file_list(fault)}",
            found=fault.value,
            hint=f"the same command with --resume --set {lr}, or --set {other}",
        )


def _joined(faults: Sequence[Fault]) -> Fault:
    """Join the faults of all ranks; a loss, which belongs to one rank, takes precedence over the common gradient."""
    losses = [fault for fault in faults if fault.message == LOSS] or faults
    return replace(losses[0], files=tuple(dict.fromkeys(file for fault in losses for file in fault.files)))


def _file_list(fault: Fault) -> str:
    return ", ".join(fault.files) or "unknown files"
