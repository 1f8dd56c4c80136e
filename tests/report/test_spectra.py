"""The spectra of `data.flatten` in the report of a run: different before, the same after."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from ssl_jets.data.spectrum import Spectrum
from test_run_list import write_run

from ssl_jets.config import FlattenSettings
from ssl_jets.report import write_run_report


def test_the_report_of_a_run_draws_its_spectra_before_and_after(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=4, losses={4: 2.0}, finished=False)
    edges = (500.0, 600.0, 700.0, 1000.0)
    before = np.array([[60.0, 30.0, 10.0], [20.0, 30.0, 50.0]])
    target = np.diff(edges) / 500
    factors = 100 * target / before
    settings = FlattenSettings(by=("jet_pt",), bins=(edges,))
    spectrum = Spectrum(settings, ("QCD", "Tbl"), before, target, factors, 3, 203)
    (run / "flatten.json").write_text(json.dumps(spectrum.facts()))
    page = write_run_report(run).read_text(encoding="utf-8")
    for name, share in spectrum.effective().items():
        assert f"{name} {share:.0%}" in page
    (path,) = run.rglob("spectra.csv")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["y"]]
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["panel"], row["series"]), []).append(float(row["y"]))
    densities = found
    for label, name in enumerate(("QCD", "Tbl")):
        np.testing.assert_allclose(densities["1: before", name], before[label] / 100 / np.diff(edges), rtol=1e-5)
        np.testing.assert_allclose(densities["2: after", name], 1 / 500, rtol=1e-5)
