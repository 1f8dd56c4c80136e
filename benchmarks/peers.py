"""CPU time of `small` against two public taggers of the same width and depth, on the same jets and in turns.

    python benchmarks/peers.py --peers PYTHON [--rounds 3] [--jets 64] [--pieces 16 32 64]

PYTHON is the interpreter of an environment with weaver-core and omnilearned. Every contestant has a process of its own
with one thread; rates and ratios are of CPU time.

Training: one step is forward, backward and optimizer on `--jets` jets of the bundled sample, against the Particle
Transformer of weaver-core and PET2 (small) of omnilearned with the options of its script for JetClass. Padded batches
are faster in pieces: both take them in pieces of each number of `--pieces` jets, and accumulate gradients.

Inference: the whole programs `ssl-jets embed` and `weaver --predict` (in batches of `--pieces` jets), from ROOT files
to a ROOT file, on one file and on three; the difference is their rate without start-up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from reading import weaver_config
from torch import Tensor

from ssl_jets.api import read_jets
from ssl_jets.jets import Jets

JETS_PER_FILE = 1000
FILES = [Path(__file__).parents[1] / "data" / name for name in ("HToBB.root", "TTBar.root", "ZToQQ.root")]
OURS = "ssl-jets supervised"
NETWORKS = {
    OURS: """
import torch
from ssl_jets.config import ModelSettings, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.training.optimizer import make_optimizer

def packed(batch):
    present = batch["mask"][:, 0].bool()  # [jet, particle]
    offsets = torch.nn.functional.pad(present.sum(1).cumsum(0), (1, 0))
    return Jets(batch["features"].transpose(1, 2)[present], offsets, labels=batch["labels"])

def model_and_optimizer(batch):
    tune_memory()
    encoder = Encoder(ModelSettings(size="small"))
    encoder.features.fit_statistics([packed(batch)])
    model = Supervised(Supervised.Config(), encoder, tuple("0123456789"))
    return model, make_optimizer(model, TrainSettings())

def loss(model, batch):
    return model(packed(batch), 0.5)["loss"]
""",
    "ParT": """
import torch
from torch.nn.functional import cross_entropy
from weaver.nn.model.ParticleTransformer import ParticleTransformer

class Tagger(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        widths = {"embed_dims": [128, 512, 128], "pair_embed_dims": [64, 64, 64]}
        depths = {"num_heads": 8, "num_layers": 8, "num_cls_layers": 2}
        self.mod = ParticleTransformer(features, num_classes=10, **widths, **depths, activation="gelu", trim=True)

    def forward(self, features, mask, vectors):
        return self.mod(features, v=vectors, mask=mask)

def model_and_optimizer(batch):
    model = Tagger(batch["features"].shape[1])
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4)

def loss(model, batch):
    return cross_entropy(model(batch["features"], batch["mask"], batch["vectors"]).float(), batch["labels"])

def get_model(data_config, **kwargs):  # for weaver's own program
    shapes = {name: (1, *shape[1:]) for name, shape in data_config.input_shapes.items()}
    return Tagger(shapes["features"][1]), {"input_names": list(shapes), "input_shapes": shapes}
""",
    "PET2": """
import torch
from omnilearned.network import PET2
from omnilearned.utils import get_loss, get_model_parameters, get_param_groups
from pytorch_optimizer import Lion

def model_and_optimizer(batch):
    model = PET2(input_dim=4, use_int=False, local_int=False, pid=True, add_info=True, mode="classifier",
                 num_classes=10, num_coord=2, K=10, **get_model_parameters("small"))
    return model, Lion(get_param_groups(model, 0.0, 5e-6), betas=(0.95, 0.98))

def loss(model, batch):
    outputs = model(batch["momenta"], batch["labels"], pid=batch["kind"], add_info=batch["tracks"])
    cost = torch.nn.CrossEntropyLoss(reduction="none")
    logs = {"loss": 0, "loss_class": 0}
    return get_loss(outputs, batch["labels"], "classifier", cost, None, False, False, None, logs)
