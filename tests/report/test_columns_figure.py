"""The figure of `inspect --plot`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from ssl_jets.report.columns import draw_columns


def test_every_panel_has_its_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[str] = []
    close = plt.close

    def look(figure) -> None:
        shown.extend(place.get_xlabel() for place in figure.axes)
        shown.append(figure.axes[0].get_ylabel())
        close(figure)

    monkeypatch.setattr(plt, "close", look)
    bins = SimpleNamespace(histogram=[1, 3], edges=[0.0, 1.0, 2.0])
    sample = SimpleNamespace(particles=bins, columns={"pt": bins, "deta": bins, "d0": bins})
    draw_columns({"jets.root": sample}, tmp_path / "columns.png")
    assert shown == ["particles a jet", "pt [GeV]", "deta", "d0 [mm]", "share"]
