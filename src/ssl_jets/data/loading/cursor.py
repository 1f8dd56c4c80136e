"""The way of one process through the windows of all epochs, which can be taken up again by any number of processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ssl_jets.data.files import EntryRange
from ssl_jets.data.loading.plan import EpochPlan, Shard, reshard


class Cursor:
    """The windows that a process goes through, endlessly: what other processes left over, then those of its own plan.

    Args:
        plan_for: the plan for a number of processes.
        rank: number of this process.
        world: number of processes.
    """

    def __init__(self, plan_for: Callable[[int], EpochPlan], rank: int, world: int) -> None:
        self._plan_for, self.rank, self.world = plan_for, rank, world
        self._plans: dict[int, EpochPlan] = {}
        self._left: deque[Shard] = deque()
        self._epoch, self._window = 0, 0
        self.row = 0
        """Jets taken of the window in use."""

    def plan(self, world: int) -> EpochPlan:
        """The plan for a number of processes."""
        if world not in self._plans:
            self._plans[world] = self._plan_for(world)
        return self._plans[world]

    def rows(self, ahead: int = 0) -> Shard:
        """The window in use, or the one that comes `ahead` windows after it."""
        if ahead < len(self._left):
            return self._left[ahead]
        epoch, window = self._existing(self._epoch, self._window)
        for _ in range(ahead - len(self._left)):
            epoch, window = self._existing(epoch, window + 1)
        return Shard(epoch, self.world, self.rank, window)

    def parts(self, ahead: int = 0) -> list[EntryRange]:
        """The entries of that window."""
        rows = self.rows(ahead)
        return self.plan(rows.world).parts(rows)

    def leave(self) -> None:
        """Go on to the next window."""
        if self._left:
            self._left.popleft()
        else:
            epoch, window = self._existing(self._epoch, self._window)
            self._epoch, self._window = self._existing(epoch, window + 1)
        self.row = 0

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        left = [tuple(rows) for rows in self._left]
        return {"epoch": self._epoch, "window": self._window, "row": self.row, "left": left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken, by the same rank of as many."""
        self._epoch, self._window, self.row = state["epoch"], state["window"], state["row"]
        self._left = deque(Shard(*rows) for rows in state["left"])

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the states of all ranks of another number of processes.

        All that they left over of the epochs that any of them began is shared out among the processes of now; then a
        new epoch begins. So each jet still comes once in each epoch.
        """
        new_epoch = max(state["epoch"] + _begun(state) for state in states)
        rest = [rows for rank, state in enumerate(states) for rows in self._rest(state, rank, len(states), new_epoch)]
        self._epoch, self._window, self.row = new_epoch, 0, 0
        self._left = deque(reshard(rest, self.rank, self.world))

    def _rest(self, state: Mapping[str, Any], rank: int, world: int, end: int) -> list[Shard]:
        """What a rank had to do before the epoch `end`."""
        rows = [Shard(*left) for left in state["left"]]
        for epoch in range(state["epoch"], end):
            first = state["window"] if epoch == state["epoch"] else 0
            windows = range(first, len(self.plan(world).windows(epoch, rank)))
            rows += [Shard(epoch, world, rank, window) for window in windows]
        if rows:
            rows[0] = rows[0]._replace(start=rows[0].start + state["row"] * rows[0].step)
        return rows

    def _existing(self, epoch: int, window: int) -> tuple[int, int]:
        """The window itself, or the first one of the next epoch that has one for this process."""
        while window >= len(self.plan(self.world).windows(epoch, self.rank)):
            epoch, window = epoch + 1, 0
        return epoch, window


def _begun(state: Mapping[str, Any]) -> bool:
    """Whether a process had begun with its own windows of the epoch that it stood at."""
    return bool(state["window"] or (state["row"] and not state["left"]))
