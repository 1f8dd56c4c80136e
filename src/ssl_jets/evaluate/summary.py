"""The numbers of an evaluation as plain tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssl_jets.evaluate.estimate import Estimate
from ssl_jets.evaluate.evaluation import Evaluation
from ssl_jets.evaluate.generated import GeneratedEvaluation


def summary_table(evaluation: Evaluation) -> str:
    """What to print: accuracy and AUC of head, probes and baselines; rejections; the spread of z."""
    blocks = []
    readers = [("head", "z", evaluation.task.accuracy, evaluation.task.auc)] if evaluation.task else []
    readers += [(probe.reader, probe.of, probe.accuracy, probe.auc) for probe in evaluation.probes]
    if readers:
        rows = [(reader, of, _number(accuracy), _number(auc)) for reader, of, accuracy, auc in readers]
        blocks.append(plain_table(("reader", "of", "accuracy (68 %)", "macro AUC (68 %)"), rows))
    if evaluation.task and evaluation.task.rejections:
        quoted = [
            (found.signal, f"{100 * found.efficiency:g} %", _rejection(found.rejection))
            for found in evaluation.task.rejections
        ]
        background = evaluation.task.rejections[0].background
        blocks.append(plain_table(("signal", "efficiency", f"rejection of {background} (68 %)"), quoted))
    spreads = [
        (
            of,
            f"{found.rankme:.1f} of {found.dimensions}",
            f"{found.participation_ratio:.1f}",
            f"{found.mean_cosine:.3f}",
            f"{found.variation:.3f}",
            "not measured" if math.isnan(found.alignment) else f"{found.alignment:.2f}",
        )
        for of, found in evaluation.spread.items()
    ]
    head = ("spread of", "effective rank", "participation ratio", "mean cosine", "variation", "alignment")
    blocks.append(plain_table(head, spreads))
    blocks += [f"z has collapsed: {verdict.text}" for verdict in evaluation.collapse]
    return "\n\n".join(blocks)


def generated_table(found: GeneratedEvaluation) -> str:
    """What to print of generated against real jets: the two-sample test, and every distance beside its floor."""
    tests = [("generated, real", found.test), ("real, other real", found.floor)]
    head = ("samples", "AUC of trees (68 %)", "0.5: not told apart, 1: always told apart")
    tested = plain_table(head, [(samples, _number(test.auc), "") for samples, test in tests])
    rows = [
        (
            entry.observable + ("" if entry.unit == "1" else f" [{entry.unit}]"),
            _with_error(entry.generated),
            _with_error(entry.real),
        )
        for entry in found.distances
    ]
    return f"{tested}\n\n" + plain_table(("Wasserstein-1 of", "generated, real", "real, other real (floor)"), rows)


def _with_error(found: Estimate) -> str:
    if found.value is None or found.high is None:
        return "not defined"
    return f"{found.value:.3g} +- {found.high - found.value:.2g}"


def _number(found: Estimate) -> str:
    if found.value is None:
        return "not defined"
    return f"{found.value:.4f}" + (f"  {found.low:.4f} to {found.high:.4f}" if found.low is not None else "")


def _rejection(found: Estimate) -> str:
    if found.limit:
        return f">= {found.value:.0f}"
    high = "open" if found.high is None else f"{found.high:.3g}"
    return f"{found.value:.3g}  {found.low:.3g} to {high}"


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two blanks apart."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (head, *rows))
