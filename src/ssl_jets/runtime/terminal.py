"""Text on stdout and stderr: escaped control characters, replaced characters, streams whose reader has ended.

Names of files, columns and classes are untrusted: control characters in them could move the cursor, set the title of
the window, or hide text. The reader of a stream may end (`ssl-jets ... 2>&1 | head -1`), and a stream may be closed
(`2>&-`): messages and progress are then dropped, and the work continues. A result without a reader is an error.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline; marks of text direction; bytes of file names that are not UTF-8."""

_ASCII = dict(zip("▁▂▃▄▅▆▇█–━", ".:-=+*#@--"))
"""ASCII replacements of the bars of histograms and progress."""

_PIPE_WIDTH = 10_000
"""Width of tables that are not printed to a terminal: no cell is broken."""

_HANDLER = "ssl_jets.replace"


def escaped(text: object) -> str:
    r"""Return a text with control characters written out.

    >>> escaped("jets\x1b[31m.root")
    'jets\\x1b[31m.root'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def by_reason(counts: Mapping[str, int]) -> str:
    """Format numbers by their reason.

    >>> by_reason({"no particles": 1030, "pt is zero": 2})
    '1,030 (no particles), 2 (pt is zero)'
    """
    return ", ".join(f"{number:,} ({reason})" for reason, number in counts.items())


def stdout_width() -> int | None:
    """Return the columns of the terminal on stdout; None for a pipe or a file, which have no width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def folded(text: str, *, prose: bool = False) -> str:
    """Break lines between words to the terminal on stdout; in a pipe they stay whole.

    Further lines are indented as the first, or below its second column. Lines of `prose` that are not indented are
    paragraphs, joined first.
    """
    width = stdout_width()
    if width is None:
        return text
    if prose:
        text = re.sub(r"(?m)^(\S.*)\n(?=[\w`(])", r"\1 ", text)
    lines = []
    for line in text.splitlines():
        column = len(line) - len(re.sub(r"^ *(\S+ {2,})?", "", line))
        indent = " " * (column if column < width / 2 else 0)
        wrap = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        lines += wrap.wrap(line) or [""]
    return "\n".join(lines)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table for the terminal, with rich; in a pipe as plain text of any width.

    >>> print(plain_table(("reader", "accuracy"), [("kNN", "0.41"), ("linear", "0.52")]))
    reader  accuracy
    kNN     0.41
    linear  0.52
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    in_terminal = sys.stdout.isatty()
    console = Console(file=io.StringIO(), width=None if in_terminal else _PIPE_WIDTH, force_terminal=in_terminal)
    cells = [list(row) for row in rows]
    if _width([head, *cells]) > console.width:  # an interval stands below its number, whole
        cells = [[cell.replace("  ", "\n") for cell in row] for row in cells]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title, width in zip(head, _widths([head, *cells], console.width)):
        table.add_column(Text(title), width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int | None]:
    """Return widths of columns that break no word, nor an interval if they can; None where they cannot be kept.

    The first column is of names and stays whole, too. Further room goes to the columns that lack most.
    """
    columns = [[line for cell in column for line in cell.split("\n")] for column in zip(*rows)]
    natural = [max(map(len, column)) for column in columns]
    words = [max(len(word) for line in column for word in line.split(" ")) for column in columns]
    whole = [
        most if number == 0 or any(" to " in line for line in column) else least
        for number, (column, most, least) in enumerate(zip(columns, natural, words))
    ]
    fitting = [least for least in (whole, words) if sum(least) + 2 * len(columns) - 2 <= width]
    if not fitting:
        return [None] * len(columns)
    widths = list(fitting[0])
    for _ in range(min(width - sum(widths) - 2 * len(columns) + 2, sum(natural) - sum(widths))):
        lacking = [most - given for most, given in zip(natural, widths)]
        widths[lacking.index(max(lacking))] += 1
    return list(widths)


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return the width of a table whose cells are not broken."""
    return sum(2 + max(map(len, column)) for column in zip(*rows)) - 2


def write(text: object, stream: TextIO) -> None:
    """Print a text, with control characters written out."""
    print(escaped(text), file=stream, flush=True)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace one character: a bar by ASCII, a byte of a file name by itself, any other by its escape sequence."""
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # surrogate of a byte that is not UTF-8
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _ASCII.get(character, character.encode("unicode_escape").decode("ascii")), error.start + 1


class ReaderEndedError(Exception):
    """Error: the reader of stdout has ended. Not a `BrokenPipeError`, for which click exits with code 1."""


class Outlet:
    """Text stream that drops its text after a failed write.

    Args:
        stream: the stream to write to.
        needed: raise the error of the first failed write.
    """

    def __init__(self, stream: TextIO, *, needed: bool) -> None:
        self._stream, self._needed = stream, needed

    def write(self, text: str) -> int:
        """Write text."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Redirect the descriptor to the null device, so that later writes and the last flush at exit do not fail."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        if self._needed:
            if isinstance(error, BrokenPipeError):
                raise ReaderEndedError
            raise OSError(error.errno, error.strerror, "stdout")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Replace stdout and stderr by outlets while a command runs."""
    before = sys.stdout, sys.stderr
    codecs.register_error(_HANDLER, _replace)
    # Closed streams are opened in this order to occupy the descriptors 0 to 2, which an output file must not get.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    out = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    err = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
    sys.stdout, sys.stderr = Outlet(out, needed=True), Outlet(err, needed=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
