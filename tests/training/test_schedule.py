"""The way of a training, also where the number of its processes changes on it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssl_jets.training.schedule import Schedule


@given(steps=st.integers(1, 10**6), share=st.floats(0, 1))
def test_without_a_change_the_way_is_counted_in_steps_to_the_last_bit(steps: int, share: float) -> None:
    step = int(share * steps)
    assert Schedule(steps).at(step) == step
    assert Schedule(steps).progress(step) == step / steps


@given(steps=st.integers(2, 10**5), share=st.floats(0, 0.99), rest=st.integers(1, 10**5))
def test_after_a_change_it_goes_on_from_where_it_was_to_the_end_with_the_last_step(
    steps: int, share: float, rest: int
) -> None:
    step = int(share * steps)
    changed = Schedule(steps).stretched(step, step + rest)
    assert changed.at(step) == step
    assert abs(changed.progress(step + rest) - 1) < 1e-9
    assert changed.at(step) < changed.at(step + 1)
    again = changed.stretched(step + rest // 2, step + rest)
    assert abs(again.at(step + rest) - steps) < 1e-6 * steps
