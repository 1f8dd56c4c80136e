"""Look of all figures: the style of mplhep, with sizes for a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import mplhep

_STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.bbox": None,
    "font.size": 13,
    "axes.labelsize": 14,
    "axes.titlesize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.title_fontsize": 12,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.8,
    "axes.linewidth": 1.1,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
}


@contextmanager
def style() -> Iterator[None]:
    """Set the look of mplhep with sizes for a page, for the figures drawn inside."""
    with plt.style.context([mplhep.style.ROOT, _STYLE]):
        yield
