"""Types of jet columns: of one file, and the common type of several files.

Floating types stay as they are (up to float64), whole numbers are int64. In a column with missing values, or with
floating numbers in another file, whole numbers and flags are float64, which is exact up to 2^53. A formula gives
float32, or float64 if it reads numbers of jets that float32 would round: float64, or whole numbers of 32 bits or more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_jets.data.readers.base import Table
from ssl_jets.data.schemas.schema import Schema
from ssl_jets.data.schemas.value import branch_value


@dataclass(frozen=True)
class JetTypes:
    """Types of the jet columns of a file.

    Attributes:
        of: jet column to its type.
        rounded: columns of 64-bit integers that are converted to float64.
    """

    of: Mapping[str, np.dtype[Any]]
    rounded: frozenset[str] = frozenset()


def own_types(schema: Schema, table: Table, names: Sequence[str]) -> JetTypes:
    """Return the types of the jet columns `names` of one file."""
    types: dict[str, np.dtype[Any]] = {}
    rounded = set()
    for name in names:
        value = schema.jets.get(name) or branch_value(name)
        if value.branch is None:
            read = [table.number(branch).dtype for branch in value.branches if table.depth(branch) == 0]
            dtype, missing = np.result_type(np.float32, *read), False
        else:
            dtype, missing = table.number(value.branch)
        if missing and dtype.kind != "f":
            types[name] = np.dtype(np.float64)
            rounded |= {name} if dtype.itemsize == 8 else set()
        elif dtype.kind in "iu":
            types[name] = np.dtype(np.int64)
        else:
            types[name] = dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
        if value.factor != 1.0:
            types[name] = np.result_type(types[name], np.float32)
    return JetTypes(types, frozenset(rounded))


def common_types(files: Sequence[JetTypes]) -> list[JetTypes]:
    """Return the types of each file, promoted so that a jet column has one type in all of them."""
    common = dict(files[0].of)
    for file in files[1:]:
        if file.of != common:
            for name, dtype in file.of.items():
                common[name] = np.promote_types(common.get(name, dtype), dtype)
    floats = {name for name, dtype in common.items() if dtype.kind == "f"}

    def in_common(file: JetTypes) -> JetTypes:
        if file.of == common:
            return file
        whole_numbers = {name for name, dtype in file.of.items() if dtype.kind == "i" and name in floats}
        return JetTypes({name: common[name] for name in file.of}, file.rounded | whole_numbers)

    return [in_common(file) for file in files]
