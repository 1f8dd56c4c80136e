"""Errors that a user can cause, each with one message.

A message has the error, its place, the value found, the allowed values (the nearest first), and a hint. The
command line prints it without a traceback and exits with `exit_code`; Python users catch `SslJetsError`.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

MOST_SHOWN = 2000
"""Most characters of one value in a message."""
MOST_COMPARED = 200
"""Most characters of a name that are compared."""


class SslJetsError(Exception):
    """Error that a user can correct.

    Args:
        what: the error in one sentence, without a full stop.
        where: the file, setting or option; a very long one is cut in the message.
        found: the wrong value; cut likewise.
        allowed: the allowed values, nearest first; more than eight are cut.
        hint: the next thing to type.

    Example:
        >>> print(UsageError("no such method", where="--method", found="mea", allowed=["mae"]))
        no such method
          where:   --method
          found:   mea
          allowed: mae
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        found: object | None = None,
        allowed: Iterable[object] | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.hint = what, where, found, hint
        self.allowed = None if allowed is None else list(allowed)
        self.more: list[SslJetsError] = []
        super().__init__(self._own_message())  # all of it, for a copy in another process

    def __str__(self) -> str:
        """Return the message for Python, with the keyword argument after each option."""
        return _with_keywords(self.message)

    @property
    def message(self) -> str:
        """The message for the command line."""
        return "\n".join([self._own_message(), *(f"and {other.message}" for other in self.more)])

    def _own_message(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where:   {_bounded(self.where)}")
        if self.found is not None:
            lines.append(f"  found:   {_bounded(self.found)}")
        if self.allowed is not None:
            lines.append(f"  allowed: {some_of([_bounded(entry) for entry in self.allowed], 8)}")
        if self.hint is not None:
            lines.append(f"  try:     {self.hint}")
        return "\n".join(lines)


class UsageError(SslJetsError):
    """Wrong command line, argument or setting (exit code 2)."""

    exit_code = 2

    def with_more(self, others: Iterable[UsageError]) -> UsageError:
        """Return this error with the messages of others below its own."""
        self.more = list(others)
        return self


class DataError(SslJetsError):
    """Input file that cannot be read, or does not contain jets (exit code 1).

    Attributes:
        skipped_by: key of `data.*` that skips what cannot be read; None if no setting does.
    """

    skipped_by: str | None = "bad_files"

    def suggest_skipping(self) -> None:
        """Add to the hint how to leave out what cannot be read."""
        if self.skipped_by is not None:
            self.suggest(f"--set data.{self.skipped_by}=skip leaves out what cannot be read and counts it", ", or ")

    def suggest(self, more: str, joint: str = "; ") -> None:
        """Add to the hint."""
        self.hint = f"{self.hint}{joint}{more}" if self.hint else more
        self.args = (self._own_message(),)


def check_count(value: int, where: str) -> int:
    """Return a number of jets, if it is a whole one from 1.

    Raises:
        UsageError: it is not.
    """
    if not hasattr(value, "__index__") or value < 1:
        raise UsageError("a number of jets is a whole one", where=where, found=value, allowed=["1 or more"])
    return value


def check_name(value: object) -> str | os.PathLike[str]:
    """Return the name of a file or a model, if it is one.

    Raises:
        UsageError: an object in memory, such as `Jets` or a `Model`.
    """
    if not isinstance(value, str | os.PathLike):
        hint = "model.embed(jets) and model.predict(jets) of model = ssl_jets.load_model(RUN) take jets in memory"
        raise UsageError("a file or a model is given by its name", found=type(value).__name__, hint=hint)
    return value


def _bounded(value: object) -> str:
    """Return the text of a value; of one that is very long the first characters and its length."""
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text):,} characters)"


def _with_keywords(text: str) -> str:
    """Change `--force to replace it` to `--force (force=True) to replace it`, and `--set` likewise."""
    text = re.sub(r"--(force|resume)\b", r"--\1 (\1=True)", text)
    found = r"--set (\w+\.\w+)=(\S+?)(?=[,;]?(?:\s|$))"
    return re.sub(found, lambda one: f'{one[0]} (settings={{"{one[1]}": {_in_python(one[2])}}})', text)


def _in_python(value: str) -> str:
    """Return a value of `--set` as Python: `skip` as `"skip"`, `true` as `True`, `[a,b]` as `["a", "b"]`."""
    if value[:1] == "[" and value[-1:] == "]":
        return f"[{', '.join(_in_python(entry.strip()) for entry in value[1:-1].split(',') if entry)}]"
    try:
        float(value)
    except ValueError:
        return {"true": "True", "false": "False", "null": "None", "...": value}.get(value, f'"{value}"')
    return value


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return all `names`, sorted by their similarity to `name`.

    Example:
        >>> nearest("mea", ["simclr", "mae"])
        ['mae', 'simclr']
    """
    name = name[:MOST_COMPARED].lower()
    return sorted(names, key=lambda other: -difflib.SequenceMatcher(None, name, other[:MOST_COMPARED].lower()).ratio())


def some_of(names: Sequence[object], most: int) -> str:
    """List names, at most so many of them.

    Example:
        >>> some_of(["Hbb", "Hcc", "QCD"], most=2)
        'Hbb, Hcc and 1 more'
    """
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def in_shell(*words: object) -> str:
    """Return words of a command as they are typed in a shell.

    Example:
        >>> print(in_shell("--out", "my runs/mae"))
        --out 'my runs/mae'
    """
    return shlex.join(map(str, words))


def near(name: str, texts: Mapping[str, str], likeness: float = 0.6) -> list[str]:
    """Return the settings that a misspelt `name` may stand for, the likeliest first; often none.

    `batchsize` is spelled like `batch_size`; `max_epochs` contains `epochs`; the words of `learning_rate` are in the
    description of `lr` (the shortest description first).

    Args:
        name: the misspelt name.
        texts: description of each setting by its name.
        likeness: least similarity of the spelling.
    """
    name = name[:MOST_COMPARED]
    words = name.lower().split("_")
    phrase = re.compile(rf"\b{re.escape(' '.join(words))}", re.IGNORECASE)
    described = [other for other, text in texts.items() if len(words) > 1 and phrase.search(text)]
    candidates = [
        *difflib.get_close_matches(name.lower(), texts, cutoff=likeness),
        *(other for other in texts if other in words),
        *sorted(described, key=lambda other: len(texts[other])),
    ]
    return list(dict.fromkeys(candidates))
