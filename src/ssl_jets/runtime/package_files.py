"""Folders that come with the package: inside it once installed, at the top of the repository in a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

DEFAULT_MODEL = "small-ssl"
"""Name of the bundled model that `embed` uses if no other is named."""

BUNDLED_FOR = "for anti-kt jets, R = 0.8, 500 < pt < 1000 GeV"
"""Jets that all bundled models were trained on."""


def package_folder(name: str, in_checkout: str) -> Path:
    """Return a folder of data files; it need not exist.

    Args:
        name: its name inside the installed package.
        in_checkout: its name at the top of the repository.

    Example:
        >>> package_folder("sample", "data").name in ("sample", "data")
        True
    """
    installed = Path(str(resources.files("ssl_jets") / name))
    checkout = Path(__file__).resolve().parents[3] / in_checkout
    return installed if installed.is_dir() or not checkout.is_dir() else checkout
