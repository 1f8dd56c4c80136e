"""Position of one rank in the epoch plan; can be resumed with another number of ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ssl_jets.data.files import EntryRange
from ssl_jets.data.loading.epoch_plan import EpochPlan, Shard, reshard


class Cursor:
    """Endless walk of one rank through its shards: first the resharded ones after a resume, then its own."""

    def __init__(self, plan_for: Callable[[int], EpochPlan], rank: int, world: int) -> None:
        self._plan_for = plan_for
        self.rank = rank
        self.world = world
        self._plans: dict[int, EpochPlan] = {}
        self._resharded: deque[Shard] = deque()
        self._epoch, self._window = 0, 0
        self.row = 0
        """Jets taken of the current shard."""

    def plan(self, world: int) -> EpochPlan:
        """Return the epoch plan for a number of ranks."""
        if world not in self._plans:
            self._plans[world] = self._plan_for(world)
        return self._plans[world]

    def shard(self, ahead: int = 0) -> Shard:
        """Return the current shard, or the one `ahead` shards after it."""
        if ahead < len(self._resharded):
            return self._resharded[ahead]
        epoch, window = self._existing(self._epoch, self._window)
        for _ in range(ahead - len(self._resharded)):
            epoch, window = self._existing(epoch, window + 1)
        return Shard(epoch, self.world, self.rank, window)

    def ranges(self, ahead: int = 0) -> list[EntryRange]:
        """Return the entry ranges of that shard."""
        shard = self.shard(ahead)
        return self.plan(shard.world).ranges(shard)

    def advance(self) -> None:
        """Move to the next shard."""
        if self._resharded:
            self._resharded.popleft()
        else:
            epoch, window = self._existing(self._epoch, self._window)
            self._epoch, self._window = self._existing(epoch, window + 1)
        self.row = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, as saved in checkpoints."""
        left = [tuple(shard) for shard in self._resharded]
        return {"epoch": self._epoch, "window": self._window, "row": self.row, "left": left}

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resume from the states of all ranks of a run.

        From as many ranks as now, each goes on at its own position. From another number, the unfinished shards of every
        epoch that any rank began are resharded over the current ranks; then a new epoch begins. So each jet still comes
        once per epoch.
        """
        if len(states) == self.world:
            own = states[self.rank]
            self._epoch, self._window, self.row = own["epoch"], own["window"], own["row"]
            self._resharded = deque(Shard(*shard) for shard in own["left"])
            return
        # Two ranks with 3 windows each, to three ranks. Rank 0 stands at row 5 of window 1, rank 1 at the beginning of
        # window 2, both in epoch 0. Unfinished (rank, window): (0, 1) from row 5 on, (0, 2), (1, 2). `reshard` gives
        # every third jet of (0, 1) to each of the three ranks, and because two whole windows do not divide by three,
        # every third jet of (0, 2) and of (1, 2) as well. Then epoch 1 begins with the plan for three ranks.
        new_epoch = max(state["epoch"] + _has_begun(state) for state in states)
        unfinished = []
        for rank, state in enumerate(states):
            unfinished += self._unfinished(state, rank, len(states), new_epoch)
        self._epoch = new_epoch
        self._window = 0
        self.row = 0
        self._resharded = deque(reshard(unfinished, self.rank, self.world))

    def _unfinished(self, state: Mapping[str, Any], rank: int, world: int, end: int) -> list[Shard]:
        """Return the shards that a rank had not finished before epoch `end`."""
        shards = [Shard(*left) for left in state["left"]]
        for epoch in range(state["epoch"], end):
            first = state["window"] if epoch == state["epoch"] else 0
            windows = range(first, len(self.plan(world).windows(epoch, rank)))
            shards += [Shard(epoch, world, rank, window) for window in windows]
        if shards:  # 4 jets taken of every third one from jet 1 on: goes on at jet 1 + 4 * 3 = 13
            shards[0] = shards[0]._replace(start=shards[0].start + state["row"] * shards[0].step)
        return shards

    def _existing(self, epoch: int, window: int) -> tuple[int, int]:
        """Return the window itself, or the first one of the next epoch that has a window for this rank."""
        while window >= len(self.plan(self.world).windows(epoch, self.rank)):
            epoch, window = epoch + 1, 0
        return epoch, window


def _has_begun(state: Mapping[str, Any]) -> bool:
    """Check whether a rank had taken jets of its own windows of its epoch."""
    return bool(state["window"] or (state["row"] and not state["left"]))
