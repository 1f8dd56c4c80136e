"""How far a training is on its way, also where the number of its processes changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How far a training is on its way, for the learning rate and for what the methods change with time.

    Attributes:
        steps: length of the way.
        done: how far the training was at its step `since`.
        since: the step at which the number of processes last changed, 0 where it never did.
        last: the step that comes to the end of the way; `steps` where it never did.
    """

    steps: int
    done: float = 0.0
    since: int = 0
    last: int = -1

    def __post_init__(self) -> None:
        if self.last < 0:
            object.__setattr__(self, "last", self.steps)

    def at(self, step: int) -> float:
        """How far of `steps` the training is before the given step."""
        if step == self.since:
            return self.done
        return self.done + (self.steps - self.done) / (self.last - self.since) * (step - self.since)

    def progress(self, step: int) -> float:
        """The same as a share."""
        return self.at(step) / self.steps

    def stretched(self, step: int, last: int) -> Schedule:
        """The rest of the way from `step` on in more or fewer steps."""
        return Schedule(self.steps, self.at(step), step, last)
