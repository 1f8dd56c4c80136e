"""Prose of docstrings and pages: few tell-tale words, links that resolve, a glossary of files that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ssl_jets

PACKAGE = Path(ssl_jets.__file__).parent
ROOT = Path(__file__).parents[1]
LIMITS = {
    r"what": 0.5,
    r"where": 3.0,
    r"say|says|said|tell|tells|told": 0.2,
    r"(?:that|those) of": 0.2,
}
"""Pattern of the words to the most occurrences per 1,000 words."""


def docstrings(path: Path) -> str:
    """Return the docstrings of a Python file: of the module, its classes and its functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return "\n".join(ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds))


def prose(path: Path) -> str:
    """Return the text of a Markdown page without its code blocks."""
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def per_thousand(pattern: str, text: str) -> float:
    """Return the occurrences of a pattern per 1,000 words of a text, in any case of letters."""
    words = len(re.findall(r"[A-Za-z]+", text))
    return 1000 * len(re.findall(rf"\b(?:{pattern})\b", text, re.IGNORECASE)) / max(1, words)


def worst(pattern: str, texts: dict[Path, str]) -> str:
    """Return the five files with most occurrences of a pattern, for the message of a failure."""
    counts = {path: len(re.findall(rf"\b(?:{pattern})\b", text, re.IGNORECASE)) for path, text in texts.items()}
    most = sorted(counts, key=counts.__getitem__, reverse=True)[:5]
    return ", ".join(f"{path.name} {counts[path]}" for path in most)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.fixture(scope="module")
def texts_of_docstrings() -> dict[Path, str]:
    return {path: docstrings(path) for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.fixture(scope="module")
def texts_of_pages() -> dict[Path, str]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path: prose(path) for path in pages}


@pytest.mark.parametrize("pattern", LIMITS)
def test_docstrings_hold_few_telltale_words(pattern: str, texts_of_docstrings: dict[Path, str]) -> None:
    rate = per_thousand(pattern, "\n".join(texts_of_docstrings.values()))
    assert rate <= LIMITS[pattern], f"{rate:.2f} per 1,000; most in {worst(pattern, texts_of_docstrings)}"


@pytest.mark.parametrize("pattern", LIMITS)
def test_pages_hold_few_telltale_words(pattern: str, texts_of_pages: dict[Path, str]) -> None:
    rate = per_thousand(pattern, "\n".join(texts_of_pages.values()))
    assert rate <= LIMITS[pattern], f"{rate:.2f} per 1,000; most in {worst(pattern, texts_of_pages)}"


def test_code_blocks_are_not_counted_and_the_rate_is_per_thousand_words(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("What one reads.\n\n```\nwhat is typed, told and said\n```\n", encoding="utf-8")
    assert per_thousand("what", prose(page)) == pytest.approx(1000 / 3)
    assert per_thousand("say|says|said|tell|tells|told", prose(page)) == 0


def test_links_of_pages_lead_to_files_and_headings_that_exist(texts_of_pages: dict[Path, str]) -> None:
    for path, text in texts_of_pages.items():
        for link in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text):
            name, _, heading = link.partition("#")
            target = path.parent / name if name else path
            assert target.exists(), f"{path.name}: {link}"
            headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE) if heading else []
            assert not heading or heading in map(anchor, headings), f"{path.name}: {link}"


def test_the_glossary_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    files = re.findall(r"\| `([\w/]+\.py)` \|$", text, re.MULTILINE)
    assert len(files) > 50
    assert not [file for file in files if not (PACKAGE / file).is_file()]
