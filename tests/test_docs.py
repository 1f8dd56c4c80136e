"""Pages and examples: quoted messages exist, scripts parse, and their commands have the options they use."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.core
import typer.main

from ssl_jets.cli.app import app
from ssl_jets.training import resume

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").rglob("*.sh"))
COMMAND = re.compile(r"(?:^|[ (])(ssl-jets [a-z].*)$", re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return the words of every `ssl-jets COMMAND` line, with continued lines joined."""
    return [shlex.split(line, comments=True) for line in COMMAND.findall(re.sub(r"\\\n\s*", "", text))]


@functools.cache
def options_of_commands() -> dict[str, set[str]]:
    """Return the options of each command."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }


def check_options(words: list[str]) -> None:
    """Check that the command exists and that it has every option of the line."""
    known = options_of_commands()[words[1]]
    used = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
    assert used <= known | {"--help"}, (words, used - known)


def test_messages_of_the_troubleshooting_page_are_in_the_sources() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    quoted = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(quoted) > 25
    for message in quoted:
        for part in message.split("..."):
            assert part.strip() in sources, message


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_example_scripts_parse_and_use_existing_options(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    found = commands(script.read_text(encoding="utf-8"))
    assert found
    for words in found:
        check_options(words)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, str(script)], check=True)


def test_commands_of_pages_have_the_options_they_use() -> None:
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        parts = page.read_text(encoding="utf-8").split("```")  # text, block, text, block, ...
        indented = ["\n".join(re.findall("^ {4}.*", text, re.MULTILINE)) for text in parts[::2]]
        found += [words for block in (*parts[1::2], *indented) for words in commands(block)]
    assert len(found) > 150
    for words in found:
        check_options(words)


def test_page_lists_the_settings_that_resume_may_change() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    listed = page.split("may change for the remaining steps:")[1].split("`config.yaml`")[0]
    assert set(re.findall(r"`([\w.]+)`", listed)) == resume._MAY_CHANGE


def test_page_on_batch_systems_shows_the_script_of_the_examples() -> None:
    page = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")
    for line in (ROOT / "examples" / "slurm" / "pretrain.sh").read_text(encoding="utf-8").splitlines():
        assert line in page or line.startswith("# Pretrain")


def test_walkthrough_shows_lines_of_the_sources() -> None:
    page = (ROOT / "docs" / "walkthrough-mae.md").read_text(encoding="utf-8")
    sources = {
        line.strip()
        for name in ("methods/mae.py", "nn/heads.py")
        for line in (ROOT / "src" / "ssl_jets" / name).read_text(encoding="utf-8").splitlines()
    }
    blocks = re.findall(r"```(?:python)?\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 6
    missing = [line for block in blocks for line in block.splitlines() if line.strip() not in sources]
    assert not missing
