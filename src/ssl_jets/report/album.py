"""Figures of a report: drawn, written beside it with their numbers, and embedded in the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ssl_jets.evaluation.settings import FigureSettings
from ssl_jets.report import page
from ssl_jets.report.captions import caption
from ssl_jets.report.figures.label import draw_label
from ssl_jets.report.figures.look import style
from ssl_jets.report.numbers import csv_of
from ssl_jets.runtime.atomic import write_bytes

PIXELS = 92
"""Pixels of CSS for an inch of a figure: letters of figures and of the text have one size."""


class Album:
    """Draws figures, writes each as PNG and PDF and its numbers as CSV to a folder, and embeds them in the page."""

    def __init__(self, folder: Path, prefix: str = "", label: FigureSettings = FigureSettings()) -> None:
        self.folder, self.prefix, self.label = folder, prefix, label

    def add(
        self, name: str, draw: Callable[[], Figure | None], numbers: Iterable[object], **values: object
    ) -> list[str]:
        """Draw and write a figure, and return it as HTML with its caption; nothing without a figure.

        `numbers` are the rows of its CSV, results or mappings; `values` fill in its caption.
        """
        with style():
            figure = draw()
            if figure is None:
                for suffix in ("png", "pdf", "csv"):  # of an earlier report
                    (self.folder / f"{self.prefix}{name}.{suffix}").unlink(missing_ok=True)
                return []
            draw_label(figure, self.label)
            png = _saved(figure, "png", {"Software": None})
            files = {
                "pdf": ("application/pdf", _saved(figure, "pdf", {"Creator": None, "CreationDate": None})),
                "csv": ("text/csv", csv_of(numbers).encode()),
            }
            width = round(PIXELS * figure.get_figwidth())
            plt.close(figure)
        stem = f"{self.prefix}{name}"
        downloads = {f"{stem}.{suffix}": entry for suffix, entry in files.items()}
        for file, data in {f"{stem}.png": png, **{file: data for file, (_, data) in downloads.items()}}.items():
            write_bytes(self.folder / file, data)
        return [page.picture(png, width, *caption(name, **values), downloads)]


def _saved(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()
