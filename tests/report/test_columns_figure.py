"""The figure of `inspect --plot`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from ssl_jets.report.figures.columns import draw_columns, short_names


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are closed, to look at."""
    seen: list[Figure] = []
    monkeypatch.setattr(plt, "close", seen.append)
    return seen


def of(histogram: list[int], edges: list[float]) -> SimpleNamespace:
    bins = SimpleNamespace(histogram=histogram, edges=edges)
    return SimpleNamespace(particles=bins, columns={"pt": bins, "deta": bins, "d0": bins})


def test_every_panel_has_its_unit(figures: list[Figure], tmp_path: Path) -> None:
    assert draw_columns({"jets.root": of([1, 3], [0, 1, 2])}, tmp_path / "columns.png") == ""
    (figure,) = figures
    assert [place.get_xlabel() for place in figure.axes] == [
        "particles in a jet",
        r"particle $p_\mathrm{T}$ [GeV]",
        r"particle $\Delta\eta$",
        r"$d_0$ [mm]",
    ]
    assert figure.axes[0].get_ylabel() == "density"


def test_files_of_one_name_are_drawn_as_densities_that_do_not_depend_on_the_bins(
    figures: list[Figure], tmp_path: Path
) -> None:
    samples = {"a/jets.root": of([2, 2, 4, 8], [0, 1, 2, 3, 5]), "b/jets.root": of([20, 60], [0, 2, 5])}
    draw_columns(samples, tmp_path / "columns.png")
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a/jets.root", "b/jets.root"]
    for panel in figures[0].axes[:4]:
        fine, coarse = (patch.get_data() for patch in panel.patches)
        assert fine.values == pytest.approx([2 / 16, 2 / 16, 4 / 16, 4 / 16])
        assert coarse.values == pytest.approx([1 / 8, 1 / 4])
        for drawn in (fine, coarse):
            assert (drawn.values * np.diff(drawn.edges)).sum() == pytest.approx(1)


def test_it_says_which_of_many_files_are_drawn(figures: list[Figure], tmp_path: Path) -> None:
    samples = {f"{index}.root": of([1], [0, 1]) for index in range(12)}
    assert draw_columns(samples, tmp_path / "columns.png") == "the first 10 of 12 files"
    (legend,) = figures[0].legends
    assert legend.get_title().get_text() == "the first 10 of 12 files"
    assert len({patch.get_edgecolor() for patch in figures[0].axes[0].patches}) == 10


def test_names_are_as_short_as_they_may_be() -> None:
    assert short_names(["/x/a.root", "/x/b.root"]) == ["a.root", "b.root"]
    assert short_names(["/x/a/c.root", "/y/a/c.root", "/y/b/c.root"]) == ["x/a/c.root", "y/a/c.root", "y/b/c.root"]
