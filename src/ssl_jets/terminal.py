"""Text on a terminal: control characters are escaped, and characters that the encoding lacks are replaced.

Names of files, columns and classes come from others. With control characters in them they could move the cursor, set
the title of the window, or hide text.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
from typing import TextIO

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tabs and ends of lines; marks of direction; bytes of file names that are no text."""

_ASCII = dict(zip("▁▂▃▄▅▆▇█–━", ".:-=+*#@--"))
"""Bars of histograms and of progress."""

_HANDLER = "ssl_jets.replace"


def escaped(text: object) -> str:
    r"""Return a text with control characters written out.

    >>> escaped("jets\x1b[31m.root")
    'jets\\x1b[31m.root'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def write(text: object, stream: TextIO) -> None:
    """Print a text, with control characters written out."""
    print(escaped(text), file=stream, flush=True)


def prepare() -> None:
    """Let stdout and stderr replace what their encoding lacks, instead of failing."""
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace one character: a bar by one of ASCII, a byte of a file name by itself, any other by its number."""
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # how Python reads a byte of a name that is no UTF-8
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _ASCII.get(character, character.encode("unicode_escape").decode("ascii")), error.start + 1
