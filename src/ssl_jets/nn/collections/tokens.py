"""Tokens of the elements of further collections, such as secondary vertices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssl_jets.config import CollectionSettings
from ssl_jets.jets import Jets, offsets_of
from ssl_jets.nn.features import DeclaredInputs


class Collections(nn.Module):
    """Tokens of the elements of further collections, in one set with the particles of a jet.

    Each collection has an embedding of its own, of the standardized numbers of its elements and of vectors of missing
    ones. A jet whose file lacks the collection has one token of it, with all numbers missing; a jet with an empty list
    has none. Of more elements than the definition reads, the first ones have a token.
    """

    def __init__(self, definitions: Mapping[str, CollectionSettings], width: int) -> None:
        super().__init__()
        self.names = tuple(definitions)
        self.most = {name: one.most for name, one in definitions.items()}
        # A module cannot have every name: `train` is one of its methods.
        self.inputs = nn.ModuleDict({f"of_{name}": DeclaredInputs(one.features) for name, one in definitions.items()})
        self.embed, self.missing = nn.ModuleDict(), nn.ParameterDict()
        for name, inputs in self._inputs.items():
            layers = (nn.Linear(inputs.width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            self.embed[f"of_{name}"] = nn.Sequential(*layers)
            self.missing[f"of_{name}"] = nn.Parameter(0.02 * torch.randn(len(inputs.names), width))

    def forward(self, particles: Tensor, jets: Jets) -> tuple[Tensor, Tensor, Tensor]:
        """Pack tokens of particles `[particle, width]` and those of all elements, jet by jet, particles first.

        Returns:
            Tokens `[token, width]`, their offsets int64 `[jet + 1]`, and the places of the particles `[particle]`.
        """
        sets = [(particles, jets.offsets)]
        for name, inputs in self._inputs.items():
            elements = self._elements(name, jets)
            values, missing = inputs(inputs.rows(elements))
            tokens = self.embed[f"of_{name}"](values) + missing @ self.missing[f"of_{name}"]
            sets.append((tokens, elements.offsets))
        # 2 and 1 particles, 1 and 2 elements -> offsets 0, 3, 6; particles at 0, 1, 3 and elements at 2, 4, 5.
        lengths = [offsets[1:] - offsets[:-1] for _, offsets in sets]
        offsets = offsets_of(torch.stack(lengths).sum(0))
        packed = particles.new_empty(sum(len(tokens) for tokens, _ in sets), particles.shape[1], dtype=torch.float32)
        first, places = offsets[:-1], []
        for (tokens, own), length in zip(sets, lengths, strict=True):
            shift = torch.repeat_interleave(first - own[:-1], length, output_size=len(tokens))
            places.append(torch.arange(len(tokens), device=shift.device) + shift)
            packed = packed.index_copy(0, places[-1], tokens.float())
            first = first + length
        return packed, offsets, places[0]

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the numbers of all elements on `batches` of the training stream."""
        batches = list(batches)
        for name, inputs in self._inputs.items():
            inputs.fit_statistics(inputs.rows(self._elements(name, jets)) for jets in batches)

    def describe(self) -> list[dict[str, Any]]:
        """Return the numbers of all collections with their statistics, named COLLECTION.NUMBER, as JSON."""
        numbers = [(name, one) for name, inputs in self._inputs.items() for one in inputs.describe()]
        return [{**one, "name": f"{name}.{one['name']}"} for name, one in numbers]

    @property
    def _inputs(self) -> dict[str, DeclaredInputs]:
        return {name: cast(DeclaredInputs, self.inputs[f"of_{name}"]) for name in self.names}

    def _elements(self, name: str, jets: Jets) -> Jets:
        """Return the elements of the jets; one of each, with all numbers missing, if the jets lack the collection."""
        if name in jets.collections:
            return first_elements(jets.collections[name], self.most[name])
        numbers = self._inputs[name].names
        mark = jets.particles.new_full((len(jets), len(numbers)), torch.nan)
        return Jets(mark, torch.arange(len(jets) + 1, device=jets.offsets.device), numbers)


def first_elements(elements: Jets, most: int) -> Jets:
    """Return the first elements of each jet, at most so many.

    Example:
        >>> elements = Jets.of([[[31.0, 0, 0], [4.0, 0, 0]], [[5.0, 0, 0]]], ("pt", "deta", "dphi"))
        >>> first_elements(elements, 1).column("pt").tolist()
        [31.0, 5.0]
    """
    if not len(elements) or int(elements.lengths.max()) <= most:
        return elements
    return elements.keep(elements.place < most)
