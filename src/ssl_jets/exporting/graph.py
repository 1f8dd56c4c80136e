"""ONNX graph of a trained model: physical columns in; z, tokens, probabilities and regressed columns out.

The exporter of PyTorch writes opset 18. The operators used here have the same meaning in older opsets, so that a lower
number is written into the file; `onnx.checker` then compares each node with the definition of that opset. Notes of the
exporter about the source code are removed.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssl_jets import __version__
from ssl_jets.errors import SslJetsError
from ssl_jets.exporting.padded import PaddedEncoder
from ssl_jets.jets import COLUMNS, KINDS, UNITS
from ssl_jets.model import Model
from ssl_jets.nn.foreign.adapter import require_own

if TYPE_CHECKING:
    import onnx

INPUTS = ("particles", "mask")
"""Inputs: float32 `[jet, particle, column]` and float32 `[jet, particle]`. Both are float32 since the interface of
CMSSW passes no other type."""
WRITTEN_OPSET = 18
"""Opset that the exporter of PyTorch writes."""
LAYER_NORM_OPSET = 17
"""First opset with a node for layer normalization; below, it is written as sums and products."""
FILE_FORMAT = 7
"""Version of the file format (IR): the latest that onnxruntime 1.10 reads. Nothing here needs a later one."""


class ExportedModel(nn.Module):
    """A trained model on padded jets, with one output for each result; it shares the weights of `model`.

    Attributes:
        columns: columns of the table of particles.
        outputs: names of the outputs: `z`, then `tokens`, `probabilities`, `regressed` and `quantiles` as far as the
            model has them.
    """

    def __init__(self, model: Model, *, tokens: bool = False) -> None:
        super().__init__()
        self.columns = tuple(name for name in COLUMNS if name in model.columns)
        self.encoder = PaddedEncoder(require_own(model.encoder, "the export", ""), self.columns)
        self.head, self.regressor = model.head, model.regressor
        has = {
            "z": True,
            "tokens": tokens,
            "probabilities": self.head is not None,
            "regressed": self.regressor is not None,
            "quantiles": self.regressor is not None and self.regressor.kind != "mean",
        }
        self.outputs = tuple(name for name, given in has.items() if given)

    def forward(self, particles: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, in the order of `outputs`, from the two inputs of `PaddedEncoder`.

        All outputs of a jet without particles are NaN, except for tokens of padding.
        """
        z, tokens = self.encoder(particles, mask)
        no_particles = (mask > 0.5).float().sum(1) == 0  # [jet]

        def of_jets(values: Tensor) -> Tensor:
            return values.masked_fill(no_particles.view(-1, *[1] * (values.dim() - 1)), torch.nan)

        results = [of_jets(z)]
        if "tokens" in self.outputs:
            results.append(tokens)
        if self.head is not None:
            results.append(of_jets(self.head(z).softmax(dim=1)))
        if self.regressor is not None:
            results.append(of_jets(self.regressor.physical(z)))
            if "quantiles" in self.outputs:
                results.append(of_jets(self.regressor.bands(z)))
        return tuple(results)


def build_graph(module: ExportedModel, metadata: dict[str, str], opset: int) -> onnx.ModelProto:
    """Return the ONNX graph of a model, with dynamic numbers of jets and particles, checked by `onnx.checker`.

    Raises:
        SslJetsError: the exporter of the installed PyTorch cannot write the model with this opset.
    """
    import onnx

    particles = torch.ones(2, 3, len(module.columns))
    jet, particle = torch.export.Dim("jet"), torch.export.Dim("particle")
    shapes = ({0: jet, 1: particle}, {0: jet, 1: particle})
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(module, (particles, torch.ones(2, 3)), dynamic_shapes=shapes)
            program = program.run_decompositions(_decompositions(opset))
            written = torch.onnx.export(
                program,
                input_names=INPUTS,
                output_names=module.outputs,
                opset_version=WRITTEN_OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        found = str(error).splitlines()[0]
        raise SslJetsError("PyTorch cannot write this model as ONNX", where=f"opset {opset}", found=found) from error
    assert written is not None
    proto = written.model_proto
    _describe(proto, metadata, opset)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def metadata_of(model: Model, module: ExportedModel) -> dict[str, str]:
    """Return the texts of the file: columns and units, outputs, classes, and the model that it was made from."""
    columns = [{"name": name, "unit": UNITS[name]} for name in module.columns]
    table: dict[str, Any] = {
        "inputs": [
            {"name": "particles", "axes": ["jet", "particle", "column"], "columns": columns, "missing": "NaN"},
            {"name": "mask", "axes": ["jet", "particle"], "values": "1 for a particle, 0 for padding"},
        ],
        "outputs": list(module.outputs),
        "kinds": list(KINDS),
        "classes": list(model.labels) if model.head is not None else [],
        "regressed": list(model.regressor.names) if model.regressor is not None else [],
        "quantiles": list(model.regressor.levels) if model.regressor is not None else [],
    }
    texts = {name: json.dumps(value) for name, value in table.items()}
    origin = {"model_sha256": model.sha256, "method": model.method, "package": f"ssl-jets {__version__}"}
    return texts | {"columns": ",".join(module.columns), "z_dim": str(model.encoder.dim)} | origin


def _describe(proto: onnx.ModelProto, metadata: dict[str, str], opset: int) -> None:
    """Set opset and metadata, name the axes, and remove the notes of the exporter, which have paths of this machine."""
    proto.ir_version, proto.opset_import[0].version = FILE_FORMAT, opset
    proto.producer_name, proto.producer_version = "ssl-jets", __version__
    graph = proto.graph
    graph.name = "ssl_jets"
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (proto, graph, *graph.node, *graph.initializer, *values):
        del part.metadata_props[:]
        part.doc_string = ""
    shape = graph.input[0].type.tensor_type.shape.dim
    axes = {shape[0].dim_param: "jet", shape[1].dim_param: "particle"}
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in axes:
                dim.dim_param = axes[dim.dim_param]
    for name, text in metadata.items():
        proto.metadata_props.add(key=name, value=text)


def _decompositions(opset: int) -> dict[Any, Callable[..., Any]]:
    """Return functions for operators that the opset, or the runtime on CPUs (sinh of float64), does not have."""

    def hypot(x: Tensor, y: Tensor) -> Tensor:
        return (x * x + y * y).sqrt()

    def sinh(x: Tensor) -> Tensor:
        return (x.exp() - (-x).exp()) / 2 if x.dtype == torch.float64 else NotImplemented

    def layer_norm(x: Tensor, shape: list[int], weight: Tensor, bias: Tensor, eps: float = 1e-5, *_: bool) -> Tensor:
        centred = x - x.sum(-1, keepdim=True) / shape[0]
        variance = (centred * centred).sum(-1, keepdim=True) / shape[0]
        return centred / (variance + eps).sqrt() * weight + bias

    functions: dict[Any, Callable[..., Any]] = {
        torch.ops.aten.hypot.default: hypot,
        torch.ops.aten.sinh.default: sinh,
    }
    if opset < LAYER_NORM_OPSET:
        functions[torch.ops.aten.layer_norm.default] = layer_norm
    return functions


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from printing: warnings about its own versions, and progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
