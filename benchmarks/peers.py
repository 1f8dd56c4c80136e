"""Training steps of `small`, against weaver-core's Particle Transformer of the same width and depth.

    OMP_NUM_THREADS=1 python benchmarks/peers.py --weaver PYTHON [--rounds 5] [--jets 256] [--pieces 16 32 64]

PYTHON is the interpreter of an environment with weaver-core. The contestants take the same jets in turns, each in a
process of its own with one thread; counted is CPU time. One training step is forward, backward and AdamW on `--jets`
jets of JetClass. The Particle Transformer takes them in pieces of `--pieces` jets, as gradients accumulate, since its
padded batches are faster in pieces; all pieces are measured, and each is compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from ssl_jets.api import read_jets
from ssl_jets.config import ModelSettings, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.training.optimizer import make_optimizer

CLASSES = tuple("0123456789")
NETWORK = """
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer

class Tagger(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.mod = ParticleTransformer(input_dim=features, num_classes=10, embed_dims=[128, 512, 128],
                                       pair_embed_dims=[64, 64, 64], num_heads=8, num_layers=8, num_cls_layers=2,
                                       activation="gelu", trim=True)
    def forward(self, features, vectors, mask):
        return self.mod(features, v=vectors, mask=mask)
"""
WORKER = """
import sys, time
import torch
sys.path.insert(0, sys.argv[1])
from network import Tagger
torch.set_num_threads(1)
torch.manual_seed(0)
batches = torch.load(sys.argv[2])
model = Tagger(batches[0][0].shape[1]).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
print("ready", sum(p.numel() for p in model.parameters()), flush=True)
for line in sys.stdin:
    number, piece, bf16 = map(int, line.split())
    began = time.process_time()
    optimizer.zero_grad(set_to_none=True)
    for x, v, mask, labels in zip(*(values.split(piece) for values in batches[number])):
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(bf16)):
            loss = torch.nn.functional.cross_entropy(model(x, v, mask).float(), labels)
        (loss * len(labels) / len(batches[number][3])).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(time.process_time() - began, flush=True)
"""


def padded(jets: Jets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return features, momenta and mask `[jet, number, particle]` and labels, at most 128 particles a jet."""
    particles, mask = jets.to_padded(min(128, int(jets.lengths.max())))
    pt, deta, dphi, energy = (particles[..., jets.columns.index(name)] for name in ("pt", "deta", "dphi", "energy"))
    vectors = torch.stack([pt * dphi.cos(), pt * dphi.sin(), pt * deta.sinh(), energy], dim=1)
    assert jets.labels is not None
    return particles.transpose(1, 2).contiguous(), vectors, mask.unsqueeze(1).float(), jets.labels


class Weaver:
    """Process that trains the Particle Transformer, one step on request."""

    def __init__(self, python: str, folder: Path, batches: list[Jets]) -> None:
        (folder / "network.py").write_text(NETWORK)
        torch.save([padded(batch) for batch in batches], folder / "batches.pt")
        command = [python, "-c", WORKER, str(folder), str(folder / "batches.pt")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean())
        self.parameters = int(self._answer().split()[1])

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("weaver's process ended, see its message above")
        return line

    def step(self, number: int, piece: int, bf16: bool) -> float:
        """Take a step on batch `number`; return its CPU seconds."""
        assert self._process.stdin is not None
        print(number, piece, int(bf16), file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def clean() -> dict[str, str]:
    """Return the environment of another Python: one thread, no path of this package."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def our_step(batches: list[Jets]) -> tuple[Callable[[int, bool], float], int]:
    """Return a function of batch and precision, which takes a step and returns CPU seconds; and the parameters."""
    encoder = Encoder(ModelSettings(size="small"))
    encoder.features.fit_statistics(batches)
    method = Supervised(Supervised.Config(), encoder, CLASSES).train()
    optimizer = make_optimizer(method, TrainSettings())

    def step(number: int, bf16: bool) -> float:
        began = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = method(batches[number], 0.5)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        return time.process_time() - began

    return step, sum(weight.numel() for weight in method.parameters())


def training(weaver: Weaver, batches: list[Jets], pieces: list[int]) -> None:
    """Measure the training steps in turns, the first batch as warm-up, and print the table."""
    ours, parameters = our_step(batches)
    steps: dict[str, Callable[[int], float]] = {}
    for name, bf16 in (("bf16", True), ("fp32", False)):
        steps[f"ssl-jets supervised {name}"] = lambda number, bf16=bf16: ours(number, bf16)  # type: ignore[misc]
        for piece in pieces:
            steps[f"weaver ParT {name}, {piece} jets at a time"] = (  # type: ignore[misc]
                lambda number, piece=piece, bf16=bf16: weaver.step(number, piece, bf16)
            )
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(len(batches)):
        for name, step in steps.items():
            times[name].append(step(number))
        print(f"batch {number} of {len(batches) - 1}", file=sys.stderr, flush=True)
    print(f"parameters: ssl-jets {parameters / 1e6:.2f} M, weaver {weaver.parameters / 1e6:.2f} M\n")
    print("| training step | jets/s CPU (median) | lowest to highest | time over ssl-jets bf16 | fp32 |")
    print("|---|---|---|---|---|")
    for name, (_, *seconds) in times.items():
        rates = [len(batch) / value for batch, value in zip(batches[1:], seconds)]
        ratios = [
            median(value / own for value, own in zip(seconds, times[f"ssl-jets supervised {precision}"][1:]))
            for precision in ("bf16", "fp32")
        ]
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        print(f"| {name} | {median(rates):.0f} | {spread} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weaver", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jets", type=int, default=256)
    parser.add_argument("--pieces", type=int, nargs="+", default=[16, 32, 64])
    args = parser.parse_args()
    tune_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    jets = read_jets()
    batches = [jets.select(rows) for rows in torch.randperm(len(jets)).split(args.jets)[: args.rounds + 1]]
    with tempfile.TemporaryDirectory() as temporary:
        weaver = Weaver(args.weaver, Path(temporary), batches)
        training(weaver, batches, args.pieces)
        weaver.close()


if __name__ == "__main__":
    main()
