"""Sections of an evaluation: figures with captions, tables with numbers and intervals, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ssl_jets.evaluation.metrics.regression import RegressionMetrics
from ssl_jets.evaluation.probes.results import PhysicsProbe, RobustnessCurve
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures import evaluation as evaluation_figures
from ssl_jets.report.figures import physics as physics_figures
from ssl_jets.report.numbers import Record, map_points, regression_points
from ssl_jets.report.sections.classification import classification
from ssl_jets.report.sections.particles import of_particles

_PROVENANCE = (
    "model",
    "jets",
    "left_out",
    "files_left_out",
    "settings",
    "versions",
    "package_version",
    "date",
    "seconds",
)
"""Entries of `metrics.json` that are listed at the end."""


def headline_lines(result: Evaluation) -> list[str]:
    """Return the sentences on z against observables and against the strongest baseline."""
    return [page.lead(line) for line in result.headlines()]


def evaluation_tiles(result: Evaluation) -> str:
    """Return the headline numbers of an evaluation: the head, the best reader of each input, the rank of z."""
    best: dict[str, evaluation_figures.ReaderRow] = {}
    for row in evaluation_figures.reader_rows(result):
        key = "head" if row.columns is None else row.of
        if key not in best or (row.accuracy.value or 0) > (best[key].accuracy.value or 0):
            best[key] = row
    entries = []
    for row in best.values():
        more = f"accuracy, 68 %: {page.interval(row.accuracy, digits=3)}; AUC {page.number(row.auc.value, 3)}"
        entries.append((row.name, page.number(row.accuracy.value, 3), more))
    if result.spread:
        spread = result.representation
        entries.append(("effective rank of z", page.number(spread.rankme, 1), f"of {spread.dimensions} dimensions"))
    return page.tiles(entries)


def evaluation(result: Evaluation, album: Album) -> list[str]:
    """Return all sections of an evaluation."""
    body = note_lines(result.notes, result.leaked)
    if result.task is not None:
        body += classification(result.task, result.leaked, album)
    if result.probes:
        body += [page.heading("Probes of z and baselines")]
        body += album.add("probes", lambda: evaluation_figures.probes(result), evaluation_figures.reader_rows(result))
        body += [_probe_table(result)]
    body += _regression(result.regression, album)
    body += of_particles(result.particle_classes, result.particle_numbers, result.particle_groups)
    body += _physics(result.physics, album)
    body += robustness({"": result}, album)
    if not result.spread:  # of a scores file
        return [*body, *_provenance(result)]
    body += [page.heading("Distribution of z")]
    shown = evaluation_figures.mapped_classes(result.map, result.classes)
    classes = ": one class in colour over all jets in grey" if shown else ""
    if shown and len(shown) < len(result.classes):
        classes += f" ({len(shown)} of the {len(result.classes)} classes: those with most jets in it)"
    jets = len(result.map.x)
    numbers = map_points(result.map, result.classes)
    draw = partial(evaluation_figures.z_map, result.map, result.classes)
    body += album.add("z_map", draw, numbers, jets=jets, classes=classes)
    return [*body, _spread_table(result), *_provenance(result)]


def note_lines(messages: Sequence[str], leaked: int = 0) -> list[str]:
    """Return the messages about the choice of jets: warnings come first and in a box."""
    loud = [note for note in messages if note.startswith("WARNING")]
    if leaked and not loud:
        loud = [f"The model was trained on {leaked:,} of the jets it is tested on"]
    calm = [note for note in messages if note not in loud]
    return [page.warning(f"{note}.") for note in loud] + [
        page.paragraph(note[0].upper() + note[1:] + ".") for note in calm
    ]


def robustness(models: Mapping[str, Evaluation], album: Album) -> list[str]:
    """Return the section of the robustness curves of one or several models, by name."""
    measured = {name: result for name, result in models.items() if result.robustness}
    if not measured:
        return []
    first = next(iter(measured.values()))
    headed = {result.task is not None for result in measured.values()}
    reader = "the head, or of a linear probe of z where there is none," if len(headed) > 1 else "the model's head"
    values = {
        "reader": "a linear probe of z" if headed == {False} else reader,
        "jets": min(first.settings.robust_jets, first.test_jets),
    }
    curves = {name: result.robustness for name, result in measured.items()}
    drawn = album.add("robustness", lambda: physics_figures.robustness(curves), _strengths(curves), **values)
    return [page.heading("Robustness to changed inputs"), *drawn]


def _strengths(curves: Mapping[str, Sequence[RobustnessCurve]]) -> list[Record]:
    """Return a row for each point of the robustness curves of models, by name."""
    return [
        {"model": name, "change": one.name, "unit": one.unit, "strength": strength, "accuracy": accuracy, "auc": auc}
        for name, all_of in curves.items()
        for one in all_of
        for strength, accuracy, auc in zip(one.strengths, one.accuracy, one.auc, strict=True)
    ]


def _physics(probes: Sequence[PhysicsProbe], album: Album) -> list[str]:
    if not probes:
        return []
    rows = [
        (
            probe.quantity,
            f"{probe.reader}, {probe.of}",
            page.number(probe.explained.value, 3),
            page.interval(probe.explained, digits=3),
            page.interval(probe.explained, "95", digits=3),
        )
        for probe in probes
    ]
    return [
        page.heading("Physics quantities predicted from z"),
        *album.add("physics", lambda: physics_figures.physics(probes), probes),
        page.folded("All numbers", page.table(("quantity", "reader", "R²", "68 %", "95 %"), rows)),
        page.paragraph(f"Fitted on {probes[0].fit_jets:,} jets and tested on {probes[0].test_jets:,} others."),
    ]


def _regression(targets: Sequence[RegressionMetrics], album: Album) -> list[str]:
    if not targets:
        return []
    rows = [
        (
            one.target,
            f"{one.jets:,}",
            *(page.with_interval(estimate, page.significant) for estimate in (one.bias, one.resolution)),
            page.significant(one.spread),
            page.number(one.explained.value, 3),
        )
        for one in targets
    ]
    head = ("target", "jets", "bias (68 %)", "resolution (68 %)", "spread of the target", "R²")
    return [
        page.heading("Regression by the model's head"),
        *album.add("regression", lambda: physics_figures.regression(targets), regression_points(targets)),
        page.table(head, rows),
    ]


def _probe_table(result: Evaluation) -> str:
    rows = [
        (
            row.reader,
            "" if row.columns is None else str(row.columns),
            "" if row.fit_jets is None else f"{row.fit_jets:,}",
            page.number(row.accuracy.value),
            page.interval(row.accuracy),
            page.number(row.auc.value),
            page.interval(row.auc),
        )
        for row in evaluation_figures.reader_rows(result)
    ]
    labels = result.model.labelled_jets
    text = f"Probes are fitted on {result.fit_jets:,} jets and tested on {result.test_jets:,} others."
    if result.task is not None and labels is not None and labels < result.fit_jets:
        text += f" The head had {labels:,} labels: compare it with the readers that are fitted on as many."
    head = ("reader", "inputs", "fitted on [jets]", "accuracy", "68 %", "macro AUC", "68 %")
    return page.table(head, rows) + page.paragraph(text)


def _spread_table(result: Evaluation) -> str:
    spreads = result.spread.values()
    rows = [
        ("effective rank (RankMe)", *(page.number(one.rankme, 1) for one in spreads)),
        ("participation ratio", *(page.number(one.participation_ratio, 1) for one in spreads)),
        ("relative variation of z", *(page.number(one.variation, 3) for one in spreads)),
        ("mean standard deviation", *(page.number(one.std, 3) for one in spreads)),
        ("smallest standard deviation", *(page.number(one.std_min, 3) for one in spreads)),
        ("constant dimensions", *(page.number(one.dead, 0) for one in spreads)),
        ("mean cosine of two jets", *(page.number(one.mean_cosine, 3) for one in spreads)),
        (
            "alignment of two views (2: as distant as two jets)",
            *(page.number(one.alignment, 2) for one in spreads),
        ),
        ("uniformity (0: all z parallel)", *(page.number(one.uniformity, 2) for one in spreads)),
        ("dimensions", *(page.number(one.dimensions, 0) for one in spreads)),
    ]
    return page.table(("", *result.spread), rows)


def _provenance(result: Evaluation) -> list[str]:
    files = [
        (file.name, f"{file.entries:,}", f"{file.bytes:,}", "yes" if file.trained_on else "no") for file in result.files
    ]
    metrics = result.metrics()
    facts = {name: metrics[name] for name in _PROVENANCE}
    return [
        page.folded("Files of the evaluation", page.table(("file", "jets", "bytes", "trained on"), files)),
        page.folded("Model, settings and versions of the evaluation", page.facts(facts)),
    ]
