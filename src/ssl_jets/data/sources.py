"""Names of inputs, as a user types them, to a list of files."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from ssl_jets.data.readers import SUFFIXES
from ssl_jets.data.remote import check_protocol, is_remote
from ssl_jets.errors import DataError, UsageError, nearest


@dataclass(frozen=True)
class Source:
    """A file, and the tree (or table) in it where the user named one."""

    path: str
    tree: str | None = None

    def __str__(self) -> str:
        return self.path if self.tree is None else f"{self.path}:{self.tree}"


def resolve_sources(names: Sequence[str]) -> list[Source]:
    """The files meant by `names`, in their order; files of a folder or a pattern are sorted by path.

    A name is a file, a folder (searched with its subfolders for files of a known suffix), a pattern (`*`, `?`, `[...]`,
    `**`), `@list.txt` (one name a line, relative to the working folder; empty lines and lines with `#` in front are
    passed over) or `-` (such a list on standard input), or the URL of a file (`root://`, `http://`, `https://`). A tree
    is named behind a colon: `file.root:tree`.

    Raises:
        UsageError: no names, a file that is named twice, a list in a list, a URL whose package is not installed.
        DataError: a file, folder or list that does not exist, or a folder, pattern or list without files.
    """
    sources = [source for name in names for source in _resolve(name)]
    if not sources:
        raise UsageError("no input files are named", hint="--data FILE, a folder, a pattern, @list.txt or -")
    _refuse_duplicates(sources)
    return sources


def sample_sources() -> list[Source]:
    """The sample that comes with the package: about a thousand jets of each of ten classes.

    Raises:
        DataError: the sample is not installed.
    """
    installed = Path(str(resources.files("ssl_jets") / "sample"))
    checkout = Path(__file__).resolve().parents[3] / "data"
    for folder in (installed, checkout):
        files = sorted(folder.glob("*.root"))
        if files:
            return [Source(str(file)) for file in files]
    raise DataError("the bundled sample is missing", where=installed, hint="name your own files: --data FILE")


def _resolve(name: str) -> Iterator[Source]:
    if name == "-":
        yield from _resolve_list(sys.stdin, "standard input")
    elif name.startswith("@"):
        path = Path(name[1:])
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError("the list of files cannot be read", where=path, found=error, allowed=_near(path)) from None
        yield from _resolve_list(lines, str(path))
    else:
        yield from _resolve_path(name)


def _resolve_list(lines: Iterable[str], where: str) -> Iterator[Source]:
    names = [line.strip() for line in lines]
    names = [name for name in names if name and not name.startswith("#")]
    if not names:
        raise DataError("the list of files is empty", where=where)
    for name in names:
        if name == "-" or name.startswith("@"):
            raise UsageError("a list of files names another list", where=where, found=name)
        yield from _resolve_path(name)


def _resolve_path(name: str) -> Iterator[Source]:
    path, tree = _split_tree(name)
    if is_remote(path):
        check_protocol(path)
        yield Source(path, tree)
        return
    if Path(path).is_dir():
        found = sorted(str(file) for file in Path(path).rglob("*") if _is_input(file, Path(path)))
        if not found:
            raise DataError("the folder has no files of a known format", where=path, allowed=SUFFIXES)
    elif Path(path).exists():
        found = [path]
    else:
        found = sorted(file for file in glob.glob(path, recursive=True) if Path(file).is_file())
        if not found:
            what = "no file matches the pattern" if glob.has_magic(path) else "there is no such file or folder"
            raise DataError(what, where=path, allowed=_near(Path(path)))
    for file in found:
        yield Source(file, tree)


def _is_input(file: Path, folder: Path) -> bool:
    """Whether a file found in a folder is meant: one of a known suffix, and not hidden, as unfinished ones are."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in SUFFIXES and file.is_file()


def _split_tree(name: str) -> tuple[str, str | None]:
    """`file.root:tree` to its two parts; a path that exists as it stands is never cut."""
    path, colon, tree = name.rpartition(":")
    if not colon or Path(name).exists() or (is_remote(name) and "/" in tree):  # root://host:1094//file.root
        return name, None
    if not path or not tree:
        raise UsageError("a tree is named as FILE:TREE", where=name)
    return path, tree


def _near(path: Path) -> list[str] | None:
    """What stands beside a missing file, the most alike first; where its folder is missing too, names like it."""
    missing = path.name
    for folder in path.parents:
        if folder.is_dir():
            names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
            alike = nearest(missing, names) if missing == path.name else get_close_matches(missing, names)
            return [str(folder / name) for name in alike] or None
        missing = folder.name
    return None


def _refuse_duplicates(sources: Sequence[Source]) -> None:
    seen: dict[tuple[Path | str, str | None], Source] = {}
    for source in sources:
        key = (source.path if is_remote(source.path) else Path(source.path).resolve(), source.tree)
        if key in seen:
            raise UsageError(
                "a file is named twice, so its jets would count twice", where=source, found=f"also as {seen[key]}"
            )
        seen[key] = source
