"""Input files from the names that a user types."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ssl_jets.data.readers.registry import FILE_FORMATS, SUFFIXES, has_known_bytes
from ssl_jets.data.readers.remote import check_protocol, is_remote
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.runtime.package_files import package_folder
from ssl_jets.runtime.reading import read_text


@dataclass(frozen=True)
class Source:
    """A file, and the tree (or table) in it if the user named one."""

    path: str
    tree: str | None = None

    def __str__(self) -> str:
        return self.path if self.tree is None else f"{self.path}:{self.tree}"

    @property
    def key(self) -> tuple[str, str | None]:
        """Real path and tree, the same for all names of the file."""
        return self.path if is_remote(self.path) else os.path.realpath(self.path), self.tree


def resolve_sources(names: Sequence[str], log: Callable[[str], None] = lambda message: None) -> list[Source]:
    """Return the files of `names`, in their order; files of a folder or a pattern are sorted by path.

    A name is a file, a folder (searched with its subfolders, linked ones too, for files with the suffix or the first
    bytes of a known format), a pattern (`*`, `?`, `[...]`, `**`), `@list.txt` (one name a line, relative to the working
    folder; empty lines and comments after a `#` are ignored) or `-` (such a list on standard input), or the URL of a
    file (`root://`, `http://`, `https://`). A tree is named after a colon: `file.root:tree`.

    Raises:
        UsageError: no names, a file that is named twice, a list in a list, a URL without its package.
        DataError: a file, folder or list that does not exist, a folder that cannot be read, or a folder, pattern or
            list without files. A link to a file that is gone is a source; opening it fails.
    """
    sources = [source for name in names for source in _resolve(name, log)]
    if not sources:
        raise UsageError("no input files are named", hint="--data FILE, a folder, a pattern, @list.txt or -")
    _refuse_duplicates(sources)
    return sources


def sample_sources() -> list[Source]:
    """Return the sample that comes with the package: about a thousand jets of each of ten classes.

    Raises:
        DataError: the sample is not installed.
    """
    folder = package_folder("sample", "data")
    files = sorted(folder.glob("*.root"))
    if files:
        return [Source(str(file)) for file in files]
    raise DataError("the bundled sample is missing", where=folder, hint="name your own files: --data FILE")


def _resolve(name: str, log: Callable[[str], None]) -> Iterator[Source]:
    if name == "-":
        yield from _resolve_list(sys.stdin.read(), "standard input", log)
    elif name.startswith("@"):
        path = Path(name[1:])
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            found = error.strerror if isinstance(error, OSError) else error
            raise DataError("the list of files cannot be read", where=path, found=found, allowed=_near(path)) from None
        yield from _resolve_list(text, str(path), log)
    else:
        yield from _resolve_path(name, log)


def _resolve_list(text: str, where: str, log: Callable[[str], None]) -> Iterator[Source]:
    """Yield the files of a list. Messages show line numbers and not lines: the list may be a file of secrets."""
    lines = enumerate(text.removeprefix("\ufeff").splitlines(), 1)
    names = [(number, name) for number, line in lines if (name := _without_comment(line.strip()))]
    if not names:
        raise DataError("the list of files is empty", where=where)
    for number, name in names:
        line = f"{where}, line {number}"
        if name == "-" or name.startswith("@"):
            raise UsageError("a list of files names another list", where=line)
        try:
            yield from _resolve_path(name, log)
        except (DataError, UsageError) as error:
            raise type(error)(error.what, where=line, allowed=error.allowed, hint=error.hint) from None


def _without_comment(line: str) -> str:
    """Remove a comment, from a `#` at the beginning or after a space, unless the line is the name of a file."""
    if line.startswith("#"):
        return ""
    return line if os.path.exists(line) else re.split(r"\s#", line, maxsplit=1)[0].rstrip()


def _resolve_path(name: str, log: Callable[[str], None]) -> Iterator[Source]:
    path, tree = _split_tree(name)
    if is_remote(path):
        check_protocol(path)
        yield Source(path, tree)
        return
    if os.path.isdir(path):
        files = _files_of(Path(path), log)
    elif os.path.exists(path):
        files = [path]
    else:
        files = sorted(file for file in glob.glob(path, recursive=True) if _is_file(file))
        if not files:
            what = "no file matches the pattern" if glob.has_magic(path) else "there is no such file or folder"
            raise DataError(what, where=path, found=_trouble(path), allowed=_near(Path(path)))
    for file in files:
        yield Source(file, tree)


def _files_of(folder: Path, log: Callable[[str], None]) -> list[str]:
    """Return the files of a folder and its subfolders that have a known format, without hidden (unfinished) ones.

    A file with a known suffix is not opened, so that a folder of thousands of them is listed quickly.
    """
    files, others = list[str](), list[str]()
    for file in filter(_is_file, _below(folder)):
        known = file.suffix.lower() in SUFFIXES or has_known_bytes(file)
        (files if known else others).append(str(file))
    passed_over = None
    if others:
        passed_over = f"{len(others):,} file{'s' if len(others) > 1 else ''}, such as {Path(min(others)).name}"
    if not files:
        allowed = [file_format.title for file_format in FILE_FORMATS]
        raise DataError("the folder has no files of a known format", where=folder, found=passed_over, allowed=allowed)
    if passed_over:
        log(f"{folder}: {passed_over}, of no format that is read: passed over")
    return sorted(files)


def _below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are not hidden, each subfolder once, however many links lead to it.

    Raises:
        DataError: a subfolder cannot be read.
    """
    seen, links = set[str](), [str(folder)]
    while links:  # linked folders last: one that is also there without a link is named without it
        for root, folders, names in os.walk(links.pop(0), onerror=_refuse_unreadable):
            real = os.path.realpath(root)
            folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
            links += [path for path in (os.path.join(root, name) for name in folders) if os.path.islink(path)]
            yield from (Path(root, name) for name in names if real not in seen and not name.startswith("."))
            seen.add(real)