""",
}
WORKER = """
import sys, time
import torch
from network import loss, model_and_optimizer
torch.set_num_threads(1)
batches = torch.load("batches.pt")
model, optimizer = model_and_optimizer(batches[0])
model.train()
print(sum(weight.numel() for weight in model.parameters()), flush=True)
for line in sys.stdin:
    number, piece, bf16 = map(int, line.split())
    batch, jets = batches[number], len(batches[number]["labels"])
    began = time.process_time()
    optimizer.zero_grad(set_to_none=True)
    for first in range(0, jets, piece):
        part = {name: values[first : first + piece] for name, values in batch.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(bf16)):
            value = loss(model, part)
        (value * (len(part["labels"]) / jets)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(time.process_time() - began, flush=True)
"""
METER = """  # a program's peak memory includes its parent's at the start: a small parent between
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


def padded(jets: Jets) -> dict[str, Tensor]:
    """Return the inputs of all networks `[jet, ...]`, padded to the longest jet, at most 128 particles."""
    assert jets.labels is not None
    particles, present = jets.to_padded(min(128, int(jets.lengths.max())))
    mask = present.unsqueeze(-1).float()  # [jet, particle, 1]
    column = {name: particles[..., jets.columns.index(name)] for name in jets.columns}
    pt, eta, phi, energy = (column[name] for name in ("pt", "deta", "dphi", "energy"))
    logs = [value.clamp(min=1e-6).log() for value in (pt, energy)]
    tracks = [column["d0"].tanh(), column["d0err"], column["dz"].tanh(), column["dzerr"]]
    return {
        "features": particles.transpose(1, 2).contiguous(),
        "mask": mask.transpose(1, 2).contiguous(),
        "vectors": torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh(), energy], dim=1),
        "momenta": torch.stack([eta, phi, *logs], dim=-1) * mask,
        "kind": (column["kind"] + 1).mul(mask[..., 0]).long(),  # 0 is padding
        "tracks": torch.stack(tracks, dim=-1) * mask,
        "labels": jets.labels,
    }


