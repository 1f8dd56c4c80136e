"""One self-contained HTML page: inline CSS, figures as base64, no script, no network."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from importlib import resources
from typing import Any

from ssl_jets.errors import some_of
from ssl_jets.evaluation.metrics.bootstrap import Estimate


def page(title: str, subtitle: str, body: Iterable[str], footer: str) -> str:
    """Return the whole page, with its contents at the top; `body` is HTML."""
    contents, text = _with_contents("\n".join(body))
    css = (resources.files("ssl_jets.report") / "style.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{css}</style>",
            "</head>",
            "<body>",
            f'<header><h1>{escape(title)}</h1><p class="soft">{_unbroken(escape(subtitle))}</p></header>',
            contents,
            text,
            f"<footer>{escape(footer)}</footer>",
            "</body>",
            "</html>\n",
        ]
    )


def _unbroken(text: str) -> str:
    """Keep dates on one line."""
    return re.sub(r"\d{4}-\d\d-\d\d", r'<span class="whole">\g<0></span>', text)


def _text(text: str) -> str:
    """Escape plain text; the index of an efficiency ε_S or ε_B is written below the line."""
    return re.sub(r"ε_([SB])", r"ε<sub>\1</sub>", escape(text))


def heading(text: str) -> str:
    """Return a section heading."""
    return f"<h2>{escape(text)}</h2>"


def part(title: str, body: Iterable[str]) -> str:
    """Return sections under one title, which alone is in the contents."""
    return heading(title) + "\n".join(body).replace("<h2>", "<h3>").replace("</h2>", "</h3>")


def _with_contents(body: str) -> tuple[str, str]:
    """Return links to the sections, and the body with their anchors; no links for a page of one section."""
    titles = re.findall(r"<h2>(.*?)</h2>", body)
    numbers = iter(range(1, len(titles) + 1))
    anchored = re.sub(r"<h2>", lambda _: f'<h2 id="s{next(numbers)}">', body)
    links = "".join(f'<a href="#s{number}">{title}</a>' for number, title in enumerate(titles, start=1))
    return f'<nav aria-label="Contents">{links}</nav>' if len(titles) > 1 else "", anchored


def warning(text: str) -> str:
    """Return a paragraph of plain text in a box."""
    return f'<p class="warning" role="alert">{escape(text)}</p>'


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{_text(text)}</p>"


def lead(text: str) -> str:
    """Return the sentence at the top of a page, of plain text."""
    return f'<p class="lead">{escape(text)}</p>'


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return the headline numbers: name, value, and a line below it."""
    shown = [
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
        for name, value, more in entries
    ]
    return f'<div class="tiles">{"".join(shown)}</div>' if shown else ""


_PHONE = 520
"""Widest figure in pixels of CSS that is readable when scaled to the screen of a phone."""

_SIGN = '<p class="sign" aria-hidden="true">↔ swipe the figure sideways</p>'
"""Shown below a figure that is wider than the screen of a phone."""


def picture(png: bytes, width: int, alt: str, caption: str, downloads: Mapping[str, tuple[str, bytes]]) -> str:
    """Return a figure, at most `width` pixels of CSS wide, with its caption and downloads."""
    links = " ".join(
        f'<a download="{escape(name)}" href="{_inline(kind, data)}">{escape(name.rpartition(".")[2].upper())}</a>'
        for name, (kind, data) in downloads.items()
    )
    box, sign = ('<div class="scroll">', _SIGN) if width > _PHONE else ("<div>", "")
    return (
        f'<figure>{box}<img width="{width}" alt="{escape(alt)}" src="{_inline("image/png", png)}"></div>{sign}'
        f'<figcaption>{escape(caption)} <span class="saves">{links}</span></figcaption></figure>'
    )


def _inline(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table that scrolls sideways if it is wider than the screen; no head row if `head` is empty."""
    cells = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    top = f"<thead><tr>{cells}</tr></thead>" if head else ""
    return f'<div class="table"><table{f" class={kind}" if kind else ""}>{top}<tbody>{body}</tbody></table></div>'


_MOST_ENTRIES = 100
"""Entries of a list that a table of facts shows."""


def facts(values: Mapping[str, Any]) -> str:
    """Return a table of name and value, one a line; nested names are joined with dots."""
    return table((), flatten(values), "facts")


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten `{"a": {"b": 1}}` to `[("a.b", "1")]`; lists of lists, such as of files, to `a.root 100, b.root 200`.

    Of a list with thousands of files the first ones are shown.
    """
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            rows.append((f"{prefix}{name}", some_of([_entry(entry) for entry in value], _MOST_ENTRIES) or "none"))
        else:
            rows.append((f"{prefix}{name}", "not set" if value is None else str(value)))
    return rows


def _entry(entry: object) -> str:
    return " ".join(map(str, entry)) if isinstance(entry, list) else str(entry)


def folded(summary: str, *body: str) -> str:
    """Return a summary that opens to `body`."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(body)}</details>"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed number of digits behind the point; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of significant digits and no exponent; a dash for None.

    >>> [significant(value) for value in (0.1, 4, 123.4, 12345)]
    ['0.100', '4.00', '123', '12,300']
    """
    if value is None:
        return "–"
    rounded = Decimal(f"{value:#.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:f}"


def with_error(value: float | None, error: float | None) -> str:
    """Return a value and its error to two significant digits of the error; a dash for None, no error of 0.

    >>> with_error(23.71, 1.428), with_error(223.2, 15.1), with_error(0.00997, 0.00412)
    ('23.7 ± 1.4', '223 ± 15', '0.0100 ± 0.0041')
    """
    if value is None or error is None or not math.isfinite(error):
        return "–"
    if error <= 0:
        return significant(value)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}"


def interval(estimate: Estimate, which: str = "", digits: int = 4) -> str:
    """Return the interval of an estimate, such as `0.43 to 0.47`; `which` is "" for 68 % and "95" for 95 %."""
    low, high = (getattr(estimate, f"{end}{which}") for end in ("low", "high"))
    return f"{number(low, digits)} to {number(high, digits)}"


def with_interval(estimate: Estimate, shown: Callable[[float | None], str] = number) -> str:
    """Return a number and its 68 % interval; a dash for an undefined one.

    >>> with_interval(Estimate(123.4, 100, 150, 90, 170), significant), with_interval(Estimate(*5 * [None]))
    ('123 (100 to 150)', '–')
    """
    bounds = f"{shown(estimate.low)} to {shown(estimate.high)}"
    return "–" if estimate.value is None else f"{shown(estimate.value)} ({bounds})"
