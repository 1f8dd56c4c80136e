"""A report as a user sees it: opened in headless Chromium, without a network, on a desk, on a phone, and printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]

LOOK = """
const wide = document.documentElement.scrollWidth - window.innerWidth;
const links = [...document.querySelectorAll('a')].map(a => a.getAttribute('href'));
const found = {
  images: [...document.images].map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width, i.alt]),
  tables: [...document.querySelectorAll('table')].map(t => t.rows.length),
  headings: document.querySelectorAll('h2[id]').length,
  broken: links.filter(h => h.startsWith('#') && !document.getElementById(h.slice(1))),
  outside: links.filter(h => !h.startsWith('#') && !h.startsWith('data:')),
  fetched: performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:')),
  signs: [...document.querySelectorAll('.sign')].map(s => getComputedStyle(s).display),
  wide, width: window.innerWidth,
};
document.body.innerHTML = '<pre id="found">' + JSON.stringify(found).replace(/</g, '&lt;') + '</pre>';
"""


def chromium(*options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
    # Every host resolves to nothing: what is shown came from the file.
    command.append("--host-resolver-rules=MAP * ~NOTFOUND")
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("width", [1280, 520])
def test_figures_tables_and_links_are_there_and_nothing_is_fetched(
    run_report: Path, tmp_path: Path, width: int
) -> None:
    html = run_report.read_text(encoding="utf-8").replace(
        "</body>", f"<script>onload = () => {{{LOOK}}}</script></body>"
    )
    page = tmp_path / "page.html"
    page.write_text(html, encoding="utf-8")
    done = chromium(f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom", page.as_uri())
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.S)
    assert match, done.stdout[-500:]
    found = json.loads(match.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert len(found["images"]) == html.count("<img ")
    for complete, natural, shown, alt in found["images"]:
        assert complete
        assert natural > 300
        assert 100 < shown <= max(found["width"], 44 * 16)  # on a phone a wide figure scrolls inside its box
        assert alt
    assert set(found["signs"]) == ({"block"} if width < 640 else {"none"})  # that a wide figure scrolls
    assert len(found["tables"]) >= 5
    assert all(rows > 0 for rows in found["tables"])
    assert found["headings"] > 3
    assert found["broken"] == found["outside"] == found["fetched"] == []
    assert found["wide"] <= 0  # no sideways scrolling of the page; wide tables scroll inside their box


def test_it_prints_with_the_folded_parts(run_report: Path, tmp_path: Path) -> None:
    html = run_report.read_text(encoding="utf-8")
    opened, without = tmp_path / "opened.html", tmp_path / "without.html"
    opened.write_text(html.replace("<details", "<details open"), encoding="utf-8")
    without.write_text(re.sub(r"<details.*?</details>", "", html, flags=re.S), encoding="utf-8")
    assert pages(without, tmp_path) < pages(run_report, tmp_path) == pages(opened, tmp_path) <= 30


def pages(report: Path, folder: Path) -> int:
    chromium(f"--print-to-pdf={folder / 'page.pdf'}", "--no-pdf-header-footer", report.as_uri())
    data = (folder / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    return len(re.findall(rb"/Type\s*/Page\b", data))
