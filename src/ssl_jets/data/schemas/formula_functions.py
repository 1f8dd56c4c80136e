"""Functions and operators of formulas."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.schemas import pdg


def _hypot(*parts: Array) -> Array:
    # Roots of sums of squares are several times faster than np.hypot, and jets are far from where they would overflow.
    length: Array = np.sqrt(sum(np.square(part) for part in parts))
    return length


def _sign(number: Array) -> Array:
    sign = np.where(number < 0, -1.0, 1.0)
    return np.where(np.isnan(number), np.nan, sign).astype(np.result_type(number), copy=False)


def _wrap(angle: Array) -> Array:
    wrapped: Array = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    return wrapped


_CHOICES = ("where", "minimum", "maximum")
"""Functions that return one of their arguments: given conditions, the result is a condition."""


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with conditions as the numbers 0 and 1: numpy adds two to a condition, not to 2."""

    def compute(*values: Any) -> Any:
        if all(np.result_type(value) == np.bool_ for value in values):
            values = tuple(np.add(value, 0.0) for value in values)
        return function(*values)

    return compute


_FUNCTIONS: dict[str, tuple[int, Callable[..., Array]]] = {
    "abs": (1, np.abs),
    "sign": (1, _sign),
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "log10": (1, np.log10),
    "sin": (1, np.sin),
    "cos": (1, np.cos),
    "sinh": (1, np.sinh),
    "cosh": (1, np.cosh),
    "tanh": (1, np.tanh),
    "arcsinh": (1, np.arcsinh),
    "arctan2": (2, np.arctan2),
    "hypot": (-2, _hypot),
    "minimum": (2, np.minimum),
    "maximum": (2, np.maximum),
    "where": (3, np.where),
    "clip": (3, np.clip),
    "wrap": (1, _wrap),
    "eta": (3, lambda px, py, pz: np.arcsinh(pz / _hypot(px, py))),
    "phi": (2, lambda px, py: np.arctan2(py, px)),
    "kind": (1, pdg.kind),
    "charge": (1, pdg.charge),
    "mass": (1, pdg.mass),
}

FUNCTIONS = {
    name: (arguments, function if name in _CHOICES else _of_numbers(function))
    for name, (arguments, function) in _FUNCTIONS.items()
}
"""Name to the number of arguments (-2: two or more) and the function. `sign` of 0 is 1; `wrap` brings an angle into
-pi to pi; `eta` and `phi` take a momentum; `kind`, `charge` and `mass` take a PDG number."""

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(np.add),
    ast.Sub: _of_numbers(np.subtract),
    ast.Mult: np.multiply,
    ast.Div: _of_numbers(np.true_divide),
    ast.FloorDiv: _of_numbers(np.floor_divide),
    ast.Mod: _of_numbers(np.mod),
    ast.Pow: _of_numbers(np.power),
    ast.USub: _of_numbers(np.negative),
    ast.UAdd: lambda x: x,
    ast.Not: np.logical_not,
    ast.Invert: np.logical_not,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
"""Node of Python's grammar to its function. A product of conditions is a condition: 1 if both hold."""


def fold(operator: Callable[..., Any], parts: tuple[Any, ...]) -> Any:
    """Apply an operator of two arguments to all parts, from left to right."""
    result = parts[0]
    for part in parts[1:]:
        result = operator(result, part)
    return result


def chain(operators: list[Callable[..., Any]], parts: tuple[Any, ...]) -> Any:
    """Compare neighbouring parts, one operator for each pair: `a < b <= c`."""
    return fold(np.logical_and, tuple(op(a, b) for op, a, b in zip(operators, parts, parts[1:])))
