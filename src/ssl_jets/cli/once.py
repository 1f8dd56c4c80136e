"""An option that is given twice is refused, unless it is a list: the first value would be lost in silence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from ssl_jets.errors import UsageError

NUMBER = "NUMBER"
"""`metavar` of the options that take several numbers."""


class Once(TyperCommand):
    """A command of whose options each is given once, or is a list."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words.

        Raises:
            UsageError: an option of one value is given twice.
        """
        args = self._numbers_one_by_one(args)
        given = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in dict.fromkeys(given):
            one = option.param_type_name == "option" and not getattr(option, "multiple", False)
            if one and not getattr(option, "is_flag", False) and given.count(option) > 1:
                raise UsageError("this option is given twice", where=max(option.opts, key=len), hint="give it once")
        return super().parse_args(ctx, args)

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


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
