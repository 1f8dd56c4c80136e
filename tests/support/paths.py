"""Folders that tests read from."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
FILES = Path(__file__).with_name("files")
"""Small files in layouts that other programs wrote."""
REAL = Path(__file__).with_name("real")
"""Real files of other formats, cut small; their origin is in the README there."""
NAMES_OF_LIBRARIES = ("https-study", "s3:x", "a::b", "file.root:tree", "w*[1]?", "https:", "memory:x", "~x", "a b#c%20")
"""Names of files and folders that mean something to fsspec, uproot, a shell or a browser."""
