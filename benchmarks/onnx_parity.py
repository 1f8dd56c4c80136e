"""How far exported models are from PyTorch, and how long each takes.

    python benchmarks/onnx_parity.py RUN... [--data SRC...] [--untrained SIZE...]

Runs, and encoders with random weights of the sizes of `--untrained`, are exported in float32 and 8 bits, and
compared on real particles regrouped into jets of 1, 2, 50 and 300 particles, on jets as they are, and with missing
columns. Two Markdown tables are printed: the largest
difference relative to the scale of the output, and medians of the time of one call.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

import onnx
import onnxruntime
import torch

from ssl_jets import api
from ssl_jets.config import ModelSettings, resolve
from ssl_jets.exporting import ExportSummary
from ssl_jets.exporting.graph import ExportedModel
from ssl_jets.exporting.parity import LENGTHS, differences, open_session, regroup
from ssl_jets.jets import Jets
from ssl_jets.model import Model, with_columns
from ssl_jets.model_file import load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead


def by_length(model: Model, summary: ExportSummary, jets: Jets) -> list[float]:
    """The largest difference of any output, for jets of each length."""
    module = ExportedModel(model, tokens=True).eval()
    session = open_session(summary.path.read_bytes())
    four = regroup(with_columns(jets, model.columns))
    batches = [four.select(torch.tensor([number])) for number in range(len(LENGTHS))]
    return [max(differences(model, module, session, batch).values()) for batch in batches]


def shape_of(model: Model) -> str:
    """Size, and what differs from the defaults."""
    cfg = model.encoder.cfg
    extras = {"pool": cfg.pool, "z_tokens": cfg.z_tokens, "z_width": cfg.z_width, "pair_bias": cfg.pair_bias}
    usual = {"pool": "class", "z_tokens": 1, "z_width": 0, "pair_bias": False}
    return ", ".join([cfg.size, *(f"{name} {value}" for name, value in extras.items() if value != usual[name])])


def heads_of(model: Model) -> str:
    """The heads of the model, in words."""
    heads = [f"{len(model.labels)} classes"] if model.head is not None else []
    if model.regressor is not None:
        heads.append(f"{', '.join(model.regressor.names)} ({model.regressor.kind})")
    return "; ".join(heads) or "none"


def untrained(size: str, jets: Jets, folder: Path) -> Path:
    """Save an encoder with random weights and a linear head of ten classes."""
    torch.manual_seed(0)
    encoder = Encoder(resolve(ModelSettings, {"size": size}))
    encoder.features.fit_statistics([jets])
    head = ClassHead(encoder.dim, 10)
    facts = {"method": "random weights", "training": {"mode": "none"}}
    save_model(Model(encoder, head, tuple(f"class {number}" for number in range(10)), facts), folder / "model")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--jets", type=int, default=1000)
    parser.add_argument("--untrained", nargs="*", default=[])
    parser.add_argument("--data", nargs="*", default=[])
    args = parser.parse_args()
    jets = api.read_jets(args.data, each=50)
    parity, latency = [], []
    for run in [*args.runs, *args.untrained]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model.onnx"
            run = untrained(run, jets, Path(folder)) if run in args.untrained else run
            model = load_model(run)
            summary = api.export(
                run, out=out, data=args.data, tokens=True, int8=True, settings={"export.jets": args.jets}
            )
            lengths = by_length(model, summary, jets)
            nodes = len(onnx.load(out).graph.node)
        name = f"{model.facts['training'].get('mode', 'pretrained')}: {model.method} | {shape_of(model)}"
        int8 = summary.int8
        assert int8 is not None
        auc = "" if int8.auc is None else f"{int8.auc[0]:.4f} -> {int8.auc[1]:.4f}"
        cells = [f"{value:.1e}" for value in (*lengths, max(summary.differences.values()))]
        parity.append(f"| {name} | {heads_of(model)} | {' | '.join(cells)} | {int8.cosine:.5f} | {auc} |")
        times = {(one.runtime, one.jets > 1): f"{one.milliseconds:.1f}" for one in summary.latencies}
        order = [("onnxruntime", False), ("PyTorch", False), ("onnxruntime", True), ("PyTorch", True)]
        sizes = f"{nodes} | {summary.bytes / 1e6:.1f} | {int8.bytes / 1e6:.1f}"
        latency.append(f"| {name} | {' | '.join(times[key] for key in order)} | {sizes} |")
        print(parity[-1], latency[-1], sep="\n", file=sys.stderr, flush=True)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, opset 17, {args.jets:,} jets\n"
    )
    titles = ["model", "size", "heads", *(f"{length} particles" for length in LENGTHS), "all jets and missing columns"]
    print_table([*titles, "int8: cosine of z", "int8: AUC"], parity)
    titles = ["model", "size", "ONNX, 1 jet", "PyTorch, 1 jet", "ONNX, 64 jets", "PyTorch, 64 jets"]
    print_table([*titles, "nodes", "MB", "MB int8"], latency)


def print_table(titles: list[str], rows: list[str]) -> None:
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    print("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
