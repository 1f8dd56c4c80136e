"""Figures of a training, from the lines of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_jets.report.figures.style import COLOURS, GREY, panel_grid

Lines = Sequence[Mapping[str, Any]]

STEP = "step"

BOOKKEEPING = {
    *("step", "kind", "loss", "lr", "grad_norm", "jets_per_second", "data_wait", "epoch", "seconds"),
    *("skipped", "skipped_steps", "domain_accuracy", "domain_lambda"),
}
"""Keys of a training line that have a panel of their own, or none."""

PANELS = (
    ("domain_accuracy", "accuracy of the domain discriminator"),
    ("z_std", "mean std of z"),
    ("rankme", "effective rank of z"),
    ("jets_per_second", "jets / s"),
    ("lr", "learning rate"),
    ("grad_norm", "norm of the gradient"),
)
"""Key and label of the panels after the loss, its parts and the probe; a key without numbers has no panel."""

Panel = tuple[str, str, tuple[float | None, float | None]]
"""Key, label and limits of a panel."""

PROGRESS: tuple[Panel, ...] = (("loss", "held-out loss", (None, None)), ("probe_accuracy", "probe accuracy", (0, None)))
"""Panels of loss and probe in a comparison of runs."""

COLLAPSE: tuple[Panel, ...] = (
    ("z_variation", "relative variation of z", (0, None)),
    ("compared_variation", "relative variation of the projections", (0, None)),
    ("z_participation_ratio", "participation ratio", (1, None)),
    ("rankme", "effective rank", (1, None)),
    ("z_alignment", "alignment of two views", (0, 2)),
    ("z_uniformity", "uniformity", (None, 0)),
    ("z_mean_cosine", "mean cosine of two jets", (None, 1)),
    ("z_swap_rise", "rise of the loss when jets swap z", (0, None)),
    ("teacher_distance", "distance of student and teacher", (0, None)),
    ("embedding_variation", "variation of embeddings", (0, None)),
    ("code_usage", "share of codes used", (0, 1)),
)
"""Panels of the measures of collapse of z; a key without numbers has no panel."""

COLLAPSED = COLOURS[2]


def training(lines: Lines) -> Figure | None:
    """Draw loss, probe, spread of z and throughput against the step; None without two lines of the loss.

    A quantity with a single number has no panel.
    """
    if not _has(lines, "loss"):
        return None
    train, held = _of_kind(lines, "train"), _of_kind(lines, "validation")
    groups = groups_of(train)
    shown = [(key, label) for key, label in PANELS if _has(lines, key)]
    figure, panels = panel_grid(1 + len(groups) + _has(held, "probe_accuracy") + len(shown), 3.9, 3.0)
    free = iter(panels)
    _loss(next(free), train, held)
    for label, names in groups.items():
        _parts(next(free), train, names, label)
    if _has(held, "probe_accuracy"):
        _line(next(free), held, "probe_accuracy", "probe accuracy", COLOURS[2])
    for key, label in shown:
        axes = next(free)
        _line(axes, lines, key, label, GREY)
        if key in ("rankme", "jets_per_second"):
            _limit_y(axes, 0, None)
    return figure


def collapse(lines: Lines) -> Figure | None:
    """Draw the measures of collapse against the step; None without a look at held-out jets."""
    looks = _of_kind(lines, "check", "validation")
    shown = [panel for panel in COLLAPSE if _has(looks, panel[0])]
    if not shown:
        return None
    figure, panels = panel_grid(len(shown), 3.9, 2.7)
    for axes, (key, label, limits) in zip(panels, shown):
        _line(axes, looks, key, "", COLOURS[0])
        axes.set_title(label, fontsize=11)
        step, values = series([line for line in looks if line.get("collapse")], key)
        axes.plot(step, values, "o", color=COLLAPSED, markersize=6)
        _limit_y(axes, *limits)
    return figure


def overlaid(runs: Mapping[str, Lines], wanted: Sequence[Panel], colours: Mapping[str, str]) -> Figure | None:
    """Draw a panel for each quantity and a line for each run; None without a quantity.

    Red rings mark looks that found a collapse.
    """
    looks = {name: _of_kind(lines, "check", "validation") for name, lines in runs.items()}
    shown = [panel for panel in wanted if any(_has(lines, panel[0]) for lines in looks.values())]
    if not shown:
        return None
    figure, panels = panel_grid(len(shown), 3.9, 3.0)
    for axes, (key, label, limits) in zip(panels, shown):
        for name, lines in looks.items():
            axes.plot(*series(lines, key), "o-", markersize=4, color=colours[name], label=name)
            collapsed = series([line for line in lines if line.get("collapse")], key)
            ring: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 9, "markerfacecolor": "none"}
            axes.plot(*collapsed, **ring, color=COLLAPSED)
        axes.set_xlabel("step")
        _limit_y(axes, *limits)
        axes.set_title(label, fontsize=11)
    panels[0].legend(frameon=False, fontsize=10)
    return figure


def groups_of(train: Lines) -> dict[str, list[str]]:
    """Group the keys that a method logs by their panel: parts of the loss have "loss" in their names.

    >>> lines = [{"step": step, "loss_class": 1.0, "accuracy": 0.5} for step in (1, 2)]
    >>> groups_of(lines)
    {'part of the loss': ['loss_class'], 'also logged': ['accuracy']}
    """
    names = sorted({name for line in train for name in line if name not in BOOKKEEPING and _has(train, name)})
    parts = [name for name in names if "loss" in name]
    others = [name for name in names if "loss" not in name]
    return {label: group for label, group in (("part of the loss", parts), ("also logged", others)) if group}


def _loss(axes: Axes, train: Lines, held: Lines) -> None:
    step, loss = series(train, "loss")
    axes.plot(step, loss, color=COLOURS[0], alpha=0.35, linewidth=1)
    axes.plot(step, _smooth(loss), color=COLOURS[0], label="training")
    step, loss = series(held, "loss")
    axes.plot(step, loss, "o-", color=COLOURS[2], markersize=4, label="held-out jets")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False, loc="upper right")


def _parts(axes: Axes, train: Lines, parts: Sequence[str], title: str) -> None:
    for number, name in enumerate(parts):
        step, values = series(train, name)
        axes.plot(step, _smooth(values), color=COLOURS[number % len(COLOURS)], label=name.replace("_", " "))
    axes.set(xlabel="step", ylabel=f"{title} (training)")
    if len(parts) > 1:
        axes.legend(frameon=False, fontsize=10)
    else:
        axes.set_ylabel(f"{parts[0].replace('_', ' ')} (training)")


def _line(axes: Axes, lines: Lines, key: str, label: str, colour: str) -> None:
    step, values = series(lines, key)
    axes.plot(step, values, "o-" if len(step) < 60 else "-", color=colour, markersize=4)
    axes.set(xlabel="step", ylabel=label)


def _limit_y(axes: Axes, low: float | None, high: float | None) -> None:
    """Set the ends of the y axis that are not None; no point lies on the others.

    `set_ylim(0, None)` alone keeps the margin of the points: of 0.95 to 0.96 it is none of 0 to 0.96.
    """
    x = axes.dataLim.x0
    axes.update_datalim([(x, end) for end in (low, high) if end is not None])
    axes.autoscale_view(scalex=False)
    axes.set_ylim(low, high)


def series(lines: Lines, key: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return steps and values `[point]` of the lines that have a number at `key`."""
    points = [(line[STEP], line[key]) for line in lines if _is_number(line.get(key))]
    return np.array([step for step, _ in points], float), np.array([value for _, value in points], float)


def _smooth(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the running mean over a twentieth of the points, over fewer at the ends."""
    width = max(1, len(values) // 20)
    kernel = np.ones(width)
    sums = np.convolve(values, kernel, "same")
    return np.asarray(sums / np.convolve(np.ones(len(values)), kernel, "same")) if len(values) >= width else values


def _has(lines: Lines, key: str) -> bool:
    """Check that two steps or more have a number at `key`: one point is no curve."""
    return len({line[STEP] for line in lines if _is_number(line.get(key))}) > 1


def _of_kind(lines: Lines, *kinds: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line.get("kind") in kinds]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
