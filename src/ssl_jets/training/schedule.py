"""Training progress as a function of the step, also when the number of processes changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Piecewise linear map from the step to the progress, for the learning rate and schedules of the methods.

    It counts progress in steps of the original length. A run of 100 steps that continues at step 40 on twice the ranks
    takes 30 more steps instead of 60, each of which counts twice:

    >>> schedule = Schedule(100).stretched(40, last=70)
    >>> [schedule.at(step) for step in (40, 41, 70)]
    [40.0, 42.0, 100.0]

    Attributes:
        steps: length of the schedule.
        done: progress at step `since`.
        since: step at which the number of processes last changed, 0 if it never did.
        last: step at which the progress reaches `steps`; `steps` if the number of processes never changed.
    """

    steps: int
    done: float = 0.0
    since: int = 0
    last: int = -1

    def __post_init__(self) -> None:
        if self.last < 0:
            object.__setattr__(self, "last", self.steps)

    def at(self, step: int) -> float:
        """Return the progress before a step, 0 to `steps`."""
        if step == self.since:
            return self.done
        return self.done + (self.steps - self.done) / (self.last - self.since) * (step - self.since)

    def progress(self, step: int) -> float:
        """Return the progress before a step, 0 to 1."""
        return self.at(step) / self.steps

    def stretched(self, step: int, last: int) -> Schedule:
        """Return the schedule whose rest, from `step` on, ends at step `last`."""
        return Schedule(self.steps, self.at(step), step, last)
