"""Formulas of a schema: a small safe language of branch names, numbers, arithmetic, comparisons and a few functions.

The text is parsed by Python's `ast` and interpreted here, node by node; Python never evaluates anything, and any other
node is an error. A name may have dots and whole numbers in brackets, as branches have: `Jet.PT`, `PFCands[3]`;
any other name is written in backticks. A number of a jet is repeated for each particle when the two are combined.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Protocol

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.schemas.formula_functions import FUNCTIONS, OPERATORS, chain, fold
from ssl_jets.data.schemas.formula_text import to_python
from ssl_jets.errors import DataError, UsageError, nearest


class Values(Protocol):
    """Source of the numbers behind the names of a formula."""

    def __len__(self) -> int:
        """Return the number of jets."""

    def find(self, name: str) -> tuple[Array, bool]:
        """Return the numbers behind a name, and True if they are `[particle]`, False if `[jet]`."""

    def spread(self, jet: Array) -> Array:
        """Repeat numbers `[jet]` for each of their particles, `[particle]`."""

    def total(self, particle: Array) -> Array:
        """Sum numbers `[particle]` over each jet, float64 `[jet]`."""


class JetValues:
    """Numbers of jets behind the names of a formula that has no particles to read.

    Args:
        numbers: numbers `[jet]` by name.
        jets: number of jets.
    """

    def __init__(self, numbers: Mapping[str, Array], jets: int) -> None:
        self._numbers, self._jets = numbers, jets

    def __len__(self) -> int:
        return self._jets

    def find(self, name: str) -> tuple[Array, bool]:
        return self._numbers[name], False

    def spread(self, jet: Array) -> Array:
        """Refuse a sum over particles."""
        hint = "a jet column with the sum, by a schema"
        raise UsageError("a formula of jets has no particles to add over", found="sum(...)", hint=hint)

    total = spread


_Result = tuple[Any, bool | None]
"""A number, or an array `[jet]` (False) or `[particle]` (True); None marks a plain number."""


MOST_CHARACTERS = 10_000
"""Longest text of a formula."""

MOST_LEVELS = 150
"""Deepest nesting of a formula: `a + b + c` has two levels of sums."""

NAMES = (*sorted(FUNCTIONS), "sum")
"""Names of all functions. `sum` adds over the particles of a jet; `sum(1)` counts them."""


MOST_EXACT = 2**53
"""Largest whole number below which float64 represents all others."""


class TooLargeError(DataError):
    """A whole number that a formula would round."""

    skipped_by = None


class Formula:
    """Parsed formula.

    Attributes:
        text: the formula as it was written.
        names: branches it reads, each once, in the order of the text.

    Raises:
        ValueError: the text is not a formula; the message contains the position.

    Example:
        >>> Formula("hypot(px, py) * (Jet.PT > 20)").names
        ('px', 'py', 'Jet.PT')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"a formula has at most {MOST_CHARACTERS:,} characters, not {len(text):,}")
        try:
            self._python = to_python(text.strip())
            self._root = ast.parse(self._python.text.strip(), mode="eval").body
        except (SyntaxError, RecursionError, MemoryError) as error:
            offset = getattr(error, "offset", None)
            message = f"{getattr(error, 'msg', error)} at {self._position(offset)}"
            quotes = "; in braces of YAML, a formula with a comma is in quotes" if "never closed" in message else ""
            raise ValueError(f"not a formula: {message}{quotes}") from None
        self.names: tuple[str, ...] = tuple(dict.fromkeys(self._check(self._root, MOST_LEVELS)))

    def of_jets(self, values: Values) -> Array:
        """Evaluate the formula for each jet, `[jet]`.

        Raises:
            UsageError: the result is `[particle]`.
            TooLargeError: a branch holds whole numbers that float64 would round.
        """
        result, is_particle = self._evaluate(self._root, values)
        if is_particle:
            raise UsageError(
                "a formula gives a number for each particle where one for each jet is needed",
                where=self.text,
                hint="sum(...) adds over the particles of a jet",
            )
        jet: Array = np.full(len(values), result) if is_particle is None else result
        return jet

    def of_particles(self, values: Values) -> Array:
        """Evaluate the formula for each particle, `[particle]`."""
        return _particles(self._evaluate(self._root, values), values)

    def _check(self, node: ast.AST, levels: int) -> Iterator[str]:
        """Yield the names of the branches under a node; raise at a forbidden node, or after too many levels."""
        if not levels:
            raise ValueError(f"a formula is nested at most {MOST_LEVELS} deep")
        if (name := self._branch(node)) is not None:
            yield name
            return
        inner: list[ast.AST]
        match node:
            case ast.Constant(value=bool() | int() | float() as number) if abs(number) <= sys.float_info.max:
                inner = []
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                inner = [left, right]
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                inner = [operand]
            case ast.BoolOp(values=parts):
                inner = [*parts]
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in OPERATORS for op in ops):
                inner = [left, *others]
            case ast.Call(func=ast.Name(id=function), args=args, keywords=[]):
                self._check_call(node, function, len(args))
                inner = [*args]
            case _:
                raise ValueError(f"not allowed in a formula: {self._excerpt(node)}")
        for part in inner:
            yield from self._check(part, levels - 1)

    def _check_call(self, node: ast.AST, function: str, arguments: int) -> None:
        if function not in NAMES:
            near = ", ".join(nearest(function, NAMES)[:4])
            raise ValueError(f"no such function: {self._excerpt(node)}; known are {near}, ...")
        expected = 1 if function == "sum" else FUNCTIONS[function][0]
        if arguments != expected and not (expected < 0 and arguments >= -expected):
            number = f"{-expected} or more" if expected < 0 else str(expected)
            raise ValueError(f"{function} takes {number} arguments, not {arguments}: {self._excerpt(node)}")

    def _evaluate(self, node: ast.AST, values: Values) -> _Result:
        if (name := self._branch(node)) is not None:
            numbers, is_particle = values.find(name)
            return self._computable(name, numbers), is_particle
        with np.errstate(all="ignore"):  # the bad-jet filter finds values that are not finite
            match node:
                case ast.Constant(value=bool() as flag):
                    return flag, None
                case ast.Constant(value=int() | float() as number):
                    return float(number), None
                case ast.BinOp(left=left, op=op, right=right):
                    return self._apply(OPERATORS[type(op)], [left, right], values)
                case ast.UnaryOp(op=op, operand=operand):
                    return self._apply(OPERATORS[type(op)], [operand], values)
                case ast.BoolOp(op=op, values=parts):
                    operator = OPERATORS[type(op)]
                    return self._apply(lambda *x: fold(operator, x), parts, values)
                case ast.Compare(left=left, ops=ops, comparators=others):
                    operators = [OPERATORS[type(op)] for op in ops]
                    return self._apply(lambda *x: chain(operators, x), [left, *others], values)
                case ast.Call(func=ast.Name(id="sum"), args=[inner]):
                    return values.total(_particles(self._evaluate(inner, values), values)), False
                case ast.Call(func=ast.Name(id=function), args=args):
                    return self._apply(FUNCTIONS[function][1], args, values)
        raise AssertionError(node)  # `_check` let it pass

    def _apply(self, function: Callable[..., Any], nodes: list[ast.expr], values: Values) -> _Result:
        arguments = [self._evaluate(node, values) for node in nodes]
        levels = {is_particle for _, is_particle in arguments if is_particle is not None}
        if len(levels) == 2:  # numbers of jets and of particles: [jet] -> [particle]
            arguments = [
                (values.spread(value), True) if level is False else (value, level) for value, level in arguments
            ]
        return function(*(value for value, _ in arguments)), any(levels) if levels else None

    def _computable(self, name: str, values: Array) -> Array:
        """Convert whole numbers and flags to float64, half precision to float32: they wrap around or overflow.

        Raises:
            TooLargeError: float64 would round a whole number, so that `event % 2` would be 0 for all of them.
        """
        if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            limits = np.iinfo(values.dtype)
            # The smallest and the largest number mark missing values; rounding keeps them apart from all others.
            wrong = (values > MOST_EXACT) & (values < limits.max) | (values < -MOST_EXACT) & (values > limits.min)
            if wrong.any():
                raise TooLargeError(
                    "a whole number is too large for a formula, which computes in double precision",
                    where=self.text,
                    found=f"{name} = {values[wrong][0]}",
                    allowed=["whole numbers up to 2^53"],
                )
        if values.dtype.kind in "biu":
            return values.astype(np.float64)
        return values.astype(np.float32) if values.dtype == np.float16 else values

    def _branch(self, node: ast.AST) -> str | None:
        """Return the name of a branch, such as `a`, `a.b`, `a[3]`; None for anything else."""
        names, rest = self._python.names, ""
        while True:
            match node:
                case ast.Name(id=first):
                    return f"{names.get(first, first)}{rest}"
                case ast.Attribute(value=inner, attr=field):
                    rest = f".{names.get(field, field)}{rest}"
                case ast.Subscript(value=inner, slice=ast.Constant(value=int() as index)):
                    rest = f"[{index}]{rest}"
                case _:
                    return None
            node = inner

    def _excerpt(self, node: ast.AST) -> str:
        start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", None)
        positions = self._python.positions
        shown = self.text.strip()[positions[start] : None if end is None else positions[end]]
        return f"{shown!r} at {self._position(start + 1)}"

    def _position(self, offset: int | None) -> str:
        """Return the position in the formula of a character of the parsed text, both counted from 1."""
        if offset is None or offset > len(self._python.text.strip()):
            return "its end"
        return f"character {self._python.positions[offset - 1] + 1}"


@cache
def formula(text: str) -> Formula:
    """Return the formula of a text, parsed once."""
    return Formula(text)


def _particles(result: _Result, values: Values) -> Array:
    value, is_particle = result
    if is_particle is None:
        value = np.full(len(values), value)
    return value if is_particle else values.spread(value)
