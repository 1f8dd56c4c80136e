"""Sources of a further collection in a schema: the numbers of its elements, and their links to the jets of an event."""

from __future__ import annotations

import re
from collections.abc import Collection as Names
from collections.abc import Mapping

from pydantic import Field

from ssl_jets.config import CollectionSettings, Settings
from ssl_jets.data.events.links import Link
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.value import FeatureSource, FormulaText

_NAME = re.compile(r"[A-Za-z_]\w*")
"""Names of collections: a module of the encoder has them."""


class ElementFeature(FeatureSource):
    """Source of a number of each element of a collection, with its definition."""

    absolute: bool = False
    """For deta and dphi: the value is eta or phi in the detector; the feature is its distance from the jet axis."""


class EventElements(Settings):
    """Branches of the elements in an event, and their link to the jets; the keys are as of `events` of a schema."""

    elements: tuple[dict[str, str | float], ...] = Field(min_length=1)
    """Name in formulas to the branch with a number for each element of the event, or to a constant."""
    containers: dict[str, dict[str, str]] = Field(default_factory=dict)
    """With element links: name of each container of elements to the words that replace names in braces."""
    link: Link
    """Link from jets to elements. Rows of a link table with a negative number of an element are passed over."""


class CollectionSource(Settings):
    """Further collection of each jet: a list of elements of its own length, with numbers of its own."""

    features: dict[str, ElementFeature] = Field(min_length=1)
    """Number of each element by name, as `features` of particles. pt, energy, deta and dphi have their usual meaning,
    also for augmentations."""
    cut: FormulaText | None = None
    """Cut that selects elements, such as the flag of real ones in a padded list."""
    most: int = Field(default=16, ge=1)
    """Elements of a jet that are read: the first ones of the file that pass the cut."""
    events: EventElements | None = None
    """Branches and link of the elements, if an entry is an event with several jets (`events` of the schema)."""

    def branches(self, names: Names[str]) -> tuple[str, ...]:
        """Return the branches of the features of these names and of the cut, each once."""
        branches = [branch for name in names for branch in self.features[name].branches]
        return tuple(dict.fromkeys((*branches, *(() if self.cut is None else formula(self.cut).names))))

    def definition(self, names: Names[str]) -> CollectionSettings:
        """Return the definition, with the features of these names, that becomes a part of the model."""
        return CollectionSettings(features={name: self.features[name].definition for name in names}, most=self.most)


def check_collections(
    collections: Mapping[str, CollectionSource], taken: Names[str], *, axis: bool, events: bool, cluster: bool
) -> None:
    """Check collections against the other keys of their schema.

    Args:
        collections: source of each collection by name.
        taken: names of other inputs.
        axis: the schema has an axis.
        events: an entry is an event with several jets.
        cluster: an entry is an event without jets, which are clustered.

    Raises:
        ValueError: a name that is taken or is not an identifier, an absolute number without an axis, a target, or
            missing or superfluous links.
    """
    if collections and cluster:
        raise ValueError("clustered jets have no collections, since nothing links their elements to them")
    for name, source in collections.items():
        if name in taken or not _NAME.fullmatch(name):
            raise ValueError(f"a collection cannot have the name {name}: it is taken, or not of letters and digits")
        if events != (source.events is not None):
            raise ValueError(f"the collection {name} {'needs' if events else 'has no'} `events`, as the jets do")
        for feature, one in source.features.items():
            if one.absolute and (feature not in ("deta", "dphi") or not axis):
                raise ValueError(f"{name}.{feature} is absolute, which is for deta and dphi, with an axis of the jet")
            if one.target:
                raise ValueError(f"{name}.{feature} is no target of decoders, which predict particles")
