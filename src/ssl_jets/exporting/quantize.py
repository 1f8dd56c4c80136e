"""Graph with 8-bit weights, and the loss that they cause.

Dynamic quantization: the matrices of the blocks are stored as 8-bit integers with one scale for each column, and their
inputs are rounded to 8 bits at run time, with a scale for each call. The first matrix stays in float32, since features
have long tails, and so do the heads, which cost no time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.exporting.graph import FILE_FORMAT

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class QuantizationLoss:
    """Comparison of 8-bit weights with float32, on the same jets.

    Attributes:
        path: the file with 8-bit weights.
        bytes: size of the file.
        jets: jets compared.
        cosine: mean cosine of z with z of the float32 graph.
        same_class: fraction of the jets with the same most probable class; None without a head.
        auc: macro one-versus-rest AUC of float32 and 8 bits; None without a head, or labels of its classes.
        accuracy: accuracy of float32 and 8 bits; None as for `auc`.
    """

    path: Path
    bytes: int
    jets: int
    cosine: float
    same_class: float | None = None
    auc: tuple[float, float] | None = None
    accuracy: tuple[float, float] | None = None


def quantize(proto: onnx.ModelProto, path: Path) -> None:
    """Write a graph with 8-bit weights to `path`."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    blocks = matrices_of_blocks(proto)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises another tool for image models
    try:
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=blocks,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(level)
    written = onnx.load(path)
    written.ir_version = FILE_FORMAT
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, path)


def matrices_of_blocks(proto: onnx.ModelProto) -> list[str]:
    """Return the names of the matrix products of the blocks: those followed by the bias of a block."""
    sums = [node.input for node in proto.graph.node if node.op_type == "Add"]
    products = {name for names in sums if any(".transformer.blocks." in name for name in names) for name in names}
    return [node.name for node in proto.graph.node if node.op_type == "MatMul" and node.output[0] in products]


def loss_of(
    path: Path, size: int, exact: dict[str, Array], rounded: dict[str, Array], labels: Array | None
) -> QuantizationLoss:
    """Compare the outputs of two graphs.

    Args:
        path: the file with 8-bit weights.
        size: bytes of the file.
        exact: outputs of the float32 graph.
        rounded: outputs of the graph with 8-bit weights.
        labels: class of each jet, int64 `[jet]`, -1 for none; None if they are other classes than the model's.
    """
    z, other = exact["z"].astype(np.float64), rounded["z"].astype(np.float64)
    cosine = float(((z * other).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(other, axis=1)).mean())
    if "probabilities" not in exact:
        return QuantizationLoss(path, size, len(z), cosine)
    both = exact["probabilities"], rounded["probabilities"]
    same = float((both[0].argmax(1) == both[1].argmax(1)).mean())
    if labels is None or not (labels >= 0).any():
        return QuantizationLoss(path, size, len(z), cosine, same)
    known = labels >= 0
    accuracy = tuple(float((one[known].argmax(1) == labels[known]).mean()) for one in both)
    auc = tuple(macro_auc(one[known], labels[known]) for one in both)
    return QuantizationLoss(path, size, len(z), cosine, same, (auc[0], auc[1]), (accuracy[0], accuracy[1]))


def macro_auc(probabilities: Array, labels: Array) -> float:
    """Return the mean over the classes of the AUC of one class against all others; classes without jets are left out.

    Example:
        >>> macro_auc(np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]), np.array([0, 1, 1]))
        1.0
    """
    from sklearn.metrics import roc_auc_score

    present = [index for index in range(probabilities.shape[1]) if 0 < (labels == index).sum() < len(labels)]
    each = [roc_auc_score(labels == index, probabilities[:, index]) for index in present]
    return float(np.mean(each)) if each else float("nan")
