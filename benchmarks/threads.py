"""Threads within operations against one thread for each batch, on a machine as it is and with a busy neighbour.

    python benchmarks/threads.py [--kinds embed mae] [--sizes tiny small] [--threads 2] [--rounds 7] [--spin]

Each variant is a process of its own, since OpenMP reads its waiting policy once. The processes compute in turns, and
otherwise wait for the driver: `embed` four batches of 512 jets of the bundled sample, a method one step of 256 jets.
The neighbour is one process that computes without end. Medians of wall and CPU seconds are printed as a Markdown table.

| variant | operation | waiting |
|---|---|---|
| one | 1 thread | |
| spin | N threads | the default of OpenMP: spinning; slow beside a neighbour, so only with `--spin` |
| passive | N threads | asleep |
| batches | 1 thread, N batches at once | |
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["embed", "mae"])
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--spin", action="store_true", help="measure spinning threads, too")
    parser.add_argument("--work", nargs=3, metavar=("KIND", "SIZE", "VARIANT"), help="compute when told to on stdin")
    args = parser.parse_args()
    if args.work:
        work(*args.work, threads=args.threads)
        return
    head = ["kind", "size", "neighbour", "variant", "wall [s]", "speed against one", "CPU [s]", "load"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for kind in args.kinds:
        for size in args.sizes:
            compare(kind, size, args)


def compare(kind: str, size: str, args: argparse.Namespace) -> None:
    """Print the rows of one kind and size."""
    names = ["one", "passive"] + ["spin"] * args.spin + ["batches"] * (kind == "embed")
    workers = {name: start(kind, size, name, args.threads) for name in names}
    for worker in workers.values():
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for busy in (False, True):
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
        for _ in range(args.rounds):
            for name, worker in workers.items():
                times[name].append(ask(worker))
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
        for name, rounds in times.items():
            wall, cpu = (median(column) for column in zip(*rounds))
            ratio = median(one[0] / other[0] for one, other in zip(times["one"], rounds))
            row = [kind, size, "busy" if busy else "none of ours", name, f"{wall:.2f}", f"{ratio:.2f}x", f"{cpu:.2f}"]
            print(f"| {' | '.join(row)} | {os.getloadavg()[0]:.0f} |", flush=True)
    for worker in workers.values():
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait()


def start(kind: str, size: str, variant: str, threads: int) -> subprocess.Popen[str]:
    """Start the process of a variant."""
    count = 1 if variant == "one" else threads
    waiting = {"spin": "ACTIVE"}.get(variant, "PASSIVE")
    environment = os.environ | {"OMP_NUM_THREADS": str(count), "OMP_WAIT_POLICY": waiting}
    if variant == "spin":  # the default of OpenMP is between the two policies
        del environment["OMP_WAIT_POLICY"]
    command = [sys.executable, __file__, "--threads", str(count), "--work", kind, size, variant]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(worker: subprocess.Popen[str]) -> tuple[float, float]:
    """Let a process compute once; return its wall and CPU seconds."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    wall, cpu = json.loads(worker.stdout.readline())
    return wall, cpu


def work(kind: str, size: str, variant: str, *, threads: int) -> None:
    """Compute once for each line of stdin."""
    import torch

    from ssl_jets.runtime.allocator import tune_memory

    tune_memory()
    torch.set_num_threads(threads)
    compute = embedding(size, variant) if kind == "embed" else training(kind, size)
    compute()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        compute()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)


def embedding(size: str, variant: str) -> Callable[[], object]:
    """Embed four batches, several at once in the variant `batches` alone."""
    from ssl_jets import model
    from ssl_jets.config import ModelSettings
    from ssl_jets.nn.encoder import Encoder

    jets = sample_jets(4 * model.BATCH)
    encoder = Encoder(ModelSettings.model_validate({"size": size}))
    encoder.features.fit_statistics([jets])
    if variant != "batches":
        model.map_in_order = map  # type: ignore[assignment]
    return lambda: model.embed_jets(encoder, jets)


def training(method: str, size: str) -> Callable[[], object]:
    """Take a step of a method."""
    import torch

    from ssl_jets import methods
    from ssl_jets.config import ModelSettings, TrainSettings
    from ssl_jets.nn.encoder import Encoder
    from ssl_jets.runtime.precision import autocast, native_precision
    from ssl_jets.training.optimizer import make_optimizer

    jets = sample_jets(256)
    encoder = Encoder(ModelSettings.model_validate({"size": size}))
    encoder.features.fit_statistics([jets])
    cls = methods.find(method)
    module = cls(cls.Config(name=method), encoder, tuple("0123456789"))
    optimizer = make_optimizer(module, TrainSettings())

    def step() -> None:
        with autocast("cpu", native_precision("cpu")):
            loss = module(jets, 0.0)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def sample_jets(number: int):  # type: ignore[no-untyped-def]
    """Read some jets of the bundled sample."""
    import torch

    from ssl_jets.api import read_jets

    jets = read_jets()
    return jets.select(torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))[:number])


if __name__ == "__main__":
    main()
