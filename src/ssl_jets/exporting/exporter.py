"""Export of a trained model: a graph that agrees with PyTorch on real jets, or no file."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings, FileSettings, Settings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.read import read_jets
from ssl_jets.data.shared import shared_labels
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.exporting.graph import ExportedModel, build_graph, metadata_of
from ssl_jets.exporting.parity import BATCH, Latency, largest_differences, measure_latency, open_session, run_onnx
from ssl_jets.exporting.quantize import QuantizationLoss, loss_of, quantize
from ssl_jets.jets import Jets
from ssl_jets.model import Model, with_columns
from ssl_jets.model_file import load_model
from ssl_jets.nn.foreign.adapter import require_own
from ssl_jets.runtime.atomic import check_output, check_suffix, whole_file
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.overwriting import check_apart

if TYPE_CHECKING:
    import onnxruntime

SUFFIX = ".onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class GraphSettings(Settings):
    """The graph and its comparison (`export.*`)."""

    opset: int = Field(default=17, ge=15, le=18)
    """Version of the ONNX operators; 15 for onnxruntime 1.10 (CMSSW 12_4 to 13_0), 17 for 1.14 and later."""
    tolerance: float = Field(default=1e-5, gt=0)
    """Largest difference between onnxruntime and PyTorch, relative to the scale of the output; more is an error."""
    jets: int = Field(default=1000, ge=1)
    """Real jets to read, at most, the same number from each file: for the comparison, latency and loss of `--int8`."""


class ExportSettings(FileSettings):
    """All settings of `export`."""

    export: GraphSettings = GraphSettings()


@dataclass(frozen=True)
class ExportSummary:
    """The outcome of `export`.

    Attributes:
        path: the ONNX file.
        bytes: size of the file.
        columns: columns of the table of particles, in their order.
        outputs: names of the outputs.
        differences: largest difference between onnxruntime and PyTorch, by output, relative to its scale.
        latencies: time of one jet and of a batch with each runtime.
        int8: the file with 8-bit weights, if asked for.
    """

    path: Path
    bytes: int
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    differences: dict[str, float]
    latencies: tuple[Latency, ...]
    int8: QuantizationLoss | None = None


def export(
    model_path: str | Path,
    out: str | Path,
    *,
    settings: ExportSettings | None = None,
    tokens: bool = False,
    int8: bool = False,
    force: bool = False,
    log: Log = to_stderr,
) -> ExportSummary:
    """Write a model as ONNX, after a comparison with PyTorch on real jets; arguments as in `ssl_jets.export`.

    Raises:
        UsageError: a package is not installed, another suffix, an existing file.
        SslJetsError: the model has inputs that cannot be exported, or the two differ; nothing is written.
    """
    settings = settings or ExportSettings()
    out = check_suffix(out, SUFFIX, "models are exported as ONNX")
    rounded = out.with_suffix(f".int8{SUFFIX}")
    for path in (out, rounded)[: 1 + int8]:
        check_output(path, force=force)
    check_apart((out, rounded), settings.data.named)
    check_packages()
    model = load_model(model_path)
    check_inputs(model, model_path)
    jets, labels = labelled_jets(model, settings.data, settings.export.jets, log)
    log("writing the graph")
    module = ExportedModel(model, tokens=tokens).eval()
    proto = build_graph(module, metadata_of(model, module), settings.export.opset)
    graph = proto.SerializeToString(deterministic=True)
    session = open_session(graph)
    log(f"comparing onnxruntime with PyTorch on {len(jets):,} jets, and with lengths of 1 to 300")
    differences = largest_differences(model, module, session, jets)
    check_differences(differences, settings.export.tolerance, model_path)
    log("measuring the time of one jet and of a batch")
    latencies = measure_latency(model, module, session, jets)
    with ExitStack() as stack:
        fresh = stack.enter_context(whole_file(out, force=force))
        fresh.write_bytes(graph)
        loss = None
        if int8:
            fresh = stack.enter_context(whole_file(rounded, force=force))
            quantize(proto, fresh)
            other = open_session(fresh.read_bytes())
            exact, inexact = (run_in_batches(one, module, jets) for one in (session, other))
            loss = loss_of(rounded, fresh.stat().st_size, exact, inexact, labels)
    return ExportSummary(out, len(graph), module.columns, module.outputs, differences, tuple(latencies), loss)


def check_packages() -> None:
    """Check that the packages of the extra `onnx` are installed.

    Raises:
        UsageError: one is not.
    """
    if lacking := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(
            "the export needs packages that are not installed",
            found=f"missing: {', '.join(lacking)}",
            hint="pip install 'ssl-jets[onnx]'",
        )


def check_inputs(model: Model, where: str | Path) -> None:
    """Check that the encoder reads nothing but the canonical columns of particles.

    Raises:
        UsageError: it has further inputs.
    """
    settings = require_own(model.encoder, "the export", "--mode distil trains such a student").cfg
    if further := [*settings.features, *settings.context, *settings.collections]:
        raise UsageError(
            "this model has inputs that cannot be exported",
            where=where,
            found=", ".join(further),
            allowed=["the canonical columns of particles"],
        )


def labelled_jets(model: Model, data: DataSettings, most: int, log: Log) -> tuple[Jets, Array | None]:
    """Read real jets with the columns of the model, and their labels if they are of its classes."""
    sources = data.named
    files = open_named(sources, data, {})
    jets = read_jets(sources, each=-(-most // len(files)), data=data, log=log)
    jets = with_columns(jets.select(torch.arange(min(most, len(jets)))), model.columns)
    same = bool(model.labels) and shared_labels(files) == model.labels and jets.labels is not None
    return jets, jets.labels.numpy() if same and jets.labels is not None else None


def check_differences(differences: dict[str, float], tolerance: float, where: str | Path) -> None:
    """Check that onnxruntime and PyTorch agree.

    Raises:
        SslJetsError: an output differs by more than `tolerance`.
    """
    beyond = {name: value for name, value in differences.items() if not value <= tolerance}
    if beyond:
        raise SslJetsError(
            "the exported model differs from PyTorch; it was not written",
            where=where,
            found=", ".join(f"{name} by {value:.2g} of its scale" for name, value in beyond.items()),
            allowed=[f"at most {tolerance:g}"],
            hint=f"--set export.tolerance={2 * max(beyond.values()):.1g} accepts it",
        )


def run_in_batches(session: onnxruntime.InferenceSession, module: ExportedModel, jets: Jets) -> dict[str, Array]:
    """Return z and probabilities of all jets."""
    parts = [run_onnx(session, module, jets.select(index)) for index in torch.arange(len(jets)).split(BATCH)]
    names = [name for name in ("z", "probabilities") if name in module.outputs]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
