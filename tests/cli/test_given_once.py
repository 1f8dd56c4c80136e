"""An option of one value that is given twice is refused; lists are lists."""

from pathlib import Path

import pytest
from typer.main import get_command

from ssl_jets import cli
from ssl_jets.api.arguments import tree_of
from ssl_jets.cli.app import EXAMPLES, app
from ssl_jets.cli.command import Command
from ssl_jets.config import parse_set
from ssl_jets.errors import UsageError

OPTIONS = [
    (name, option)
    for name, command in get_command(app).commands.items()
    for option in command.params
    if option.param_type_name == "option" and not option.is_flag and not option.multiple
]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda found: getattr(found, "name", found))
def test_every_option_of_one_value_is_refused_twice(
    command: str, option: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    word = option.opts[-1]
    monkeypatch.setattr("sys.argv", ["ssl-jets", command, word, "1", word, "2"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "this option is given twice" in error
    assert word in error


def test_every_command_has_the_same_reader_of_its_words() -> None:
    commands = get_command(app).commands
    assert set(commands) == {command.__name__ for command in EXAMPLES}
    assert all(isinstance(command, Command) for command in commands.values())
    assert len(OPTIONS) > 30


@pytest.mark.parametrize("words", [["--efficiency", "0.3", "0.5"], ["--efficiency", "0.3", "--efficiency", "0.5"]])
def test_several_numbers_may_follow_one_option(words: list[str]) -> None:
    command = get_command(app).commands["evaluate"]
    found = command.make_context("evaluate", ["run", *words, "--z", "a.root", "--z", "b.root"]).params
    assert found["efficiency"] == [0.3, 0.5]
    assert found["runs"] == ["run"]
    assert found["z"] == [Path("a.root"), Path("b.root")]


def test_a_setting_is_given_once_and_an_option_wins_over_it() -> None:
    with pytest.raises(UsageError, match=r"given twice(.|\n)*train\.lr"):
        parse_set(["train.lr=1", "train.steps=2", "train={lr: 3}"])
    assert parse_set(["train.lr=1", "train={steps: 2}"]) == {"train": {"lr": 1, "steps": 2}}
    found = tree_of({"data.format": "jetclass", "evaluate.seed": 1}, "mine.yaml", seed=2)
    assert found == {"data": {"format": "mine.yaml"}, "evaluate": {"seed": 2}}
