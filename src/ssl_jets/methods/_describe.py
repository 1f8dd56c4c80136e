"""Descriptions of methods for the terminal, read from their source without importing torch, which takes seconds.

A test compares every default, description and recipe with the method's class.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ssl_jets import config, methods
from ssl_jets.config import Recipe, Settings
from ssl_jets.errors import SslJetsError


def list_methods() -> str:
    """Return one line for each method: its name and the first line of its file."""
    titles = {name: _title(name) for name in methods.names()}
    width = max(len(name) for name in titles)
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())


def describe_method(name: str) -> str:
    """Return the docstring of a method's file, its settings with their defaults, and its recipe.

    Raises:
        UsageError: there is no such method.
        SslJetsError: its source cannot be described without importing it.
    """
    methods.check(name)
    try:
        return _described(name)
    except Exception as error:
        what, found = "the file of the method cannot be described", f"{type(error).__name__}: {error}"
        hint = "a docstring, and a class Config of literals and names of the file, as in docs/add-a-method.md"
        raise SslJetsError(what, where=methods.file_of(name), found=found, hint=hint) from error


def _title(name: str) -> str:
    """Return the first line of a method's file; for a file of the user that has none, the reason."""
    try:
        return (_text(name) or "no docstring").splitlines()[0].rstrip(".")
    except SyntaxError as error:
        return f"cannot be read: {error}"


def _described(name: str) -> str:
    lines = [_text(name), "", "Settings (--set KEY=VALUE):"]
    lines += [
        line
        for key, default, description in described_settings(name)
        for line in (f"  {key}" + ("" if default is None else f" = {default}"), f"      {description or ''}")
    ]
    layer = described_recipe(name).layer()
    settings = [
        f"{tree}.{key} = {value if isinstance(value, str) else format(value, 'g')}"
        for tree, values in layer.items()
        for key, value in values.items()
    ]
    lines += ["", "Recipe: " + ", ".join(settings)]
    return "\n".join(lines)


def described_settings(name: str) -> list[tuple[str, str | None, str | None]]:
    """Return key, default and description of each setting; nested settings follow a key `KEY.*` without a default."""
    return list(_rows(_Source.of(f"{methods.__name__}.{name}").config(), "method"))


def described_recipe(name: str) -> Recipe:
    """Return the recipe of a method."""
    return _Source.of(f"{methods.__name__}.{name}").recipe()


def _rows(config: _Config, path: str) -> Iterator[tuple[str, str | None, str | None]]:
    for key, field in config.fields.items():
        if isinstance(field.default, _Config):
            yield f"{path}.{key}.*", None, field.description
            yield from _rows(field.default, f"{path}.{key}")
        elif key != "name":
            yield f"{path}.{key}", repr(field.default), field.description


def _text(name: str) -> str:
    return ast.get_docstring(_Source.of(f"{methods.__name__}.{name}").tree) or ""


@dataclass(frozen=True)
class _Field:
    default: Any
    description: str | None


@dataclass(frozen=True)
class _Config:
    """A settings class as written in its source; a call replaces defaults, as in `Views(drop=0.0)`."""

    fields: dict[str, _Field]

    def __call__(self, **values: Any) -> _Config:
        changed = {key: replace(self.fields[key], default=value) for key, value in values.items()}
        return _Config(self.fields | changed)


class _Source(dict[str, Any]):
    """Top-level names of a module, each evaluated from the source on first access."""

    def __init__(self, module: str) -> None:
        super().__init__()
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        self.tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)

    @staticmethod
    @cache
    def of(module: str) -> _Source:
        """Return the source of a module, read once."""
        return _Source(module)

    def config(self) -> _Config:
        """Return the settings of the method that the module defines."""
        (config,) = (node for node in self._members() if isinstance(node, ast.ClassDef) and node.name == "Config")
        return self._settings(config)

    def recipe(self) -> Recipe:
        """Return the recipe of the method that the module defines; by default the one of `Method`."""
        for node in self._members():
            match node:
                case ast.AnnAssign(target=ast.Name(id="recipe"), value=ast.expr() as value):
                    recipe: Recipe = self._value(value)
                    return recipe
        return Recipe()

    def _members(self) -> Iterator[ast.stmt]:
        """Return the statements in the bodies of the module's classes."""
        return (member for node in self.tree.body if isinstance(node, ast.ClassDef) for member in node.body)

    def __missing__(self, name: str) -> Any:
        for node in self.tree.body:
            match node:
                case ast.ImportFrom(module=str(module), names=names) if name in (alias.name for alias in names):
                    own = module.startswith("ssl_jets.") and not module.startswith(config.__name__)
                    return _Source.of(module)[name] if own else getattr(import_module(module), name)
                case ast.Import(names=names) if name in (alias.name for alias in names):
                    return import_module(name)
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    return self._value(value)
                case ast.ClassDef(name=target) if target == name:
                    return self._settings(node)
        raise KeyError(name)  # eval then looks in the builtins

    def _value(self, node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "<default>", "eval"), {}, self)  # source of methods

    def _settings(self, node: ast.ClassDef) -> _Config:
        """Return the fields of a settings class: first inherited ones, then its own."""
        fields: dict[str, _Field] = {}
        for base in map(self._value, node.bases):
            own = {key: _Field(field.default, field.description) for key, field in _model_fields(base).items()}
            fields |= base.fields if isinstance(base, _Config) else own
        for line, below in zip(node.body, [*node.body[1:], None]):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
                value = self._value(line.value)
                default = value.default if isinstance(value, FieldInfo) else value
                fields[line.target.id] = _Field(default, _docstring(below))
        return _Config(fields)


def _model_fields(base: Any) -> dict[str, FieldInfo]:
    return base.model_fields if isinstance(base, type) and issubclass(base, Settings) else {}


def _docstring(node: ast.stmt | None) -> str | None:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    return None
