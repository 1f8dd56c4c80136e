"""Parser of a command: several values after one option, options given twice, settings given as options."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from ssl_jets.errors import UsageError, in_shell

NUMBER = "NUMBER"
"""`metavar` of the options that take several numbers."""

_SAME = ("--devices", "--where")
"""Options that are the setting of the same name in commands without them; others, such as `--keep`, only share it."""


class Command(TyperCommand):
    """A command whose options for files and numbers take several words, as a shell makes them of `*.root`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; the error of an unknown option suggests the setting, or names the commands that have it.

        Raises:
            UsageError: a setting is given as an option, or an option of one value is given twice.
        """
        args = self._numbers_one_by_one(self._files_one_by_one(args))
        try:
            self._refuse_twice(ctx, args)
            self._refuse_bare_words(ctx, args)
            return super().parse_args(ctx, args)
        except Exception as error:
            # Typer has a click of its own or uses the installed one, so the class is compared by its name.
            if type(error).__name__ != "NoSuchOption":
                raise
            self._refuse_of_others(ctx, args, str(vars(error)["option_name"]))
            raise

    def _options(self) -> set[str]:
        return {option for param in self.params for option in param.opts}

    def _refuse_of_others(self, ctx: Any, args: list[str], option: str) -> None:
        """Raise UsageError if an unknown option is the name of a setting, or an option of other commands."""
        others = getattr(ctx.parent and ctx.parent.command, "commands", {})
        owners = [name for name, other in others.items() if any(option in param.opts for param in other.params)]
        key = _setting_of(args, option, str(self.name)) if "--set" in self._options() else None
        if key is not None and (not owners or option in _SAME):
            word = next(word for word in args if word.partition("=")[0] == option)
            value = word.partition("=")[2] or next(iter(args[args.index(word) + 1 :]), "")
            shown = "..." if not value or value.startswith("--") else value
            hint = in_shell("--set", f"{key}={shown}")
            raise UsageError("this setting has no option of its own", where=option, hint=hint)
        if owners:
            hint = f"ssl-jets {self.name} --help lists its options; {option} is one of {', '.join(owners)}"
            hint += f", and not the setting {key}" if key else ""
            raise UsageError(f"{self.name} has no such option", where=option, hint=hint)

    def _refuse_bare_words(self, ctx: Any, args: list[str]) -> None:
        """Refuse words without an option in a command that takes none, as in `embed runs/mae`, with the option."""
        words = self.make_parser(ctx).parse_args(args=list(args))[1]
        if not words or any(param.param_type_name == "argument" for param in self.params):
            return
        from ssl_jets import methods
        from ssl_jets.sharing.location import names_model

        fitting = {
            "--method": words[0] in methods.names(),
            "--model": names_model(words[0]),
            "--data": Path(words[0]).exists(),
        }
        option = next((name for name, fits in fitting.items() if fits and name in self._options()), None)
        hint = in_shell(option, words[0]) if option else f"ssl-jets {self.name} --help lists the options"
        raise UsageError(f"{self.name} takes names only after an option", found=" ".join(words), hint=hint)

    def _files_one_by_one(self, args: list[str]) -> list[str]:
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

    def _numbers_one_by_one(self, args: list[str]) -> list[str]:
        """Repeat an option of numbers before each further one: `--efficiency 0.3 0.5` has two values."""
        several = {
            name
            for option in self.params
            if getattr(option, "multiple", False) and option.metavar == NUMBER
            for name in option.opts
        }
        words: list[str] = []
        option, values = "", 0
        for word in args:
            if option and _is_number(word):
                words += [option] * (values > 0)
                values += 1
            else:
                option, values = (word, 0) if word in several else ("", 0)
            words.append(word)
        return words

    def _refuse_twice(self, ctx: Any, args: list[str]) -> None:
        """Refuse an option that is given twice, unless it is a list: the first value would be lost silently."""
        options = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in dict.fromkeys(options):
            one = option.param_type_name == "option" and not getattr(option, "multiple", False)
            if one and not getattr(option, "is_flag", False) and options.count(option) > 1:
                raise UsageError("this option is given twice", where=max(option.opts, key=len), hint="give it once")


def _setting_of(args: list[str], option: str, command: str) -> str | None:
    """Return the key of the setting with the name of an option; settings of a training only for commands of it."""
    from ssl_jets.api.early import EVALUATED, READING
    from ssl_jets.config import RunSettings
    from ssl_jets.setting_errors import trees_of

    name = option.lstrip("-").replace("-", "_")
    trees = {tree: set(fields) for tree, fields in trees_of(RunSettings).items()} | {"method": _of_method(args)}
    if command not in ("pretrain", "finetune"):
        trees = {"data": {*READING, *(EVALUATED if command == "evaluate" else ())}}
        trees |= {"train": {"precision"}} if command in ("embed", "predict") else {}
    return next((f"{tree}.{name}" for tree, fields in trees.items() if name in fields), None)


def _of_method(args: list[str]) -> set[str]:
    """Return the names of the settings of the method on the command line."""
    from ssl_jets import methods
    from ssl_jets.methods._describe import described_settings

    chosen = [after for word, after in pairwise(args) if word == "--method" and after in methods.names()]
    return {key.removeprefix("method.").removesuffix(".*") for name in chosen for key, *_ in described_settings(name)}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