def _refuse_unreadable(error: OSError) -> None:
    what = "a folder cannot be read, so its files would be missing"
    raise DataError(what, where=error.filename, found=error.strerror) from error


def _is_file(path: str | Path) -> bool:
    """Check for a file, or a link to one that is gone: the message about it comes when it is opened."""
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _split_tree(name: str) -> tuple[str, str | None]:
    """Split `file.root:tree` into file and tree; a path that exists as it is typed is never split."""
    path, colon, tree = name.rpartition(":")
    starts = (name[:at] for at, character in enumerate(name) if character == ":")
    if not os.path.exists(name) and (longest := next(filter(os.path.isfile, starts), None)):
        path, tree = longest, name[len(longest) + 1 :]  # the name of a tree may have colons, too
    if not colon or os.path.exists(name) or (is_remote(name) and "/" in tree):  # root://host:1094//file.root
        return name, None
    if not path or not tree:
        raise UsageError("a tree is named as FILE:TREE", where=name)
    return path, tree


def _trouble(path: str) -> str | None:
    """Return the reason for which a path cannot be looked up; None for one that is not there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return error.strerror if isinstance(error, OSError) else str(error)
    return None


def _near(path: Path) -> list[str] | None:
    """Return the names nearest to a missing file in its folder, or to the folder if that is missing too."""
    # jets/QCD.rot -> jets/QCD.root; jts/QCD.root -> jets
    missing = path.name
    for folder in path.parents:
        if os.path.isdir(folder):
            names = [name for name in _names_in(folder) if not name.startswith(".")]
            alike = nearest(missing, names) if missing == path.name else get_close_matches(missing, names)
            return [str(folder / name) for name in alike] or None
        missing = folder.name
    return None


def _names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none if it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _refuse_duplicates(sources: Sequence[Source]) -> None:
    seen: dict[tuple[str, str | None], Source] = {}
    for source in sources:
        if (first := seen.setdefault(source.key, source)) is not source:
            raise UsageError(
                "a file is named twice, so its jets would count twice", where=source, found=f"also as {first}"
            )
