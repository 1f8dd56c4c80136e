"""Formulas of weaver, which are Python with numpy and awkward, in the language of `formula.py`."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from ssl_jets.data.schemas.formula import NAMES, formula
from ssl_jets.errors import UsageError

_MODULES = ("np", "numpy", "math", "ak", "awkward")
_RENAMED = {"arctan2": "arctan2", "atan2": "arctan2", "absolute": "abs", "fabs": "abs", "asinh": "arcsinh"}
_MOST_LEVELS = 20


def translated(text: str, variables: Mapping[str, str]) -> str:
    """Translate a formula; names of `variables` are replaced by their own formulas.

    Raises:
        ValueError: it has something that our formulas do not have.

    Example:
        >>> translated("np.log(part_pt) > 1", {"part_pt": "np.hypot(part_px, part_py)"})
        'log(hypot(part_px, part_py)) > 1'
        >>> translated("(jet_pt>500) & ~is_data", {})
        'jet_pt > 500 and (not is_data)'
    """
    try:
        tree = _Translation(variables).visit(ast.parse(str(text).strip(), mode="eval"))
        result = ast.unparse(ast.fix_missing_locations(tree))
        formula(result)
    except SyntaxError:
        raise ValueError("it is no expression") from None
    except UsageError as error:
        raise ValueError(str(error.found or error.what)) from None
    return result


class _Translation(ast.NodeTransformer):
    """Replacement of names, functions and operators."""

    def __init__(self, variables: Mapping[str, str], level: int = 0) -> None:
        self.variables, self.level = variables, level

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.variables:
            return node
        if self.level > _MOST_LEVELS:
            raise ValueError(f"{node.id} is defined by itself")
        inner = ast.parse(str(self.variables[node.id]).strip(), mode="eval").body
        result: ast.AST = _Translation(self.variables, self.level + 1).visit(inner)
        return result

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        if isinstance(function, ast.Attribute) and ast.unparse(function.value) in _MODULES:
            name = function.attr
        elif isinstance(function, ast.Name):
            name = function.id
        else:
            raise ValueError(f"{ast.unparse(function)} is no function of formulas")
        name = _RENAMED.get(name, name)
        if name not in NAMES or node.keywords:
            raise ValueError(f"{ast.unparse(node)}: {name} is no function of formulas")
        return ast.Call(ast.Name(name, ast.Load()), [self.visit(one) for one in node.args], [])

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        logical = {ast.BitAnd: ast.And(), ast.BitOr: ast.Or()}.get(type(node.op))
        left, right = self.visit(node.left), self.visit(node.right)
        if logical is not None and any(isinstance(side, ast.Constant) for side in (left, right)):
            raise ValueError(f"{ast.unparse(node)}: formulas do not select bits")
        return ast.BinOp(left, node.op, right) if logical is None else ast.BoolOp(logical, [left, right])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        operator = ast.Not() if isinstance(node.op, ast.Invert) else node.op
        return ast.UnaryOp(operator, self.visit(node.operand))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        raise ValueError(f"{ast.unparse(node)}: formulas do not select elements")  # `a[0]` is a column of a table there
