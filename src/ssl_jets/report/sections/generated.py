"""The section of generated against real jets: figures with a ratio below, and every distance beside its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.style import COLOURS, GREY, bars
from ssl_jets.report.folders import GeneratedFolder

Json = Mapping[str, Any]

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
_KINDS = ("charged\nhadron", "neutral\nhadron", "photon", "electron", "muon", "other")


def generated_tiles(metrics: Json) -> str:
    """The headline numbers: the two-sample test, and the distance of three observables in units of their spread."""
    test, floor = metrics["two_sample_test"]["auc"], metrics["two_sample_floor"]["auc"]
    more = f"68 %: {page.interval(test, digits=3)}; real against real {page.number(floor['value'], 3)}"
    entries = [("AUC of trees, generated or real", page.number(test["value"], 3), more)]
    for name, label in (("mass", "mass"), ("particles", "multiplicity"), ("tau21", "tau21")):
        found = next(entry for entry in metrics["distances"] if entry["observable"] == name)
        value, least = (page.significant(found[which]["value"]) for which in ("generated", "real"))
        unit = "" if found["unit"] == "1" else f" {found['unit']}"
        entries.append((f"W1 of {label}", f"{value}{unit}", f"real against real {least}{unit}"))
    return page.tiles(entries)


def generated_sections(found: GeneratedFolder, album: Album) -> list[str]:
    """All sections of a comparison of generated with real jets."""
    metrics, curves = found.metrics, found.curves
    test, floor = metrics["two_sample_test"], metrics["two_sample_floor"]
    return [
        *(page.paragraph(note[0].upper() + note[1:] + ".") for note in metrics["notes"]),
        page.heading("Can trees tell generated from real jets?"),
        page.paragraph(
            f"Boosted trees, fitted on {test['fit_jets']:,} jets, read {len(test['columns'])} observables of "
            f"{test['test_jets']:,} others. An AUC of 0.5 means that they cannot tell the samples apart, 1 that they "
            "always can. An AUC of 0.5 does not prove the samples equal: other observables, more jets, or a better "
            "classifier may find a difference."
        ),
        page.table(
            ("samples", "AUC", "68 %", "95 %"),
            [
                (name, page.number(auc["value"]), page.interval(auc), page.interval(auc, "95"))
                for name, auc in (("generated, real", test["auc"]), ("real, other real", floor["auc"]))
            ],
        ),
        page.heading("Jets"),
        *album.add("generated_jets", lambda: histograms(curves, _JETS)),
        _distance_table(metrics, "jets"),
        page.heading("Particles"),
        *album.add("generated_particles", lambda: histograms(curves, _PARTICLES)),
        *album.add("generated_kinds", lambda: histograms(curves, _kind_spectra(curves))),
        _distance_table(metrics, "particles"),
        *_provenance(metrics),
    ]


def histograms(curves: Json, names: Sequence[str]) -> Figure | None:
    """Densities of generated and real jets, with their ratio below; those of `names` that there are."""
    there = {entry["observable"]: entry for entry in curves["histograms"]}
    shown = [there[name] for name in names if name in there]
    if not shown:
        return None
    columns = 3 if len(shown) != 4 else 2
    rows = -(-len(shown) // columns)
    figure = plt.figure(figsize=(0.4 + 3.9 * columns, 0.3 + 3.9 * rows), layout=ConstrainedLayoutEngine(h_pad=0.01))
    outer = figure.add_gridspec(rows, columns)
    for place, entry in enumerate(shown):
        inner = outer[place // columns, place % columns].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.05)
        upper = figure.add_subplot(inner[0])
        _panel(upper, figure.add_subplot(inner[1], sharex=upper), entry)
        if place == 0:
            upper.legend(frameon=False, loc="best")
    return figure


def _panel(upper: Axes, lower: Axes, entry: Json) -> None:
    """One observable: real jets as a grey area, generated ones as points; below, generated over real."""
    edges = np.array(entry["edges"], float)
    generated, made_error = _density(entry, "generated", edges)
    real, real_error = _density(entry, "real", edges)
    centre = np.sqrt(edges[1:] * edges[:-1]) if _is_log(entry) else (edges[1:] + edges[:-1]) / 2
    upper.stairs(real, edges, fill=True, color=GREY, alpha=0.35, label="real")
    upper.stairs(real, edges, color=GREY)
    style: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none", "color": COLOURS[2]}
    (points,) = upper.plot(centre, generated, **style, label="generated")
    bars(points, generated - made_error, generated + made_error, "Poisson error", width=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, error, band = generated / real, made_error / real, real_error / real
    lower.stairs(1 + band, edges, baseline=1 - band, fill=True, color=GREY, alpha=0.35, linewidth=0, label="_real")
    there, (low, high) = np.isfinite(ratio), _RATIOS
    (points,) = lower.plot(centre[there], ratio[there], **style, label="_generated / real")
    bars(points, ratio[there] - error[there], ratio[there] + error[there], "Poisson error", width=1)
    for beyond, edge, marker in ((ratio < low, low, "v"), (ratio > high, high, "^")):
        if beyond.any():
            place = np.full(beyond.sum(), edge)
            lower.plot(centre[beyond], place, marker, markersize=5, color=COLOURS[2], clip_on=False, zorder=5)
    lower.axhline(1, color=GREY, linewidth=1)
    lower.set_ylim(low, high)
    upper.tick_params(labelbottom=False)
    name = entry["observable"]
    kind = name[name.find("(") + 1 : -1] if "(" in name else ""
    lower.set_xlabel(_AXES[name.partition(" (")[0]] + (f", {kind}s" if kind else ""))
    upper.set_label(f"{name}, density")
    lower.set_label(f"{name}, ratio")
    upper.set_ylabel("density")
    lower.set_ylabel("ratio", loc="center")
    upper.set_xlim(edges[0], edges[-1])
    if _is_log(entry):
        upper.set(xscale="log", yscale="log")
    elif name in ("particle deta", "particle dphi", "kind"):
        upper.set_yscale("log")
    else:
        upper.set_ylim(0, None)
    if name == "kind":
        lower.set_xticks(range(len(_KINDS)), _KINDS, fontsize=9)
        lower.minorticks_off()


def _density(entry: Json, which: str, edges: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Entries per unit of the observable, as a share of all, and their Poisson errors."""
    counts = np.array(entry[which], float)
    scale = 1 / (max(entry[f"{which}_all"], 1) * np.diff(edges))
    return counts * scale, np.sqrt(counts) * scale