class Step:
    """Training step in a process of its own; `network` has `model_and_optimizer(batch)` and `loss(model, batch)`."""

    def __init__(self, python: str, folder: Path, network: str, batches: list[dict[str, Tensor]]) -> None:
        folder.mkdir()
        (folder / "network.py").write_text(network)
        torch.save(batches, folder / "batches.pt")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([python, "-c", WORKER], cwd=folder, **pipes)  # type: ignore[call-overload]
        self.parameters = int(self._answer())

    def _answer(self) -> str:
        line: str = self._process.stdout.readline()
        return line or sys.exit("the process of a training step ended, see its message above")

    def take(self, number: int, piece: int, bf16: bool) -> float:
        """Take a step on batch `number`; return its CPU seconds."""
        print(number, piece, int(bf16), file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def training(python: str, folder: Path, batches: list[Jets], pieces: list[int]) -> str:
    """Measure the training steps in turns, the first batch as warm-up; return the table."""
    inputs = [padded(batch) for batch in batches]
    pythons = dict.fromkeys(NETWORKS, python) | {OURS: sys.executable}
    steps = {name: Step(pythons[name], folder / name, network, inputs) for name, network in NETWORKS.items()}
    times: dict[str, list[float]] = {}
    for number, precision, name in itertools.product(range(len(batches)), ("bf16", "fp32"), steps):
        for piece in [len(batches[0])] if name == OURS else pieces:
            seconds = steps[name].take(number, piece, precision == "bf16")
            case = f"{name} {precision}" if name == OURS else f"{name} {precision}, {piece} jets at a time"
            times.setdefault(case, []).append(seconds)
            print(f"batch {number} of {len(batches) - 1}, {case}: {seconds:.2f} s", file=sys.stderr, flush=True)
    for step in steps.values():
        step.close()
    counts = ", ".join(f"{name} {step.parameters / 1e6:.2f} M" for name, step in steps.items())
    table = step_table({name: values[1:] for name, values in times.items()}, len(batches[0]))
    return f"Parameters: {counts}.\n\n{table}"


def step_table(times: dict[str, list[float]], jets: int) -> str:
    """Return the table of CPU seconds of steps on `jets` jets; ratios are medians over the batches."""
    lines = ["| training step | jets/s | lowest to highest | time over ssl-jets bf16 | fp32 |", "|---|---|---|---|---|"]
    for name, seconds in times.items():
        bf16, fp32 = (
            median(value / own for value, own in zip(seconds, times[f"{OURS} {precision}"]))
            for precision in ("bf16", "fp32")
        )
        spread = f"{jets / max(seconds):.3g} to {jets / min(seconds):.3g}"
        lines.append(f"| {name} | {jets / median(seconds):.3g} | {spread} | {bf16:.2f} | {fp32:.2f} |")
    return "\n".join(lines)


def run_program(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a program; return the CPU seconds of it and its children, and the GB of its peak memory."""
    done = subprocess.run(
        [sys.executable, "-c", METER, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed: {done.stderr[-2000:]}")
    seconds, kilobytes = map(float, done.stdout.split())
    return seconds, kilobytes * 1024 / 1e9


def programs(python: str, folder: Path, pieces: list[int]) -> dict[str, list[str]]:
    """Return the commands up to their inputs; write weaver's configuration and weights to `folder`."""
    config: dict[str, Any] = weaver_config()
    momenta = [[f"part_{name}", None] for name in ("px", "py", "pz", "energy")]
    config["inputs"]["vectors"] = {"length": 128, "pad_mode": "constant", "vars": momenta}
    features = len(config["inputs"]["features"]["vars"])
    (folder / "data.yaml").write_text(json.dumps(config))  # JSON is YAML
    (folder / "network.py").write_text(NETWORKS["ParT"])
    save = f"import torch, network; torch.save(network.Tagger({features}).state_dict(), 'weights.pt')"
    subprocess.run([python, "-c", save], cwd=folder, check=True)
    embed = [sys.executable, "-m", "ssl_jets", "embed", "--force", "--out", "z.root"]
    predict = [python, "-m", "weaver.train", "--predict", "--gpus", "", "--num-workers", "0", "--predict-output"]
    predict += ["scores.root", "--data-config", "data.yaml", "--network-config", "network.py"]
    predict += ["--model-prefix", "weights.pt", "--batch-size"]
    fp32 = ["--set", "train.precision=32-true"]
    commands = {"ssl-jets embed bf16": [*embed, "--data"], "ssl-jets embed fp32": [*embed, *fp32, "--data"]}
    for piece in pieces:
        commands[f"weaver --predict fp32, {piece} jets at a time"] = [*predict, str(piece), "--data-test"]
    return commands


def inference(python: str, folder: Path, rounds: int, pieces: list[int]) -> str:
    """Measure whole programs on one file and on all, in turns; return the table."""
    for name, files in (("one", FILES[:1]), ("all", FILES)):
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / name / file.name).symlink_to(file)
    commands = programs(python, folder, pieces)
    used: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            few, _ = run_program([*command, "one/*.root"], folder)
            seconds, memory = run_program([*command, "all/*.root"], folder)
            used[name].append((few, seconds, memory))
            print(f"round {number + 1} of {rounds}, {name}: {few:.1f}, {seconds:.1f} s", file=sys.stderr, flush=True)
    return program_table(used, JETS_PER_FILE, JETS_PER_FILE * len(FILES))


def program_table(used: dict[str, list[tuple[float, float, float]]], few: int, jets: int) -> str:
    """Return the table of CPU seconds of `few` and of `jets` jets, and GB; ratios are medians over the rounds."""
    lines = [f"| program | CPU s, {few:,} jets | CPU s, {jets:,} jets | jets/s after start-up | time of a jet | GB |"]
    lines += ["|---|---|---|---|---|---|"]
    first = next(iter(used.values()))
    for name, values in used.items():
        short, long, memory = (median(column) for column in zip(*values))
        rate = median((jets - few) / (high - low) for low, high, _ in values)
        ratio = median((high - low) / (own[1] - own[0]) for (low, high, _), own in zip(values, first))
        lines.append(f"| {name} | {short:.1f} | {long:.1f} | {rate:.0f} | {ratio:.2f} | {memory:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jets", type=int, default=64)
    parser.add_argument("--pieces", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--only", choices=("training", "inference"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of all programs
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        if args.only != "training":
            print(inference(args.peers, Path(temporary, "programs"), args.rounds, args.pieces), end="\n\n", flush=True)
        if args.only != "inference":
            jets = read_jets()
            batches = [jets.select(rows) for rows in torch.randperm(len(jets)).split(args.jets)[: args.rounds + 1]]
            print(training(args.peers, Path(temporary), batches, args.pieces))


if __name__ == "__main__":
    main()
