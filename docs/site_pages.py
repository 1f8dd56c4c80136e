"""Hook of MkDocs: pages generated from the program, and links that leave docs/.

`reference/options.md` has the options of every command, `reference/settings.md` every setting with its default; neither
is in git. Links to files outside docs/ lead to the repository, so that the pages also read well there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

import typer
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from ssl_jets import methods
from ssl_jets.cli.app import app
from ssl_jets.config import DataSettings, ModelSettings, TrainSettings
from ssl_jets.methods._describe import described_settings

PAGE_NAME = re.compile(r"\[([\w-]+)\.md\](?=\()")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/options.md", content=options()))
    files.append(File.generated(config, "reference/settings.md", content=settings()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point relative links to files outside docs/ at the repository; a page is named without its suffix."""
    folder = posixpath.dirname(page.file.src_uri)

    def absolute(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[1]))
        outside = not path.startswith("docs/") or Path(path).is_dir()
        return f"{config.repo_url}/blob/main/{path}{link[2] or ''}" if outside else link[0]

    return PAGE_NAME.sub(r"[\1]", LINK.sub(absolute, markdown))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Leave the link to the repository as it is: the theme would ask another server for its stars."""
    return output.replace(' data-md-component="source"', "")


def options() -> str:
    """Return the options of all commands as Markdown, from the commands themselves."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="ssl-jets"), name="ssl-jets")
    return "# Options of all commands\n\n" + re.sub(r"^# .*\n", "", text, count=1)


def settings() -> str:
    """Return all settings with their defaults as Markdown tables."""
    parts = ["# All settings", "", "Set any of them with `--set KEY=VALUE`, or in the YAML file of `--config`."]
    for prefix, tree in (("data", DataSettings), ("model", ModelSettings), ("train", TrainSettings)):
        rows = [
            (f"{prefix}.{name}", repr(field.default), field.description) for name, field in tree.model_fields.items()
        ]
        parts += ["", f"## `{prefix}.*`", "", *_table(rows)]
    for name in methods.names():
        parts += ["", f"## `method.*` of `{name}`", "", *_table(described_settings(name))]
    return "\n".join(parts) + "\n"


def _table(rows: Iterable[tuple[str, str | None, str | None]]) -> list[str]:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for key, default, meaning in rows:
        text = " ".join((meaning or "").split()).replace("|", "\\|")
        lines.append(f"| `{key}` | {f'`{default}`' if default else ''} | {text} |")
    return lines
