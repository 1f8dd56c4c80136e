"""`CollectionDecoder`: branches of the elements of a collection to `Jets` of elements, compiled once."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from ssl_jets.data.collections.source import CollectionSource, ElementFeature
from ssl_jets.data.request import CollectionRequest
from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas.columns import RelativeColumn, feature_column, relative
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.schema import Axis, Schema
from ssl_jets.jets import Jets
from ssl_jets.records.particles import wrap_azimuth


class CollectionDecoder:
    """Compiled source and request of a collection: branches in, `Jets` of its elements out.

    Values are float32 in canonical units, NaN where missing; categories are indices.

    Attributes:
        branches: branches of the elements to read; none if the file lacks the collection, or all that is asked for.
        jet_branches: branches that the axis of the jet is computed from, if a feature is relative to it.
    """

    def __init__(self, schema: Schema, request: CollectionRequest, present: Collection[str]) -> None:
        self._request = request
        self.branches: tuple[str, ...] = ()
        self.jet_branches: tuple[str, ...] = ()
        self._columns: list[RelativeColumn] = []
        if not present:
            return
        known = [name for name in request.features if name in present]
        source: CollectionSource = schema.collections[request.name]
        self.branches = source.branches(known)
        self._cut = None if source.cut is None else formula(source.cut)
        sources = [source.features[name] if name in known else None for name in request.features]
        self._columns = [_element_column(name, one, schema.axis) for name, one in zip(request.features, sources)]
        if schema.axis is not None and any(one is not None and one.absolute for one in sources):
            self.jet_branches = schema.axis.branches

    def decode(self, rows: Rows) -> Jets:
        """Return the elements of each jet; in a file that lacks them, one element with all values missing."""
        names = self._request.features
        if not self.branches:
            marks = torch.full((len(rows), len(names)), torch.nan)
            return Jets(marks, torch.arange(len(rows) + 1), names)
        elements = rows.collections[self._request.name]
        if self._cut is not None:
            elements = elements.keep(self._cut.of_particles(elements).astype(bool))
        # Lengths 3, 1 and at most 2 elements: places 0, 1, 2, 0 -> the third is dropped.
        place = np.arange(elements.offsets[-1]) - elements.spread(elements.offsets[:-1])
        elements = elements.keep(place < self._request.most)
        values = np.empty((int(elements.offsets[-1]), len(names)), dtype=np.float32)
        for position, column in enumerate(self._columns):
            values[:, position] = column(elements, rows)
        if "dphi" in names:
            wrap_azimuth(values[:, names.index("dphi")])
        return Jets(torch.from_numpy(values), torch.from_numpy(elements.offsets), names)


def _element_column(name: str, source: ElementFeature | None, axis: Axis | None) -> RelativeColumn:
    """Compile a number of the elements, relative to the axis of the jet if it is absolute; missing without a source."""
    values = feature_column(source)
    if source is not None and source.absolute and axis is not None:
        return relative("deta" if name == "deta" else "dphi", values, axis)
    return lambda elements, jets: values(elements)
