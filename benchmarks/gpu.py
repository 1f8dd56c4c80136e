"""Everything to measure on one CUDA device, in at most eight minutes and without a network, as one Markdown page.

    python benchmarks/gpu.py [--out benchmarks/results/DATE-gpu.md] [--minutes 8]
    python benchmarks/gpu.py --device cpu --dry-run       # the same code on a CPU, tiny

1. The tests marked `device`, on the real device.
2. Attention with and without causal mask, pair bias and fewer queries, against the plain softmax in float64; loss and z
   of every method on the device against the CPU, from the same weights, jets and random numbers.
3. Jets/s and useful FLOP/s of training and embedding against the matrix product, time to copy a batch, peak memory, for
   each size; training also with compiled blocks.
4. The ten operations that take most of a training step.

The page is written after each part, so that a run that is cut off leaves its results. A part that fails is reported
with its error; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import math
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from throughput import useful_flops
from torch import Tensor
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

from ssl_jets import methods
from ssl_jets.api import read_jets
from ssl_jets.config import ModelSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.model import embed_jets
from ssl_jets.nn.attention.attend import AttentionLayout, attend
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.precision import autocast
from ssl_jets.training.optimizer import make_optimizer

ROOT = Path(__file__).parents[1]
LABELS = tuple("0123456789")


class DrawOnCpu(TorchFunctionMode):
    """Draw random numbers on the CPU and move them to the device, so that both devices get the same ones."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.rand, torch.randn, torch.randint, torch.randperm):
            device = kwargs.pop("device", None)
            return func(*args, **kwargs).to(device or "cpu")
        if func is torch.multinomial:
            return func(args[0].cpu(), *args[1:], **kwargs).to(args[0].device)
        return func(*args, **kwargs)


