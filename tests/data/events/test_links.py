"""Jets and particles of events are joined as the file says, whatever the order, with gaps, and nothing made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_jets.data.events.links import Links, by_range, by_reference, by_table
from ssl_jets.errors import DataError

Event = tuple[int, list[list[int]]]
"""Particles of an event, and the numbers of those of each jet."""
Array = npt.NDArray[Any]

NAMES: dict[str, Any] = {"entries": np.arange(30, 40), "place": "a.root"}


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    found: list[Event] = []
    for _ in range(draw(st.integers(0, 4))):
        particles = draw(st.integers(0, 6))
        jet = st.lists(st.integers(0, particles - 1), max_size=8) if particles else st.just([])
        found.append((particles, draw(st.lists(jet, max_size=4))))
    return found


def whole(values: Any, kind: Any = np.int64) -> Array:
    return np.array(values, dtype=kind)


def expected(events: list[Event]) -> list[list[int]]:
    """The reference: event by event, jet by jet."""
    found, first = [], 0
    for particles, jets in events:
        found += [[first + number for number in jet] for jet in jets]
        first += particles
    return found


def as_lists(links: Links) -> list[list[int]]:
    return [links.particle[start:stop].tolist() for start, stop in zip(links.offsets[:-1], links.offsets[1:])]


def counts(events: list[Event]) -> tuple[Array, Array]:
    return whole([len(jets) for _, jets in events]), whole([particles for particles, _ in events])


@given(events(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_a_table_in_any_order_gives_each_jet_its_particles(events: list[Event], random: Any) -> None:
    rows, jet, particle = [], [], []
    for _, jets in events:
        table = [(number, one) for number, jet_ in enumerate(jets) for one in jet_]
        # Rows of one jet keep their order; those of different jets come mixed.
        places = sorted(range(len(table)), key=lambda place: random.random())
        owners = [table[place][0] for place in places]
        left = {number: [one for number_, one in table if number_ == number] for number in owners}
        jet += owners
        particle += [left[number].pop(0) for number in owners]
        rows.append(len(table))
    links = by_table(*counts(events), whole(rows), whole(jet), whole(particle), **NAMES)
    assert as_lists(links) == expected(events)
    assert not links.lost.any()


@given(events(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_references_are_resolved_within_their_event_whatever_their_high_byte(events: list[Event], random: Any) -> None:
    identity, reference, lengths = [], [], []
    for particles, jets in events:
        # Two events use the same numbers, in another order.
        numbers = random.sample(range(60), particles)
        identity += [number | random.choice([0, 1 << 24, 0x86 << 24]) for number in numbers]
        reference += [numbers[one] | random.choice([0, 3 << 24]) for jet in jets for one in jet]
        lengths += [len(jet) for jet in jets]
    jets_of, particles_of = counts(events)
    owner = np.repeat(np.arange(len(particles_of)), particles_of)
    shuffled = np.array(random.sample(range(len(owner)), len(owner)), dtype=np.int64)
    identities = whole(identity, np.uint32)[shuffled]
    links = by_reference(jets_of, whole(lengths), whole(reference, np.uint32), owner[shuffled], identities)
    links = Links(links.offsets, shuffled[links.particle], links.lost)
    assert as_lists(links) == expected(events)
    assert not links.lost.any()


@given(events(), st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_ranges_of_a_list_give_each_jet_its_particles(events: list[Event], gap: int) -> None:
    rows, begin, end, particle = [], [], [], []
    for _, jets in events:
        at = 0
        for jet in jets:
            begin.append(at + gap)  # the list also has particles of no jet
            end.append(at + gap + len(jet))
            particle += [0] * gap + jet
            at = end[-1]
        rows.append(at)
    links = by_range(
        *counts(events), whole(rows), whole(begin, np.uint32), whole(end, np.uint32), whole(particle, np.int32), **NAMES
    )
    assert as_lists(links) == expected(events)
    assert not links.lost.any()


def test_links_to_particles_that_are_not_there_are_counted_for_their_jet() -> None:
    jets, particles = whole([2, 1]), whole([3, 2])
    table = by_table(jets, particles, whole([3, 2]), whole([0, 0, 1, 0, 0]), whole([0, 3, -1, 1, 2]), **NAMES)
    assert (as_lists(table), table.lost.tolist()) == ([[0], [], [4]], [1, 1, 1])
    references = by_reference(
        jets, whole([2, 0, 2]), whole([7, 9, 7, 4]), whole([0, 0, 0, 1, 1]), whole([7, 8, 5, 4, 3])
    )
    assert (as_lists(references), references.lost.tolist()) == ([[0], [], [3]], [1, 0, 1])
    nothing = by_reference(jets, whole([2, 0, 1]), whole([7, 9, 7]), whole([]), whole([]))
    assert (as_lists(nothing), nothing.lost.tolist()) == ([[], [], []], [2, 0, 1])


def test_a_row_of_a_jet_that_is_not_there_is_refused_and_one_of_no_jet_passed_over() -> None:
    jets, particles = whole([1, 1]), whole([3, 3])
    links = by_table(jets, particles, whole([2, 1]), whole([-1, 0, 0]), whole([0, 1, 2]), **NAMES)
    assert as_lists(links) == [[1], [5]]
    with pytest.raises(DataError, match=r"(?s)a\.root, entry 30.*jet 1 of 1"):
        by_table(jets, particles, whole([2, 1]), whole([0, 1, 0]), whole([0, 1, 2]), **NAMES)


@pytest.mark.filterwarnings("error")
def test_a_missing_number_is_of_no_jet_and_of_no_particle() -> None:
    jet, particle = np.array([0, np.nan, 0]), np.array([0, 1, np.nan])
    links = by_table(whole([1]), whole([3]), whole([3]), jet, particle, **NAMES)
    assert (as_lists(links), links.lost.tolist()) == ([[0]], [1])


@pytest.mark.parametrize(("begin", "end"), [(0, 4), (2, 1), (-1, 1)])
def test_a_range_beyond_its_list_is_refused(begin: int, end: int) -> None:
    with pytest.raises(DataError, match=r"(?s)beyond the list.*a\.root, entry 30"):
        by_range(whole([1]), whole([5]), whole([3]), whole([begin]), whole([end]), whole([0, 1, 2]), **NAMES)
