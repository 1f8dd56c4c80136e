"""What lies in a run folder beside its training and evaluations: generated jets, and the results of protocols."""

from __future__ import annotations

from pathlib import Path

from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.domain import domain_sections, domain_tiles
from ssl_jets.report.folders import comparisons_in, protocols_in
from ssl_jets.report.generated import generated_sections, generated_tiles
from ssl_jets.report.label import label_of
from ssl_jets.report.protocols import anomaly_sections, label_sections

PROTOCOLS = {
    "labels": ("Label curves", label_sections),
    "anomaly": ("Search for anomalies", anomaly_sections),
    "domain": ("Simulation and data", lambda metrics, album: [domain_tiles(metrics), *domain_sections(metrics, album)]),
}
"""Title and sections of each protocol whose results `KIND.json` are shown."""


def inside(run: Path, figures: Path, of: str = "") -> list[str]:
    """One part of the page for each.

    Args:
        run: the run folder.
        figures: folder for the figures.
        of: name of the run, on a page of several.
    """
    prefix, whose = (f"{of}-", f", {of}") if of else ("", "")
    body = []
    for made in comparisons_in(run):
        album = Album(figures, f"{prefix}{made.folder.name}-", label_of(made.metrics))
        sections = [generated_tiles(made.metrics), *generated_sections(made, album)]
        body.append(page.part(f"Generated jets: {made.folder.name}{whose}", sections))
    for name, kind, metrics in protocols_in(run, PROTOCOLS):
        title, sections_of = PROTOCOLS[kind]
        named = "" if name == kind else f": {name}"
        album = Album(figures, f"{prefix}{name}-", label_of(metrics))
        body.append(page.part(f"{title}{named}{whose}", sections_of(metrics, album)))
    return body