class Run:
    """One measurement: device, jets, settings, and the page so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.dry = torch.device(args.device), bool(args.dry_run)
        self.out, self.failed = Path(args.out), False
        self.end = time.monotonic() + 60 * args.minutes
        self.sizes = ["tiny"] if self.dry else ["small", "base", "large", "giant"]
        self.batch, self.rounds = (32, 2) if self.dry else (512, 12)
        jets = read_jets(each=20 if self.dry else None)
        self.jets = jets.select(torch.randperm(len(jets), generator=torch.Generator().manual_seed(0)))
        self.lines: list[str] = []

    def part(self, title: str, measure: Callable[[Run], Iterator[str]]) -> None:
        """Add a part to the page, or the reason why it is missing, and write the page."""
        self.lines += [f"## {title}", ""]
        try:
            if time.monotonic() > self.end:
                raise TimeoutError("the time is used up")
            for line in measure(self):
                self.lines.append(line)
                print(line, flush=True)
        except Exception as error:
            self.failed = True
            self.lines += ["", f"Failed: `{type(error).__name__}: {str(error).partition(chr(10))[0]}`"]
            traceback.print_exc()
        self.lines.append("")
        self.out.write_text("\n".join(self.lines), encoding="utf-8")

    def batches(self, number: int) -> list[Jets]:
        """Return so many batches, again from the beginning of the jets where they end."""
        whole = self.jets.select(torch.arange(len(self.jets) // self.batch * self.batch))
        rows = itertools.cycle(torch.arange(len(whole)).split(self.batch))
        return [whole.select(next(rows)) for _ in range(number)]

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], object], rounds: int) -> float:
        """Return the seconds of one call, the mean of `rounds` after one that is not counted."""
        action()
        self.synchronize()
        began = time.perf_counter()
        for _ in range(rounds):
            action()
        self.synchronize()
        return (time.perf_counter() - began) / rounds


def tests(run: Run) -> Iterator[str]:
    """Run the tests marked `device`; in a dry run those of attention alone."""
    words = [
        "-m",
        "device",
        "--no-header",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        str(ROOT / "tests" / "test_on_device.py"),
    ]
    words += ["-k", "attention"] if run.dry else []
    done = subprocess.run([sys.executable, "-m", "pytest", *words], capture_output=True, text=True, check=False)
    yield from ["```", *done.stdout.strip().splitlines()[-12:], "```"]
    run.failed |= done.returncode != 0


def attention(run: Run) -> Iterator[str]:
    """Compare attention with the plain softmax in float64."""
    lengths = torch.tensor([1, 3, 3, 40, 128, 300])
    layout = AttentionLayout.of(torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(run.device))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(int(lengths.sum()), 4, 32, generator=generator).to(run.device) for _ in range(3))
    yield "| attention | type | largest error | of an output of rms |\n|---|---|---|---|"
    for causal, biased, first in ((False, False, None), (True, False, None), (False, True, None), (False, False, 1)):
        layout.causal = causal
        bias = [torch.randn(1, 4, n, n, generator=generator).to(run.device) for n in lengths] if biased else None
        padded = None if bias is None else [torch.cat([widened(one, int(lengths.max())) for one in bias])]
        rows = None if first is None else layout.offsets[:-1]
        exact = plain_attention(q, k, v, layout, bias)
        exact = exact if rows is None else exact[rows]
        kinds = ("causal" * causal, "pair bias" * biased, "first query" * (first or 0))
        name = ", ".join(filter(None, kinds)) or "plain"
        for dtype in (torch.float32, torch.bfloat16):
            queries = q if rows is None else q[rows]
            result = attend(queries.to(dtype), k.to(dtype), v.to(dtype), layout, padded).double()
            error, size = (result - exact).abs().max(), exact.square().mean().sqrt()
            yield f"| {name} | {str(dtype).removeprefix('torch.')} | {float(error):.1e} | {float(size):.2f} |"


def widened(bias: Tensor, longest: int) -> Tensor:
    """Pad the bias of one jet `[1, head, token, token]` to `longest` tokens, as `attend` wants it on a GPU."""
    more = longest - bias.shape[3]
    return pad(pad(bias, (0, more), value=-math.inf), (0, 0, 0, more))


def plain_attention(q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, bias: Sequence[Tensor] | None) -> Tensor:
    """Compute attention jet by jet in float64, `[token, head, d]`; `bias` has a tensor for each jet."""
    out = []
    edges = layout.offsets.tolist()
    for jet, (start, stop) in enumerate(itertools.pairwise(edges)):
        queries, keys, values = (x[start:stop].double().transpose(0, 1) for x in (q, k, v))  # [head, token, d]
        scores = queries @ keys.transpose(1, 2) / math.sqrt(q.shape[-1])
        scores = scores if bias is None else scores + bias[jet][0].double()
        if layout.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
        out.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(out)


def build(name: str, size: str, jets: Jets, **settings: object) -> Method:
    """Build a method with random weights, on the CPU; methods that start from others get random ones."""
    torch.manual_seed(0)
    cls = methods.find(name)
    parts: dict[str, Any] = {part: build(part, size, jets) for part in cls.requires if part != "teacher"}
    if "teacher" in cls.requires:
        parts["teacher"] = build("mae", size, jets).exported()
    encoder = Encoder(ModelSettings.model_validate({"size": size, **settings}))
    encoder.features.fit_statistics([jets])
    return cls(cls.Config(name=name), encoder, LABELS, **parts)


def numerics(run: Run) -> Iterator[str]:
    """Compare loss and z of every method on the device with the CPU in float32."""
    size, jets = "tiny" if run.dry else "small", run.jets.select(torch.arange(16 if run.dry else 256))
    yield "| method | loss, CPU fp32 | device fp32: loss, z | device bf16: loss, z |\n|---|---|---|---|"
    for name in methods.names():
        results = []
        for device, precision in (("cpu", "32-true"), (run.device, "32-true"), (run.device, "bf16-mixed")):
            method = build(name, size, jets).to(device)
            torch.manual_seed(1)
            with torch.no_grad(), DrawOnCpu(), autocast(device, precision):  # type: ignore[arg-type]
                loss = float(method(jets.to(device), 0.5)["loss"])
            z = embed_jets(method.exported(), jets, device=device, precision=precision)  # type: ignore[arg-type]
            results.append((loss, z))
        (loss, z), *others = results
        cells = [f"{abs(other / loss - 1):.1e}, {float((of - z).abs().max() / z.std()):.1e}" for other, of in others]
        yield f"| {name} | {loss:.5f} | {' | '.join(cells)} |"
    yield "\nDifferences of the loss are relative; of z, the largest in units of the standard deviation of z."


def throughput(run: Run) -> Iterator[str]:
    """Measure training and embedding of each size against the matrix product."""
    side, dtype = (256 if run.dry else 8192), torch.bfloat16
    a, b = (torch.randn(side, side, device=run.device, dtype=dtype) for _ in range(2))
    peak = 2 * side**3 / run.seconds(lambda: a @ b, 3 if run.dry else 20) / 1e12
    yield f"Matrix product of {side} x {side} in bf16: {peak:.2f} TFLOP/s. Batches of {run.batch} jets, bf16.\n"
    head = ["size", "pass", "jets/s", "useful TFLOP/s", "of matrix product", "copy of a batch [ms]", "peak memory [GB]"]
    yield f"| {' | '.join(head)} |\n{'|---' * len(head)}|"
    for size in run.sizes:
        for name, passes, action, jets in actions(run, size):
            if run.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                taken = run.seconds(action, run.rounds)
            except Exception as error:
                yield f"| {size} | {name} | {type(error).__name__}: {str(error).partition(chr(10))[0][:80]} | | | | |"
                continue
            work = passes * useful_flops(Encoder(ModelSettings.model_validate({"size": size})), jets) / 1e12
            copy = run.seconds(lambda moved=jets: moved.to(run.device), run.rounds)  # type: ignore[misc]
            memory = torch.cuda.max_memory_allocated() / 1e9 if run.device.type == "cuda" else math.nan
            row = [size, name, f"{len(jets) / taken:,.0f}", f"{work / taken:.3g}", f"{work / taken / peak:.0%}"]
            yield f"| {' | '.join(row)} | {1000 * copy:.2f} | {memory:.2f} |"
    yield "\nUseful arithmetic is that of all blocks on all tokens; the last block computes z alone, which is less."


def actions(run: Run, size: str) -> Iterator[tuple[str, int, Callable[[], object], Jets]]:
    """Yield what is timed: name, passes through the encoder, function, a batch of it."""
    batches = run.batches(run.rounds + 1)
    method = build("supervised", size, run.jets).to(run.device)
    yield "training", 3, training_step(run, method, batches), batches[0]
    biased = build("supervised", size, run.jets, pair_bias=True).to(run.device)
    yield "training, pair bias", 3, training_step(run, biased, batches), batches[0]
    if not run.dry:
        for block in method.exported().transformer.blocks:
            block.compile(dynamic=True)
        yield "training, compiled blocks", 3, training_step(run, method, batches), batches[0]
    encoder, rows = build("supervised", size, run.jets).exported().to(run.device), itertools.cycle(batches)
    yield (
        "embedding",
        1,
        lambda: embed_jets(encoder, next(rows), device=run.device, precision="bf16-mixed"),
        batches[0],
    )


def training_step(run: Run, method: Method, batches: Sequence[Jets]) -> Callable[[], None]:
    """Return a function that takes one step of the optimizer of the method's recipe with the next batch."""
    settings = method.recipe.train.model_copy(update={"precision": "bf16-mixed"})
    optimizer, rows = make_optimizer(method, settings), itertools.cycle(batches)

    def step() -> None:
        with autocast(run.device, "bf16-mixed"):
            loss = method(next(rows).to(run.device), 0.0)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def profile(run: Run) -> Iterator[str]:
    """Show the operations that take most of a training step."""
    step = training_step(run, build("mae", run.sizes[0], run.jets).to(run.device), run.batches(4))
    step()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if run.device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as measured:
        for _ in range(3):
            step()
        run.synchronize()
    order = f"self_{'cuda' if run.device.type == 'cuda' else 'cpu'}_time_total"
    table = measured.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=50)
    yield f"Three steps of `mae`, `{run.sizes[0]}`, {run.batch} jets, bf16.\n"
    yield from ["```", *table.strip().splitlines(), "```"]


def main() -> None:
    today = datetime.datetime.now().date()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=ROOT / "benchmarks" / "results" / f"{today}-gpu.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--dry-run", action="store_true", help="tiny, to try the script")
    run = Run(parser.parse_args())
    on = torch.cuda.get_device_name() if run.device.type == "cuda" else platform.processor() or platform.machine()
    run.lines = [f"# On {on}, {today}{', dry run' * run.dry}", ""]
    run.lines += [f"torch {torch.__version__}, {platform.platform()}", ""]
    run.part("Tests on the device", tests)
    run.part("Attention", attention)
    run.part("Methods on the device and on the CPU", numerics)
    run.part("Throughput", throughput)
    run.part("Where the time goes", profile)
    print(f"written: {run.out}")
    sys.exit(run.failed)


if __name__ == "__main__":
    main()
