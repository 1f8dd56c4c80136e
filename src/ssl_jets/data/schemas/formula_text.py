"""Translation of a formula into Python's grammar.

A name in backticks, `` `jet pt` ``, and a name with letters beyond ASCII become placeholders, since Python would refuse
the first and change the second (the micro sign to the Greek letter). C's `&&`, `||` and `!` become `and`,
`or` and `~`; `~` binds as tightly as `!` in C.
"""

from __future__ import annotations

import keyword
import re
from typing import NamedTuple

_TOKEN = re.compile(r"`(?P<quoted>(?:[^`]|``)+)`|(?P<name>[^\W\d]\w*)|(?P<operator>&&|\|\||!(?!=))|(?P<refused>~)")
_OPERATORS = {"&&": " and ", "||": " or ", "!": "~"}
_PLAIN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[\d+\])*", re.ASCII)


class PythonText(NamedTuple):
    """A formula as Python can parse it.

    Attributes:
        text: in ASCII.
        names: placeholder to the name it stands for.
        positions: for each character of `text`, and for its end, the position in the formula it comes from.
    """

    text: str
    names: dict[str, str]
    positions: list[int]


def to_python(formula: str) -> PythonText:
    """Translate a formula: `x && é` becomes `x  and  _name0`.

    Raises:
        ValueError: a `~`.
    """
    stem = "_name"
    while stem in formula:
        stem += "_"
    names: dict[str, str] = {}
    positions: list[int] = []
    text, end = "", 0
    for match in _TOKEN.finditer(formula):
        name, quoted_name, operator = match["name"], match["quoted"], match["operator"]
        if match["refused"]:
            raise ValueError(f"not allowed in a formula: '~' at character {match.start() + 1}")
        if quoted_name or (name and not name.isascii()):
            new = f"{stem}{len(names)}"
            names[new] = quoted_name.replace("``", "`") if quoted_name else name
        else:
            new = _OPERATORS[operator] if operator else match[0]
        text += formula[end : match.start()] + new
        positions += [*range(end, match.start()), *[match.start()] * len(new)]
        end = match.end()
    return PythonText(text + formula[end:], names, [*positions, *range(end, len(formula) + 1)])


def quoted(name: str) -> str:
    """Return the formula that reads the branch `name`: in backticks if the name alone would parse as anything else."""
    plain = _PLAIN.fullmatch(name) and not any(keyword.iskeyword(part) for part in re.split(r"[.\[]", name))
    return name if plain else "`" + name.replace("`", "``") + "`"
