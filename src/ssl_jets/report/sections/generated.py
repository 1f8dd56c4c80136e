"""Section of generated against real jets: histograms with a ratio below, and every distance with its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ssl_jets.evaluation.generated.result import Distance, GeneratedEvaluation, Histogram
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result_base import plain
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.style import COLOURS, GREY, bars, density_label
from ssl_jets.report.numbers import Record, histogram_bins
from ssl_jets.report.sections.evaluation import note_lines

_AXES = {
    "mass": "jet mass [GeV]",
    "pt": r"jet $p_\mathrm{T}$ [GeV]",
    "particles": "particles in a jet",
    "tau21": r"$\tau_{21}$",
    "tau32": r"$\tau_{32}$",
    "score": "output of the trees",
    "particle pt": r"particle $p_\mathrm{T}$ [GeV]",
    "particle deta": r"particle $\Delta\eta$",
    "particle dphi": r"particle $\Delta\phi$ [rad]",
    "kind": "kind of particle",
}
_JETS = ("mass", "pt", "particles", "tau21", "tau32", "score")
_PARTICLES = ("particle pt", "particle deta", "particle dphi", "kind")
_RATIOS = (0.4, 1.6)
OUTSIDE = 0.01
"""Fraction of the generated entries outside of the axis from which on a panel has it above."""
_KINDS = ("charged\nhadron", "neutral\nhadron", "photon", "electron", "muon", "other")


def _tiles(result: GeneratedEvaluation) -> str:
    """Return the headline numbers: the two-sample test, and the distances of three observables."""
    auc, same = result.two_sample_test.auc, result.two_sample_floor.auc
    more = f"68 %: {page.interval(auc, digits=3)}; real against real {page.number(same.value, 3)}"
    entries = [("AUC of trees, generated or real", page.number(auc.value, 3), more)]
    for name, label in (("mass", "mass"), ("particles", "multiplicity"), ("tau21", "τ₂₁")):
        distance = next(entry for entry in result.distances if entry.observable == name)
        unit = "" if distance.unit == "1" else f" [{distance.unit}]"
        floor = f"real against real {_with_error(distance.real)}"
        entries.append((f"Wasserstein-1 of {label}{unit}", _with_error(distance.generated), floor))
    return page.tiles(entries)


def generated_sections(result: GeneratedEvaluation, album: Album) -> list[str]:
    """Return all sections of a comparison of generated with real jets."""
    test, bins = result.two_sample_test, {histogram.observable: histogram for histogram in result.histograms}
    tests = [("generated, real", result.two_sample_test.auc), ("real, other real", result.two_sample_floor.auc)]
    kinds = [name for name in bins if name.startswith("particle pt (")]
    return [
        _tiles(result),
        *note_lines(result.notes),
        page.heading("Classifier two-sample test"),
        page.paragraph(
            f"Boosted trees, fitted on {test.fit_jets:,} jets, read {len(test.columns)} observables of "
            f"{test.test_jets:,} others. An AUC of 0.5 means that they cannot separate the samples, 1 that they "
            "always can. An AUC of 0.5 does not prove the samples equal: other observables, more jets, or a better "
            "classifier may find a difference."
        ),
        page.table(
            ("samples", "AUC", "68 %", "95 %"),
            [(name, page.number(auc.value), page.interval(auc), page.interval(auc, "95")) for name, auc in tests],
        ),
        page.heading("Jets"),
        *album.add("generated_jets", lambda: histograms(bins, _JETS), _bins(bins, _JETS)),
        _distance_table(result.distances, "jets"),
        page.heading("Particles"),
        *album.add("generated_particles", lambda: histograms(bins, _PARTICLES), _bins(bins, _PARTICLES)),
        *album.add("generated_kinds", lambda: histograms(bins, kinds), _bins(bins, kinds)),
        _distance_table(result.distances, "particles"),
        *_provenance(result),
    ]


def _bins(bins: Mapping[str, Histogram], names: Sequence[str]) -> list[Record]:
    return histogram_bins(bins[name] for name in names if name in bins)


def histograms(bins: Mapping[str, Histogram], names: Sequence[str]) -> Figure | None:
    """Draw densities of generated and real jets, with their ratio below, of the observables among `names`."""
    shown = [bins[name] for name in names if name in bins]
    if not shown:
        return None
    columns = 3 if len(shown) != 4 else 2
    rows = -(-len(shown) // columns)
    figure = plt.figure(figsize=(0.4 + 3.9 * columns, 0.3 + 3.9 * rows), layout=ConstrainedLayoutEngine(h_pad=0.01))
    outer = figure.add_gridspec(rows, columns)
    for number, histogram in enumerate(shown):
        inner = outer[number // columns, number % columns].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.05)
        upper = figure.add_subplot(inner[0])
        lower = figure.add_subplot(inner[1], sharex=upper)
        _panel(upper, lower, histogram)
        _set_axes(upper, lower, histogram)
        if number == 0:
            upper.legend(frameon=False, loc="best")
    return figure


def _panel(upper: Axes, lower: Axes, histogram: Histogram) -> None:
    """Draw one observable: real jets as a grey area, generated ones as points; below, generated over real."""
    edges = np.array(histogram.edges, float)
    widths = np.diff(edges)
    of_generated, of_real = (1 / (max(total, 1) * widths) for total in (histogram.generated_all, histogram.real_all))
    generated, generated_error = of_generated * histogram.generated, of_generated * histogram.generated_error
    real, real_error = of_real * histogram.real, of_real * histogram.real_error
    centre = np.sqrt(edges[1:] * edges[:-1]) if _is_log(histogram) else (edges[1:] + edges[:-1]) / 2
    upper.stairs(real, edges, fill=True, color=GREY, alpha=0.35, label="real")
    upper.stairs(real, edges, color=GREY)
    style: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none", "color": COLOURS[2]}
    (points,) = upper.plot(centre, generated, **style, label="generated")
    bars(points, generated - generated_error, generated + generated_error, width=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = generated / real
        error = generated_error / real
        band = real_error / real
    lower.stairs(1 + band, edges, baseline=1 - band, fill=True, color=GREY, alpha=0.35, linewidth=0)
    finite, (low, high) = np.isfinite(ratio), _RATIOS
    (points,) = lower.plot(centre[finite], ratio[finite], **style)
    bars(points, ratio[finite] - error[finite], ratio[finite] + error[finite], width=1)
    for beyond, edge, marker in ((ratio < low, low, "v"), (ratio > high, high, "^")):
        if beyond.any():
            at_edge = np.full(beyond.sum(), edge)
            lower.plot(centre[beyond], at_edge, marker, markersize=5, color=COLOURS[2], clip_on=False, zorder=5)
    lower.axhline(1, color=GREY, linewidth=1)
    lower.set_ylim(low, high)
    upper.set_xlim(edges[0], edges[-1])
    if _is_log(histogram) or histogram.observable in ("particle deta", "particle dphi", "kind"):
        drawn = np.concatenate([generated, real])
        upper.set(yscale="log", ylim=(drawn[drawn > 0].min(initial=1) / 2, None))  # an error may reach to almost 0
    else:
        upper.set_ylim(0, None)
    outside = 1 - histogram.generated.sum() / max(histogram.generated_all, 1)
    if outside >= OUTSIDE:
        upper.set_title(f"{100 * outside:.0f} % of generated outside", loc="right", fontsize=11)


def _set_axes(upper: Axes, lower: Axes, histogram: Histogram) -> None:
    """Set labels and scales of the panel and of its ratio."""
    name = histogram.observable  # "particle pt (photon)": the spectrum of a kind
    kind = name[name.find("(") + 1 : -1] if "(" in name else ""
    upper.tick_params(labelbottom=False)
    title = _AXES[name.partition(" (")[0]]
    lower.set_xlabel(title + (f", {kind}s" if kind else ""))
    upper.set_ylabel(density_label(title))
    lower.set_ylabel("ratio", loc="center")
    if _is_log(histogram):
        upper.set_xscale("log")
    if name == "kind":
        lower.set_xticks(range(len(_KINDS)), _KINDS, fontsize=9)
        lower.minorticks_off()


def _is_log(histogram: Histogram) -> bool:
    return histogram.observable.startswith("particle pt")


def _distance_table(distances: Sequence[Distance], of: str) -> str:
    rows = []
    for entry in distances:
        if entry.of == of:
            unit = "" if entry.unit == "1" else f" [{entry.unit}]"
            value = entry.generated.value
            share = "–" if value is None or not entry.spread > 0 else f"{100 * value / entry.spread:.1f} %"
            rows.append((_name(entry.observable) + unit, _with_error(entry.generated), _with_error(entry.real), share))
    head = ("Wasserstein-1 of", "generated, real", "real, other real (floor)", "share of the spread")
    return page.table(head, rows) + page.paragraph(
        "Wasserstein-1 is the mean distance by which one distribution is moved to become the other, in the unit of the "
        "observable; the last column divides it by the standard deviation of the real ones. Errors are one standard "
        "deviation."
    )


def _name(observable: str) -> str:
    """Return an observable in the symbols of the figures."""
    for plain_name, symbol in (("tau21", "τ₂₁"), ("tau32", "τ₃₂"), ("deta", "Δη"), ("dphi", "Δφ")):
        observable = observable.replace(plain_name, symbol)
    return observable


def _with_error(estimate: Estimate) -> str:
    if estimate.value is None or estimate.high is None:
        return "–"
    return page.with_error(estimate.value, estimate.high - estimate.value)


def _provenance(result: GeneratedEvaluation) -> list[str]:
    sides = [("generated", file) for file in result.generated] + [("real", file) for file in result.real]
    files = [(side, file.name, f"{file.entries:,}", f"{file.bytes:,}") for side, file in sides]
    content = plain(result)
    shown = ("jets", "left_out", "files_left_out", "settings", "versions", "package_version", "date")
    return [
        page.folded("Files of the comparison", page.table(("", "file", "jets", "bytes"), files)),
        page.folded("Settings and versions of the comparison", page.facts({name: content[name] for name in shown})),
    ]
