"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Data, Force, Model, Schema, Set

if TYPE_CHECKING:
    from ssl_jets.exporting import ExportSummary
    from ssl_jets.exporting.quantize import QuantizationLoss


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="ONNX file: .onnx.")],
    data: Data = None,
    schema: Schema = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also return the tokens of the particles.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write FILE.int8.onnx with 8-bit weights, and report their loss.")
    ] = False,
    set_: Set = None,
    force: Force = False,
) -> None:
    """Write a model as ONNX, compared with PyTorch on the jets of --data; prints the file."""
    from ssl_jets import api
    from ssl_jets.setting_tree import parse_set

    summary = api.export(
        model,
        out=out,
        data=data or (),
        schema=schema,
        tokens=tokens,
        int8=int8,
        settings=parse_set(set_ or []),
        force=force,
    )
    log(_comparison(summary))
    print_result(summary.path)
    if summary.int8 is not None:
        log(_loss(summary.int8))
        print_result(summary.int8.path)


def _comparison(summary: ExportSummary) -> str:
    """Return the inputs, the outputs with their differences, and the latencies."""
    lines = [f"particles: {', '.join(summary.columns)}; mask", "output         largest difference to PyTorch"]
    lines += [f"{name:<14} {value:.1e}" for name, value in summary.differences.items()]
    lines.append("jets  runtime      ms")
    lines += [f"{one.jets:>4}  {one.runtime:<11} {one.milliseconds:.2f}" for one in summary.latencies]
    return "\n".join(lines)


def _loss(int8: QuantizationLoss) -> str:
    """Return the loss of 8-bit weights."""
    parts = [f"int8: {int8.bytes:,} bytes; {int8.jets:,} jets: cosine of z {int8.cosine:.5f}"]
    if int8.same_class is not None:
        parts.append(f"same class {int8.same_class:.2%}")
    if int8.auc is not None and int8.accuracy is not None:
        parts.append("AUC {:.4f} -> {:.4f}".format(*int8.auc))
        parts.append("accuracy {:.4f} -> {:.4f}".format(*int8.accuracy))
    return ", ".join(parts)
