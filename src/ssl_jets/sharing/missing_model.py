"""Error of a path without a model, with the models near it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ssl_jets.errors import SslJetsError, in_shell, nearest

_MOST_FOLDERS = 1000
"""Folders of a folder in which models are looked for."""


def no_model(path: Path, has_model: Callable[[Path], bool], bundled: Collection[str]) -> SslJetsError:
    """Return the error of a path without a model: an unfinished run, or with the models that may be meant.

    Args:
        path: the path.
        has_model: checks whether a folder is a run or a model folder.
        bundled: names of the models that come with the package.
    """
    what = "there is no trained model here"
    if (path / "checkpoints").is_dir():
        hint = f"the command that began this run finishes it, with {in_shell('--out', path)} --resume"
        return SslJetsError(what, where=path, found="a run that has not finished", hint=hint)
    names = [*dict.fromkeys(str(folder) for folder in _near(path) if has_model(folder))]
    if path.name == str(path) and not path.exists():
        names += bundled
    found = "no such folder" if not path.exists() else "no config.json and no model/ in it"
    hint = "ssl-jets pretrain --method mae --out RUN makes one"
    if path.exists() and not names:
        hint += "; --data names jets, --z a z file"
    return SslJetsError(what, where=path, found=found, allowed=nearest(str(path), names) if names else None, hint=hint)


def _near(path: Path) -> Iterator[Path]:
    """Yield the folders around a path: of a file in a run, in a folder of runs, next to a misspelt or moved one."""
    yield from (folder for folder in islice(path.parents, 3) if folder.name)
    if path.is_dir():
        yield from _folders(path)
    elif not path.exists():
        yield from _folders(path.parent)
        if path.name == str(path):
            yield from _folders(Path("runs"))


def _folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (folder / entry.name for entry in islice(entries, _MOST_FOLDERS) if entry.is_dir())
