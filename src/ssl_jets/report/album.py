"""Figures of a report: drawn, written beside it with their numbers, and embedded in the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ssl_jets.evaluation.settings import FigureSettings
from ssl_jets.report import page
from ssl_jets.report.captions import caption
from ssl_jets.report.figures.label import draw_label
from ssl_jets.report.figures.look import style
from ssl_jets.report.numbers import csv_of
from ssl_jets.runtime.atomic import write_bytes, write_text

_NO_LABEL = FigureSettings()

PIXELS = 92
"""Pixels of CSS for an inch of a figure: letters of figures and of the text have one size."""


class Album:
    """Draws figures, writes each as PNG and PDF and its numbers as CSV to a folder, and embeds them in the page.

    Args:
        folder: for the files.
        prefix: of their names.
        label: settings of the line above each figure.
    """

    def __init__(self, folder: Path, prefix: str = "", label: FigureSettings = _NO_LABEL) -> None:
        self.folder, self.prefix, self.label = folder, prefix, label

    def add(self, name: str, draw: Callable[[], Figure | None], **values: object) -> list[str]:
        """Draw and write a figure, and return it as HTML with its caption; nothing without a figure."""
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
                "csv": ("text/csv", csv_of(figure).encode()),
            }
            width = round(PIXELS * figure.get_figwidth())
            plt.close(figure)
        stem = f"{self.prefix}{name}"
        downloads = {f"{stem}.{suffix}": entry for suffix, entry in files.items()}
        for file, data in {f"{stem}.png": png, **{file: data for file, (_, data) in downloads.items()}}.items():
            write_bytes(self.folder / file, data)
        return [page.picture(png, width, *caption(name, **values), downloads)]

    def table(self, name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
        """Write a table that is too large for the page as CSV beside the figures, and name it on the page."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([head, *rows])
        path = self.folder / f"{self.prefix}{name}.csv"
        write_text(path, stream.getvalue())
        return [page.paragraph(f"The whole matrix is in {self.folder.name}/{path.name}.")]


def _saved(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()
