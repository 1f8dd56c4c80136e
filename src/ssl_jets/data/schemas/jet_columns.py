"""Columns of jets, compiled from a schema: branches in, numbers of the type of the column out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.bad_jets import BadJetError
from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas.feature_columns import Column, numbers_of
from ssl_jets.data.schemas.schema import Schema
from ssl_jets.data.schemas.value import Value


def jet_column(schema: Schema, name: str, dtype: npt.DTypeLike, *, rounded: bool = False) -> Column:
    """Compile a column of jets; integers are int64, since float32 would round them.

    Unsigned integers beyond int64 raise a `BadJetError`; if they may be `rounded`, the column is float64.
    """
    value = schema.jets.get(name, Value(branch=name))
    values, factor = numbers_of(value, of_jets=True), value.factor

    def column(rows: Rows) -> Array:
        array = values(rows)
        if array.dtype == np.uint64 and (beyond := np.flatnonzero(array > np.iinfo(np.int64).max)).size:
            if rounded:
                return array.astype(np.float64)
            raise _beyond_int64(name, array[beyond[0]], rows.where(beyond[0]))
        if array.dtype.kind in "iu":
            array = array.astype(np.int64)
        if factor != 1.0:  # 0.001 as float32 would be wrong by 5e-8 in columns of double precision
            array = array * (np.float32(factor) if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else factor)
        return np.require(array, requirements=["C", "W"]).astype(dtype, copy=False)

    return column


def _beyond_int64(name: str, value: object, where: str) -> BadJetError:
    return BadJetError(
        "a whole number of a jet column is too large: columns of jets have 64 bits with a sign",
        where=f"{where}, column {name}",
        found=value,
        allowed=["numbers below 2^63"],
    )
