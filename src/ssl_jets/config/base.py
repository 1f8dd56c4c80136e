"""`Settings`: base of every settings class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from ssl_jets.setting_tree import merge


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys forbidden, field docs taken from the line under the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _merge_with_field_defaults(cls, values: Any) -> Any:
        """Fill nested settings with the defaults of their field, which may differ from the defaults of their class."""
        if not isinstance(values, Mapping):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        nested = {name: default for name, default in defaults.items() if isinstance(default, Settings)}
        return {
            name: merge(nested[name].model_dump(), value) if name in nested and isinstance(value, Mapping) else value
            for name, value in values.items()
        }

    @field_validator("*", mode="before")
    @classmethod
    def _switches_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `train.steps=yes`, which pydantic would turn into 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        takes_numbers = _allows(annotation, int) or _allows(annotation, float)
        if takes_numbers and not _allows(annotation, bool) and _has_switch(value):
            raise ValueError("a number, not yes or no")
        return value


def _allows(annotation: Any, kind: type) -> bool:
    """Return True if a type is `kind`, or has values of it, as `tuple[float, ...] | None` has."""
    return annotation is kind or any(_allows(part, kind) for part in get_args(annotation))


def _has_switch(value: Any) -> bool:
    """Return True for a bool, and for a list or dict with one."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_has_switch, inside))
