"""Methods as text for the terminal, read from their source: a method's file imports torch, which takes seconds.

A test compares every default and description with those of the settings class itself.
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

from ssl_jets import methods
from ssl_jets.config import Settings, recipe


def list_methods() -> str:
    """Return one line for each method: its name and the first line of its file."""
    found = [(name, _text(name).splitlines()[0].rstrip(".")) for name in methods.names()]
    width = max(len(name) for name, _ in found)
    return "\n".join(f"{name:<{width}}  {line}" for name, line in found)


def describe_method(name: str) -> str:
    """Return the docstring of a method's file, its settings with their defaults, and its recipe."""
    methods.check(name)
    lines = [_text(name), "", "Settings (--set KEY=VALUE):"]
    lines += [
        line
        for key, default, description in described_settings(name)
        for line in (f"  {key}" + ("" if default is None else f" = {default}"), f"      {description}")
    ]
    settings = [f"{tree}.{key} = {value}" for tree, values in recipe(name).items() for key, value in values.items()]
    if settings:
        lines += ["", "Recipe: " + ", ".join(settings)]
    return "\n".join(lines)


def described_settings(name: str) -> list[tuple[str, str | None, str | None]]:
    """Return key, default and description of each setting; nested settings follow a key `KEY.*` without a default."""
    return list(_rows(_Source.of(f"{methods.__name__}.{name}").config(), "method"))


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
    """A settings class as its source has it; called with new defaults as the class would be: `Views(drop=0.0)`."""

    fields: dict[str, _Field]

    def __call__(self, **values: Any) -> _Config:
        changed = {key: replace(self.fields[key], default=value) for key, value in values.items()}
        return _Config(self.fields | changed)


class _Source(dict[str, Any]):
    """Names at the top of a module, each evaluated from the source when it is asked for."""

    def __init__(self, module: str) -> None:
        super().__init__()
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        self.tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))

    @staticmethod
    @cache
    def of(module: str) -> _Source:
        """Return the source of a module, read once."""
        return _Source(module)

    def config(self) -> _Config:
        """Return the settings of the method that the module defines."""
        nested = (inner for node in self.tree.body if isinstance(node, ast.ClassDef) for inner in node.body)
        (config,) = (node for node in nested if isinstance(node, ast.ClassDef) and node.name == "Config")
        return self._settings(config)

    def __missing__(self, name: str) -> Any:
        for node in self.tree.body:
            match node:
                case ast.ImportFrom(module=str(module), names=names) if name in (alias.name for alias in names):
                    own = module.startswith("ssl_jets.") and module != Settings.__module__
                    return _Source.of(module)[name] if own else getattr(import_module(module), name)
                case ast.Import(names=names) if name in (alias.name for alias in names):
                    return import_module(name)
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    return self._value(value)
                case ast.ClassDef(name=target) if target == name:
                    return self._settings(node)
        raise KeyError(name)  # a name of Python itself

    def _value(self, node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "<default>", "eval"), {}, self)  # of our own source

    def _settings(self, node: ast.ClassDef) -> _Config:
        """Return the fields of a settings class: those of its bases, then its own."""
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
