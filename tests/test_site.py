"""Hook of the documentation site: generated pages are whole, and names, intervals and units are not broken."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site_pages() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unbroken(site_pages: ModuleType, html: str) -> str:
    return str(site_pages.on_page_content(html, page=None, config=None, files=None))


def test_options_have_the_whole_summary_of_every_command(site_pages: ModuleType) -> None:
    text = site_pages.options()
    assert "...\n" not in text.split("**Commands**")[1].split("##")[0]
    assert "\nExample: `ssl-jets pretrain" in text


def test_settings_of_all_commands_are_listed_and_pages_named_in_them_are_links(site_pages: ModuleType) -> None:
    text = site_pages.settings()
    for key in ("data.where", "method.lora.rank", "method.mask_ratio", "evaluate.seen", "out.rntuple"):
        assert f"| `{key}` |" in text
    assert "[data](../data.md)" in text
    assert "docs/" not in text


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<td>.1 (.05 to .20)</td>", "<td>.1 (.05\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}.20)</td>"),
        ("68 % of 6 MB", "68\N{NO-BREAK SPACE}% of 6\N{NO-BREAK SPACE}MB"),
        ("<code>--set a</code>", '<code><span class="whole">--set</span> a</code>'),
        ("<td><code>a \\| b</code></td>", "<td><code>a | b</code></td>"),
        ("<code>method.unlabelled_settings</code>", "<code>method.<wbr>unlabelled_<wbr>settings</code>"),
        ("<pre><code>68 % --set</code></pre>", "<pre><code>68 % --set</code></pre>"),
    ],
)
def test_names_intervals_and_units_stay_whole_and_blocks_as_they_are(
    site_pages: ModuleType, html: str, shown: str
) -> None:
    assert unbroken(site_pages, html) == shown
