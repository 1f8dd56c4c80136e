"""Names of inputs, as a user types them, to a list of files."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from ssl_jets.data.readers.registry import FILE_FORMATS, SUFFIXES, has_known_bytes
from ssl_jets.data.readers.remote import check_protocol, is_remote
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.runtime.reading import read_text


@dataclass(frozen=True)
class Source:
    """A file, and the tree (or table) in it where the user named one."""

    path: str
    tree: str | None = None

    def __str__(self) -> str:
        return self.path if self.tree is None else f"{self.path}:{self.tree}"


def resolve_sources(names: Sequence[str], say: Callable[[str], None] = lambda message: None) -> list[Source]:
    """The files meant by `names`, in their order; files of a folder or a pattern are sorted by path.

    A name is a file, a folder (searched with its subfolders for files of a known suffix, or that begin like files of a
    known kind), a pattern (`*`, `?`, `[...]`, `**`), `@list.txt` (one name a line, relative to the working folder;
    empty lines and what follows a `#` are passed over) or `-` (such a list on standard input), or the URL of a file
    (`root://`, `http://`, `https://`). A tree is named behind a colon: `file.root:tree`.

    Args:
        names: as the user gave them.
        say: called with the number of files of a folder that are passed over.

    Raises:
        UsageError: no names, a file that is named twice, a list in a list, a URL whose package is not installed.
        DataError: a file, folder or list that does not exist, or a folder, pattern or list without files.
    """
    sources = [source for name in names for source in _resolve(name, say)]
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


def _resolve(name: str, say: Callable[[str], None]) -> Iterator[Source]:
    if name == "-":
        yield from _resolve_list(sys.stdin.read(), "standard input", say)
    elif name.startswith("@"):
        path = Path(name[1:])
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            raise DataError("the list of files cannot be read", where=path, found=error, allowed=_near(path)) from None
        yield from _resolve_list(text, str(path), say)
    else:
        yield from _resolve_path(name, say)


def _resolve_list(text: str, where: str, say: Callable[[str], None]) -> Iterator[Source]:
    """The files of a list. Messages name its lines by number: it may be any file, and one of secrets."""
    lines = enumerate(text.removeprefix("\ufeff").splitlines(), 1)
    names = [(number, name) for number, line in lines if (name := _without_comment(line.strip()))]
    if not names:
        raise DataError("the list of files is empty", where=where)
    for number, name in names:
        line = f"{where}, line {number}"
        if name == "-" or name.startswith("@"):
            raise UsageError("a list of files names another list", where=line)
        try:
            yield from _resolve_path(name, say)
        except (DataError, UsageError) as error:
            raise type(error)(error.what, where=line, allowed=error.allowed, hint=error.hint) from None


def _without_comment(line: str) -> str:
    """A line without what follows a `#` at its beginning or behind a space, unless a file is called so."""
    if line.startswith("#"):
        return ""
    return line if Path(line).exists() else re.split(r"\s#", line, maxsplit=1)[0].rstrip()


def _resolve_path(name: str, say: Callable[[str], None]) -> Iterator[Source]:
    path, tree = _split_tree(name)
    if is_remote(path):
        check_protocol(path)
        yield Source(path, tree)
        return
    if Path(path).is_dir():
        found = _files_of(Path(path), say)
    elif Path(path).exists():
        found = [path]
    else:
        found = sorted(file for file in glob.glob(path, recursive=True) if Path(file).is_file())
        if not found:
            what = "no file matches the pattern" if glob.has_magic(path) else "there is no such file or folder"
            raise DataError(what, where=path, allowed=_near(Path(path)))
    for file in found:
        yield Source(file, tree)


def _files_of(folder: Path, say: Callable[[str], None]) -> list[str]:
    """The files of a folder and its subfolders that are of a known kind; hidden ones, as unfinished ones are, are not.

    A file of a known suffix is taken unseen, so that a folder of thousands of them is listed and not read.
    """
    found, others = list[str](), list[str]()
    for file in folder.rglob("*"):
        if any(part.startswith(".") for part in file.relative_to(folder).parts) or not file.is_file():
            continue
        known = file.suffix.lower() in SUFFIXES or has_known_bytes(file)
        (found if known else others).append(str(file))
    passed_over = f"{_counted(others)}, such as {Path(min(others)).name}" if others else None
    if not found:
        allowed = [kind.title for kind in FILE_FORMATS]
        raise DataError("the folder has no files of a known format", where=folder, found=passed_over, allowed=allowed)
    if passed_over:
        say(f"{folder}: {passed_over}, of no format that is read: passed over")
    return sorted(found)


def _counted(files: Sequence[str]) -> str:
    return f"{len(files):,} file{'s' if len(files) > 1 else ''}"


def _split_tree(name: str) -> tuple[str, str | None]:
    """`file.root:tree` to its two parts; a path that exists as it stands is never cut."""
    path, colon, tree = name.rpartition(":")
    starts = (name[:at] for at, character in enumerate(name) if character == ":")
    if not Path(name).exists() and (longest := next(filter(lambda start: Path(start).is_file(), starts), None)):
        path, tree = longest, name[len(longest) + 1 :]  # the name of a tree may have colons, too
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
