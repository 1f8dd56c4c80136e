"""`Settings`: base of every settings class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

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
