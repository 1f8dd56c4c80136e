"""Hook of MkDocs: pages generated from the program, and links that leave docs/.

`reference/options.md` has the options of every command, `reference/settings.md` every setting with its default; neither
is in git. Links to files outside docs/ lead to the repository, so that the pages also read well there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer
import typer.core
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from ssl_jets import methods
from ssl_jets.cli.app import app
from ssl_jets.config import DataSettings, ModelSettings, Settings, TrainSettings
from ssl_jets.embedding.options import OutSettings
from ssl_jets.evaluation.settings import AnomalySettings, FigureSettings, LabelSettings, MeasureSettings
from ssl_jets.exporting.exporter import GraphSettings
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.methods._describe import described_settings
from ssl_jets.protocols.settings import DomainSettings

PAGE_NAME = re.compile(r"\[([\w-]+)\.md\](?=\()")
BLOCK = re.compile(r"(<pre.*?</pre>)", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<>\n]*(?=</code>)")
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


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep names, intervals and numbers with their unit on one line, outside blocks of code."""
    parts = BLOCK.split(html)
    parts[::2] = [_unbroken(part) for part in parts[::2]]
    return "".join(parts)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Leave the link to the repository as it is: the theme would ask another server for its stars."""
    return output.replace(' data-md-component="source"', "")


def options() -> str:
    """Return the options of all commands as Markdown, from the commands themselves."""
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    for entry in command.commands.values():
        entry.short_help = entry.help  # else cut after 45 characters
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="ssl-jets"), name="ssl-jets")
    text = re.sub(r"^Example: (.+)$", r"Example: `\1`", text, flags=re.MULTILINE)
    return "# Options of all commands\n\n" + re.sub(r"^# .*\n", "", text, count=1)


def settings() -> str:
    """Return all settings with their defaults as Markdown tables."""
    parts = ["# All settings", "", "Set any of them with `--set KEY=VALUE`, or in the YAML file of `--config`."]
    trees = {
        "data": DataSettings,
        "model": ModelSettings,
        "train": TrainSettings,
        "method": FinetuneSettings,
        "evaluate": MeasureSettings,
        "labels": LabelSettings,
        "anomaly": AnomalySettings,
        "protocol": DomainSettings,
        "figures": FigureSettings,
        "export": GraphSettings,
        "out": OutSettings,
    }
    for prefix, tree in trees.items():
        title = "`method.*` of `finetune`" if prefix == "method" else f"`{prefix}.*`"
        parts += ["", f"## {title}", "", *_table(_rows(prefix, tree))]
    for name in methods.names():
        parts += ["", f"## `method.*` of `{name}`", "", *_table(described_settings(name))]
    return "\n".join(parts) + "\n"


def _rows(prefix: str, tree: type[Settings]) -> Iterator[tuple[str, str, str | None]]:
    """Yield key, default and meaning of each setting of a tree, also of the trees in it."""
    for name, field in tree.model_fields.items():
        if isinstance(field.default, Settings):
            yield from _rows(f"{prefix}.{name}", type(field.default))
        else:
            default = "" if field.is_required() else repr(field.default)
            yield f"{prefix}.{name}", default, field.description


def _unbroken(html: str) -> str:
    """Put no-break spaces into `0.1 (0.05 to 0.2)` and `68 %`, and keep short words of inline code whole."""
    html = CODE.sub(lambda code: re.sub(r"\S+", _word, code[0].replace("\\|", "|")), html)
    html = re.sub(r"(?<=\d) (?=%|[kMG]i?B\b|[MGT]eV\b)", "\N{NO-BREAK SPACE}", html)
    return re.sub(r"\([-+.\d]+ to [-+.\d]+\)", lambda interval: interval[0].replace(" ", "\N{NO-BREAK SPACE}"), html)


def _word(word: re.Match[str]) -> str:
    """Return a word of inline code: whole if it is short, else with breaks after `_`, `.`, `/`, `=` and `,`."""
    if len(word[0]) <= 22:
        return f'<span class="whole">{word[0]}</span>' if "-" in word[0] or "_" in word[0] else word[0]
    return re.sub(r"(?<=[_./=,])(?=\w)", "<wbr>", word[0])


def _table(rows: Iterable[tuple[str, str | None, str | None]]) -> list[str]:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for key, default, meaning in rows:
        text = " ".join((meaning or "").split()).replace("|", "\\|")
        text = re.sub(r"docs/([\w-]+)\.md", r"[\1](../\1.md)", text)
        lines.append(f"| `{key}` | {f'`{default}`' if default else ''} | {text} |")
    return lines
