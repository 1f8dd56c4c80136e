"""Base of typed results: frozen models that are written to JSON and read from it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from ssl_jets import __version__
from ssl_jets.arrays import Array
from ssl_jets.errors import DataError
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.reading import read_json
from ssl_jets.runtime.short_repr import ShortRepr

FORMAT_VERSION: Literal[2] = 2
"""Version of the JSON files; it rises when the names in them change. Version 1 has no baselines on observables."""


def _array(values: Any) -> Array:
    """Return an array of the numbers of a JSON list; null becomes NaN."""
    array = np.asarray(values)
    return array.astype(np.float64) if array.dtype == object else array


Values = Annotated[Array, PlainValidator(_array)]
"""Array in a result: a list in JSON, with null for NaN and infinity."""


def _with_nan(content: Any) -> Any:
    return (
        {name: math.nan if value is None else value for name, value in content.items()}
        if isinstance(content, Mapping)
        else content
    )


NAN_IF_NULL = BeforeValidator(_with_nan)
"""Validator of a data class of numbers, some of which may be NaN: null in JSON."""


class Result(BaseModel):
    """Base of results: frozen, unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def of_json(cls, content: Mapping[str, Any], where: Path) -> Self:
        """Return the result of JSON content.

        Raises:
            DataError: a name is missing, unknown, or has a value of another type.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            hint = "make them again, into another --out"
            text = "these results are damaged, or of another version of ssl-jets"
            raise DataError(text, where=where, found=found, hint=hint) from None


class Written(ShortRepr, Result):
    """Base of a result with a JSON file of its own: its first entries are the version of the format and the date.

    Attributes:
        NAME: of the file, without suffix.
        CURVES: name of the file of points of figures; empty without one.
        format_version: of the file.
        package_version: of ssl-jets.
        date: of the measurement, ISO 8601 in UTC.
        versions: of Python and of the packages that numbers depend on.
        folder: where it is written.
    """

    NAME: ClassVar[str]
    CURVES: ClassVar[str] = ""

    format_version: Literal[1, 2] = FORMAT_VERSION
    package_version: str = __version__
    date: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    versions: dict[str, str] = Field(default_factory=lambda: versions())
    folder: Path = Field(exclude=True)

    def metrics(self) -> dict[str, Any]:
        """Return the contents of the JSON file."""
        content: dict[str, Any] = plain(self)
        return content

    def curve_points(self) -> dict[str, Any]:
        """Return the contents of the file of points of figures."""
        return {}

    def write(self) -> None:
        """Write the JSON files to `folder`, each in one step, the one of metrics last."""
        if self.CURVES:
            write_text(self.folder / self.CURVES, json.dumps(self.curve_points()) + "\n")
        write_text(self.folder / f"{self.NAME}.json", json.dumps(self.metrics(), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the result in a folder.

        Raises:
            DataError: a file is missing, is not JSON, or is of another version.
        """
        path = folder / f"{cls.NAME}.json"
        return cls.of_json({**read_result(path), "folder": folder}, path)


class Facts(Result):
    """Base of facts of which JSON has those alone that were given."""

    @model_serializer(mode="wrap")
    def _only_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if name in self.model_fields_set}


def read_result(path: Path) -> dict[str, Any]:
    """Read the JSON file of a result.

    Raises:
        DataError: it is missing or is not JSON.
    """
    return read_json(path, "a file of results cannot be read")


def plain(value: Any, digits: int | None = None) -> Any:
    """Convert `value` to JSON: models and data classes to objects, arrays to lists, NaN and infinity to null.

    Args:
        value: the value.
        digits: significant digits of floats; all by default.
    """
    if isinstance(value, BaseModel):
        return plain(value.model_dump(), digits)
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value), digits)
    if isinstance(value, Mapping):
        return {str(name): plain(entry, digits) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    return value


def without(value: Any, *names: str) -> dict[str, Any]:
    """Return the fields of a model or data class by name, without some."""
    return {name: entry for name, entry in vars(value).items() if name not in names}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    packages = ("torch", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
