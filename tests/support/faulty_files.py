"""Ways in which a file goes bad."""

from __future__ import annotations

from pathlib import Path

import uproot


def truncate(path: Path) -> None:
    """Cut off all but the beginning: the file cannot be opened."""
    path.write_bytes(path.read_bytes()[:5000])


def spoil_baskets(path: Path) -> None:
    """Overwrite the compressed data, and leave header, directory and the description of the tree as they are."""
    content = bytearray(path.read_bytes())
    content[1000 : len(content) // 3] = bytes(len(content) // 3 - 1000)
    path.write_bytes(content)


def remove(path: Path) -> None:
    """Take the file away."""
    path.unlink()


def spoil_basket(path: Path, branch: str, number: int) -> None:
    """Overwrite the compressed contents of one basket of a branch: all else can be read."""
    with uproot.open(path) as file:
        start = file["tree"][branch].member("fBasketSeek")[number]
        length = file["tree"][branch].member("fBasketBytes")[number]
    content, half = bytearray(path.read_bytes()), length // 2
    content[start + half : start + length] = bytes(length - half)
    path.write_bytes(content)
