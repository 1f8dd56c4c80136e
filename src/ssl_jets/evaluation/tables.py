"""The numbers of an evaluation as plain tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssl_jets.evaluation.comparison import Comparison
from ssl_jets.evaluation.generated.result import GeneratedEvaluation
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.probes.results import RANDOM, WITH_Z, PhysicsProbe, ProbeResult
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.runtime.terminal import folded, plain_table

REJECTIONS = 60
"""Rejections that are printed, at most; all are in `metrics.json` and the report."""


_READERS = ("reader", "of", "fitted on", "accuracy (68 %)", "macro AUC (68 %)")


def summary_table(evaluation: Evaluation) -> str:
    """Return the printed tables: accuracy and AUC of head, probes and baselines; rejections; spread of z."""
    blocks = []
    rows: list[tuple[str, ...]] = []
    if evaluation.task:
        fitted = _count(evaluation.model.labelled_jets)
        rows.append(("head", "z", fitted, number(evaluation.task.accuracy), number(evaluation.task.auc)))
    rows += _probe_rows(evaluation.probes)
    if rows:
        blocks.append(plain_table(_READERS, rows))
    if evaluation.task and evaluation.task.rejections:
        quoted = [
            (found.signal, f"{100 * found.efficiency:g} %", _rejection(found.rejection))
            for found in evaluation.task.rejections
        ]
        quoted = quoted[:REJECTIONS]
        background = evaluation.task.rejections[0].background
        blocks.append(plain_table(("signal", "efficiency", f"rejection of {background} (68 %)"), quoted))
    if evaluation.task:
        calibrated, task = evaluation.task.calibrated, evaluation.task
        scaled = ", ".join(f"{value:.2f}" for value in calibrated.temperatures)
        scales = [
            ("calibration error", number(task.calibration_error), number(calibrated.calibration_error)),
            ("log loss", number(task.log_loss), number(calibrated.log_loss)),
        ]
        blocks.append(plain_table(("", "value (68 %)", f"after temperature scaling (T = {scaled})"), scales))
    if evaluation.regression:
        regressed = [
            (one.target, number(one.bias), number(one.resolution), f"{one.spread:.4g}", number(one.explained))
            for one in evaluation.regression
        ]
        blocks.append(plain_table(("regressed", "bias (68 %)", "resolution (68 %)", "spread", "R2 (68 %)"), regressed))
    blocks += _of_particles(evaluation)
    if evaluation.physics:
        blocks.append(_physics(evaluation.physics))
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
    if spreads:
        blocks.append(plain_table(head, spreads))
    blocks += [f"z has collapsed: {verdict.text}" for verdict in evaluation.collapse]
    blocks += map(folded, evaluation.headlines())
    return "\n\n".join(blocks)


def _of_particles(evaluation: Evaluation) -> list[str]:
    """Return the tables of the targets of particles."""
    classes, numbers, groups = evaluation.particle_classes, evaluation.particle_numbers, evaluation.particle_groups
    tables = {
        ("classes of particles", "particles", "largest class", "accuracy (68 %)", "macro AUC (68 %)"): [
            (
                one.target,
                f"{sum(one.particles.values()):,}",
                f"{one.largest_class:.4f}",
                number(one.accuracy),
                number(one.auc),
            )
            for one in classes
        ],
        ("regressed of particles", "bias (68 %)", "resolution (68 %)", "spread", "R2 (68 %)"): [
            (one.target, number(one.bias), number(one.resolution), f"{one.spread:.4g}", number(one.explained))
            for one in numbers
        ],
        ("groups of particles", "pairs", "AUC (68 %)", "efficiency (68 %)", "purity (68 %)"): [
            (one.target, f"{one.pairs:,}", number(one.auc), number(one.efficiency), number(one.purity))
            for one in groups
        ],
    }
    return [plain_table(head, rows) for head, rows in tables.items() if rows]


def comparison_table(comparison: Comparison) -> str:
    """Return the printed tables of several models: heads, linear probes, ranks, and paired differences."""
    rows = []
    for name, evaluation in comparison.evaluations.items():
        spread, labels = evaluation.representation, evaluation.model.labelled_jets
        linear = [probe for probe in evaluation.probes if (probe.reader, probe.of) == ("linear", "z")]
        fair = ["" if evaluation.task is None else _count(labels), *_fitted(linear[1:2])]
        accuracy = "" if evaluation.task is None else number(evaluation.task.accuracy)
        cells = (fair[0], accuracy, fair[1], *_fitted(linear[:1]))
        rows.append((name, evaluation.model.method, *cells, f"{spread.rankme:.1f} of {spread.dimensions}"))
    probed = ("linear probe on these labels", "linear probe on all")
    head = ("run", "method", "labels", "head, accuracy (68 %)", *probed, "effective rank")
    blocks = [plain_table(head, rows)]
    baselines = {  # shared by models of one shape and number of labels
        (probe.reader, probe.of, probe.fit_jets): probe
        for evaluation in comparison.evaluations.values()
        for probe in evaluation.probes
        if probe.of not in (*WITH_Z, RANDOM)
    }
    if baselines:
        blocks.append(plain_table(_READERS, _probe_rows(list(baselines.values()))))
    if comparison.differences:
        pairs = [
            (f"{entry.second} - {entry.first}", entry.of, number(entry.accuracy), number(entry.auc))
            for entry in comparison.differences
        ]
        blocks.append(plain_table(("difference", "of", "accuracy (68 %)", "macro AUC (68 %)"), pairs))
    if comparison.cka:
        alike = [(f"{entry.first}, {entry.second}", number(entry.cka)) for entry in comparison.cka]
        blocks.append(plain_table(("z of", "CKA (68 %)"), alike))
    for name, one in comparison.evaluations.items():
        against = one.headlines()[:1]
        blocks += [folded(f"{name}: {line}") for line in against]
    return "\n\n".join(blocks)


def generated_table(result: GeneratedEvaluation) -> str:
    """Return the printed tables of generated and real jets: two-sample test, and distances with their floor."""
    tests = [("generated, real", result.two_sample_test), ("real, other real", result.two_sample_floor)]
    head = ("samples", "AUC of trees (68 %)", "0.5: not told apart, 1: always told apart")
    tested = plain_table(head, [(samples, number(test.auc), "") for samples, test in tests])
    rows = [
        (
            entry.observable + ("" if entry.unit == "1" else f" [{entry.unit}]"),
            _with_error(entry.generated),
            _with_error(entry.real),
        )
        for entry in result.distances
    ]
    return f"{tested}\n\n" + plain_table(("Wasserstein-1 of", "generated, real", "real, other real (floor)"), rows)


def _probe_rows(probes: Sequence[ProbeResult]) -> list[tuple[str, ...]]:
    return [
        (probe.reader, probe.of, _count(probe.fit_jets), number(probe.accuracy), number(probe.auc)) for probe in probes
    ]


def _physics(probes: Sequence[PhysicsProbe]) -> str:
    """Return the explained variance of each quantity, a column for each reader."""
    readers = list(dict.fromkeys((probe.reader, probe.of) for probe in probes))
    rows = []
    for quantity in dict.fromkeys(probe.quantity for probe in probes):
        values = {(probe.reader, probe.of): probe.explained.value for probe in probes if probe.quantity == quantity}
        cells = [values.get(reader) for reader in readers]
        rows.append((quantity, *("" if value is None else f"{value:.3f}" for value in cells)))
    return plain_table(("R2 of", *(f"{reader}, {of}" for reader, of in readers)), rows)


def _fitted(probes: Sequence[ProbeResult]) -> list[str]:
    """Return the accuracy of a probe, behind the number of jets it is fitted on; "" without one."""
    return [f"{_count(probe.fit_jets)}: {number(probe.accuracy)}" for probe in probes] or [""]


def _count(jets: int | None) -> str:
    return "not known" if jets is None else f"{jets:,} jets"


def _with_error(estimate: Estimate) -> str:
    if estimate.value is None or estimate.high is None:
        return "not defined"
    return f"{estimate.value:.3g} +- {estimate.high - estimate.value:.2g}"


def _rejection(estimate: Estimate) -> str:
    if estimate.low is None:
        return "not defined"
    if estimate.limit:
        return f">= {estimate.value:.0f}  > {estimate.low:.3g}"
    high = "open" if estimate.high is None else f"{estimate.high:.3g}"
    return f"{estimate.value:.3g}  {estimate.low:.3g} to {high}"


def number(estimate: Estimate) -> str:
    """Format a number and its interval."""
    if estimate.value is None:
        return "not defined"
    return f"{estimate.value:.4f}" + (
        f"  {estimate.low:.4f} to {estimate.high:.4f}" if estimate.low is not None else ""
    )
