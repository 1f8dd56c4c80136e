"""Comparison of an ONNX graph with PyTorch on real jets, and the time that each takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ssl_jets.arrays import Array
from ssl_jets.exporting.graph import INPUTS, ExportedModel
from ssl_jets.jets import NEEDED, Jets, offsets_of
from ssl_jets.model import Model, with_columns

if TYPE_CHECKING:
    import onnxruntime

LENGTHS = (1, 2, 50, 300)
"""Lengths of the jets that are made for the comparison, in addition to the real jets."""
AS_THEY_ARE = 64
"""Real jets that are compared."""
BATCH = 64
"""Jets of the batch in the latency measurement."""
MISSING = (("energy",), ("charge",), ("kind",), ("d0", "d0err"), ("dz", "dzerr"))
"""Columns that are left out together to compare missing columns."""
_MEASURED_SECONDS = 1.0


@dataclass(frozen=True)
class Latency:
    """Median time of one call.

    Attributes:
        runtime: "onnxruntime" or "PyTorch".
        jets: jets of the call.
        milliseconds: wall time of the call.
    """

    runtime: str
    jets: int
    milliseconds: float


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU with as many threads as PyTorch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run_onnx(session: onnxruntime.InferenceSession, module: ExportedModel, jets: Jets) -> dict[str, Array]:
    """Return the outputs of the graph for jets; columns that they lack are NaN."""
    table, mask = as_table(jets, module.columns)
    values = session.run(list(module.outputs), dict(zip(INPUTS, (table, mask), strict=True)))
    return dict(zip(module.outputs, values, strict=True))


def as_table(jets: Jets, columns: tuple[str, ...]) -> tuple[Array, Array]:
    """Return jets as the inputs of a graph: `[jet, particle, column]` with NaN for missing columns, and the mask.

    Example:
        >>> jets = Jets.of([[[310.0, 0.5, 0.25]], [[50.0, 0, 0], [9.0, 0, 0]]], ("pt", "deta", "dphi"))
        >>> table, mask = as_table(jets, ("pt", "deta", "dphi", "charge"))
        >>> table[0, 0].tolist(), mask.tolist()
        ([310.0, 0.5, 0.25, nan], [[1.0, 0.0], [1.0, 1.0]])
    """
    padded, mask = jets.to_padded()
    table = torch.full((*mask.shape, len(columns)), torch.nan)
    for position, name in enumerate(columns):
        if name in jets.columns:
            table[:, :, position] = padded[:, :, jets.columns.index(name)]
    return table.numpy(), mask.float().numpy()


@torch.inference_mode()
def run_torch(model: Model, module: ExportedModel, jets: Jets) -> dict[str, Array]:
    """Return the same outputs from the packed encoder and the heads of the model; tokens are padded with zeros."""
    encoded = model.encoder(jets)
    results: dict[str, Tensor | Array] = {"z": encoded.z}
    if "tokens" in module.outputs:
        mask = jets.to_padded()[1]
        results["tokens"] = encoded.tokens.new_zeros(*mask.shape, model.encoder.width).masked_scatter(
            mask.unsqueeze(2), encoded.tokens
        )
    if model.head is not None:
        results["probabilities"] = model.probabilities(encoded.z.numpy())
    if model.regressor is not None:
        results["regressed"] = model.regressor.physical(encoded.z)
        if "quantiles" in module.outputs:
            results["quantiles"] = model.regressor.bands(encoded.z)
    return {name: np.asarray(values) for name, values in results.items()}


def largest_differences(
    model: Model, module: ExportedModel, session: onnxruntime.InferenceSession, jets: Jets
) -> dict[str, float]:
    """Return the largest difference of each output between onnxruntime and PyTorch, relative to its scale.

    The scale is 1 for probabilities, and the root mean square of PyTorch's values for the other outputs, target by
    target for regressed columns. A value that is not finite in one of the two is an infinite difference.
    """
    largest = dict.fromkeys(module.outputs, 0.0)
    for batch in batches_of(jets):
        for name, value in differences(model, module, session, batch).items():
            largest[name] = max(largest[name], value)
    return largest


def differences(
    model: Model, module: ExportedModel, session: onnxruntime.InferenceSession, batch: Jets
) -> dict[str, float]:
    """Return the largest difference of each output for one batch of jets, relative to its scale."""
    found, expected = run_onnx(session, module, batch), run_torch(model, module, batch)
    return {name: difference(name, found[name], expected[name]) for name in module.outputs}


def difference(name: str, found: Array, expected: Array) -> float:
    """Return the largest difference of one output relative to its scale.

    Example:
        >>> difference("z", np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]]))
        1.0
    """
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return np.inf
    off = np.abs(found.astype(np.float64) - expected)
    if name == "probabilities":
        return float(off.max())
    over = (0, *range(2, expected.ndim)) if name in ("regressed", "quantiles") else None  # target by target
    scale = np.sqrt(np.square(expected, dtype=np.float64).mean(axis=over, keepdims=True))
    return float((off / np.maximum(scale, np.finfo(np.float32).tiny)).max())


def batches_of(jets: Jets) -> Iterator[Jets]:
    """Yield the jets to compare: jets as they are, particles regrouped to `LENGTHS`, and these with missing columns."""
    yield jets.select(torch.arange(min(AS_THEY_ARE, len(jets))))
    regrouped = regroup(jets)
    yield regrouped
    optional = tuple(name for name in jets.columns if name not in NEEDED)
    for names in (*MISSING, optional):
        if set(names) & set(optional):
            yield with_columns(regrouped, tuple(name for name in jets.columns if name not in names))


def regroup(jets: Jets) -> Jets:
    """Return jets of `LENGTHS` particles, made of the particles of real jets in their order."""
    index = torch.arange(sum(LENGTHS)) % len(jets.particles)
    return Jets(jets.particles[index], offsets_of(torch.tensor(LENGTHS)), jets.columns)


def measure_latency(
    model: Model, module: ExportedModel, session: onnxruntime.InferenceSession, jets: Jets
) -> list[Latency]:
    """Measure one jet and a batch, with both runtimes on the same jets and threads."""
    runtimes: Mapping[str, Callable[[Jets], object]] = {
        "onnxruntime": lambda some: run_onnx(session, module, some),
        "PyTorch": lambda some: run_torch(model, module, some),
    }
    sizes = dict.fromkeys((1, min(BATCH, len(jets))))
    batches = [jets.select(torch.arange(size)) for size in sizes]
    return [
        Latency(name, len(batch), _median_milliseconds(call, batch))
        for batch in batches
        for name, call in runtimes.items()
    ]


def _median_milliseconds(call: Callable[[Jets], object], jets: Jets) -> float:
    call(jets)  # the first call compiles and allocates
    times: list[float] = []
    while len(times) < 5 or sum(times) < _MEASURED_SECONDS:
        began = time.perf_counter()
        call(jets)
        times.append(time.perf_counter() - began)
    return 1e3 * median(times)