def _is_log(entry: Json) -> bool:
    return str(entry["observable"]).startswith("particle pt")


def _kind_spectra(curves: Json) -> list[str]:
    return [entry["observable"] for entry in curves["histograms"] if entry["observable"].startswith("particle pt (")]


def _distance_table(metrics: Json, of: str) -> str:
    rows = []
    for entry in metrics["distances"]:
        if entry["of"] == of:
            unit = "" if entry["unit"] == "1" else f" [{entry['unit']}]"
            value, spread = entry["generated"]["value"], entry["spread"]
            share = f"{100 * value / spread:.1f} %" if value is not None and spread else "–"
            cells = [_with_error(entry[which]) for which in ("generated", "real")]
            rows.append((entry["observable"] + unit, *cells, share))
    return page.table(("Wasserstein-1 of", "generated, real", "real, other real (floor)", "of the spread"), rows)


def _with_error(estimate: Json) -> str:
    if estimate["value"] is None:
        return "–"
    return f"{page.significant(estimate['value'])} ± {page.significant(estimate['high'] - estimate['value'], 2)}"


def _provenance(metrics: Json) -> list[str]:
    files = [
        (which, file["name"], f"{file['entries']:,}", f"{file['bytes']:,}")
        for which in ("generated", "real")
        for file in metrics[which]
    ]
    shown = ("jets", "left_out", "files_left_out", "settings", "versions", "package_version", "date")
    made = {key: metrics[key] for key in shown if key in metrics}
    return [
        page.folded("Files of the comparison", page.table(("", "file", "jets", "bytes"), files)),
        page.folded("Settings and versions of the comparison", page.facts(made)),
    ]
