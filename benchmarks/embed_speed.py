"""CPU time of `embed` after start-up: parts of the forward pass, its matrix products alone, and sizes of batches.

    OMP_NUM_THREADS=1 python benchmarks/embed_speed.py [--rounds 5] [--jets 1536] [--batches 512 128 256 1536]

The bundled `small-ssl` on the bundled sample with one thread, in the precisions of the processor. Prints Markdown
tables: shares of the forward pass (torch.profiler, wall time of operations), the linear layers of the blocks at the
rate measured for their shapes, and CPU time by batch size, in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch.nn.functional import linear
from torch.profiler import ProfilerActivity, profile

import ssl_jets
from ssl_jets.jets import Jets
from ssl_jets.model import Model, batch_encoder, with_columns
from ssl_jets.nn.transformer import PIECE
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.runtime.precision import Precision, native_precision

OPERATIONS = {
    "linear layers": ("aten::addmm",),
    "attention: products": ("aten::baddbmm", "aten::bmm"),
    "attention: softmax": ("aten::_softmax",),
    "GELU": ("aten::gelu",),
    "LayerNorm": ("aten::native_layer_norm",),
    "residual sums": ("aten::add", "aten::add_"),
}


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def forward(model: Model, jets: Jets, precision: Precision, batch: int) -> None:
    """Compute z of all jets in batches."""
    compute = batch_encoder(model.encoder, "cpu", precision, batch=batch)
    for rows in torch.arange(len(jets)).split(batch):
        compute(jets.select(rows))


def print_parts(model: Model, jets: Jets, precision: Precision) -> None:
    """Print the share of each part of the forward pass."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        forward(model, jets, precision, 512)
    events = {event.key: event for event in profiled.key_averages()}
    total = sum(event.self_cpu_time_total for event in events.values())
    parts = {
        part: sum(events[name].self_cpu_time_total for name in names if name in events)
        for part, names in OPERATIONS.items()
    }
    inside = parts["attention: products"] + parts["attention: softmax"]
    parts["attention: copies and launches"] = events["ExactAttention"].cpu_time_total - inside
    parts["casts, layout, features, rest"] = total - sum(parts.values())
    for part, spent in parts.items():
        print(f"| {precision} | {part} | {100 * spent / total:.0f} % |", flush=True)


def print_bound(jets: Jets, model: Model, precision: Precision) -> None:
    """Print the time of the linear layers of the blocks alone, at the median rate of each shape."""
    width, blocks, _ = model.encoder.cfg.shape
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    tokens = jets.lengths.double().mean().item() + model.encoder.cfg.registers + 1
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    spent, numbers = 0.0, 0
    for number, (inputs, outputs) in enumerate(shapes):
        x, weight = torch.randn(PIECE, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
        shift = torch.zeros(outputs, dtype=dtype)

        def calls(x: torch.Tensor = x, weight: torch.Tensor = weight, shift: torch.Tensor = shift) -> None:
            for _ in range(100):
                linear(x, weight, shift)

        calls()
        one = median(seconds(calls) for _ in range(5)) / 100 / PIECE  # seconds of a token
        full = blocks - 1 + (2 / 3 if number == 0 else 0)  # for z alone the last block has keys and values only
        spent, numbers = spent + full * tokens * one, numbers + full * tokens * 2 * inputs * outputs
    print(f"| {precision} | {tokens:.1f} | {numbers / 1e6:.0f} | {numbers / spent / 1e9:.0f} | {1000 * spent:.2f} |")


def print_batches(model: Model, jets: Jets, precision: Precision, sizes: Sequence[int], rounds: int) -> None:
    """Print the CPU time of a jet by batch size, in turns; the ratio is the time of the first size over it."""
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds + 1):
        for size in sizes:
            times[size].append(seconds(lambda size=size: forward(model, jets, precision, size)))  # type: ignore[misc]
    first = times[sizes[0]][1:]
    for size, (_, *kept) in times.items():
        ratio = median(one / other for one, other in zip(first, kept, strict=True))
        spread = " to ".join(f"{1000 * edge(kept) / len(jets):.2f}" for edge in (min, max))
        print(f"| {precision} | {size} | {1000 * median(kept) / len(jets):.2f} | {spread} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jets", type=int, default=1536)
    parser.add_argument("--batches", type=int, nargs="+", default=[512, 128, 256, 1536])
    args = parser.parse_args()
    tune_memory()
    torch.set_num_threads(1)
    model = ssl_jets.load_model("small-ssl")
    jets = with_columns(ssl_jets.read_jets(), model.columns)
    jets = jets.select(torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))[: args.jets])
    precisions: list[Precision] = list(dict.fromkeys((native_precision("cpu"), "32-true")))
    print("| precision | tokens of a jet | MFLOP of the linear layers | GFLOP/s | ms of a jet |\n|---|---|---|---|---|")
    for precision in precisions:
        print_bound(jets, model, precision)
    print("\n| precision | part of the forward pass | share |\n|---|---|---|")
    for precision in precisions:
        forward(model, jets, precision, 512)
        print_parts(model, jets, precision)
    print("\n| precision | jets of a batch | ms of a jet | lowest to highest | ratio |\n|---|---|---|---|---|")
    print_batches(model, jets, precisions[0], args.batches, args.rounds)
    print_batches(model, jets, "32-true", [512], 2)


if __name__ == "__main__":
    main()
