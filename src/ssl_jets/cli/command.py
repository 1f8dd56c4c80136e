"""How the words of a command line are read: several files behind one option, and settings given as options."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from ssl_jets.errors import UsageError


class Command(TyperCommand):
    """A command whose options for files take several words, as a shell makes them of `*.root`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; an unknown option that is a setting is answered with its `--set`.

        Raises:
            UsageError: a setting is given as an option.
        """
        try:
            return super().parse_args(ctx, self._one_by_one(args))
        except Exception as error:
            # Typer brings a click of its own, or uses the installed one: the class is known by its name.
            if type(error).__name__ != "NoSuchOption":
                raise
            _refuse_setting(args, str(vars(error)["option_name"]))
            raise

    def _one_by_one(self, args: list[str]) -> list[str]:
        """Repeat the option before each further word: `--data a b` becomes `--data a --data b`.

        A word may also be an argument of the command, such as a run; then it belongs to the option if it is a file.
        """
        several = {
            option
            for param in self.params
            if param.param_type_name == "option" and getattr(param, "multiple", False) and param.metavar == "SRC"
            for option in param.opts
        }
        own = any(param.param_type_name == "argument" for param in self.params)
        words: list[str] = []
        option, has_value = "", False
        for word in args:
            if word in several:
                option, has_value = word, False
            elif option and has_value and not word.startswith("-") and (not own or Path(word).is_file()):
                words.append(option)
            elif option and has_value:
                option = ""
            else:
                has_value = True
            words.append(word)
        return words


def _refuse_setting(args: list[str], option: str) -> None:
    """Raise UsageError where an unknown option is the name of a setting; otherwise do nothing."""
    from ssl_jets.config import RunSettings
    from ssl_jets.setting_errors import trees_of

    name = option.lstrip("-").replace("-", "_")
    trees = {tree: set(fields) for tree, fields in trees_of(RunSettings).items()} | {"method": _of_method(args)}
    homes = [f"{tree}.{name}" for tree, fields in trees.items() if name in fields]
    if not homes:
        return
    given = next(word for word in args if word.partition("=")[0] == option)
    value = given.partition("=")[2] or next(iter(args[args.index(given) + 1 :]), "")
    shown = "..." if not value or value.startswith("--") else value
    raise UsageError("this setting has no option of its own", where=option, hint=f"--set {homes[0]}={shown}")


def _of_method(args: list[str]) -> set[str]:
    """Names of the settings of the method that the command line names."""
    from ssl_jets import methods
    from ssl_jets.methods._describe import described_settings

    named = [after for word, after in pairwise(args) if word == "--method" and after in methods.names()]
    return {key.removeprefix("method.").removesuffix(".*") for name in named for key, *_ in described_settings(name)}
