"""The spectra of `data.flatten` in the report of a run: different before, the same after."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from test_run_list import write_run

from ssl_jets.config import FlattenSettings
from ssl_jets.data.loading.spectrum import Spectrum
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
        rows = list(csv.DictReader(file))
    assert [float(row["low"]) for row in rows if row["class"] == "QCD"] == list(edges[:-1])
    for label, name in enumerate(("QCD", "Tbl")):
        of_class = [row for row in rows if row["class"] == name and row["column"] == "jet_pt"]
        np.testing.assert_allclose([float(row["before"]) for row in of_class], before[label], rtol=1e-5)
        np.testing.assert_allclose([float(row["after"]) for row in of_class], 100 * target, rtol=1e-5)
