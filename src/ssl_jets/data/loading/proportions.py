"""Several data sets in one stream, in proportions that the user chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.sources import resolve_sources
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate

SETTING = "data.proportions"


class ProportionStream:
    """Endless batches of jets of several data sets; the interface of `TrainStream`.

    Each set goes round at its own pace, with an order and a shuffling of its own, and within it each jet comes once a
    round. After any number of batches a set has given its share of all jets, to within one jet. An epoch is as many
    jets as all sets have together: a set with more than its natural share is gone through more often than once.

    Args:
        streams: one stream for each set.
        shares: share of each set, in the same order; they are divided by their sum.
        batch_size: jets of a batch, of all sets together.
    """

    def __init__(self, streams: Sequence[TrainStream], shares: Sequence[float], *, batch_size: int) -> None:
        self._streams, self._batch_size = list(streams), batch_size
        total, edge = sum(shares), 0.0
        self._edges = [0.0, *((edge := edge + share) / total for share in shares)]
        self._edges[-1] = 1.0
        self._taken = 0

    @property
    def jets_per_epoch(self) -> int:
        """Jets of all sets together."""
        return sum(stream.jets_per_epoch for stream in self._streams)

    @property
    def wait_seconds(self) -> float:
        """Time spent waiting for files."""
        return sum(stream.wait_seconds for stream in self._streams)

    @property
    def skipped(self) -> Counter[str]:
        """Jets left out so far, by reason."""
        return sum((stream.skipped for stream in self._streams), Counter[str]())

    def __next__(self) -> Jets:
        """The next batch."""
        return self.take(self._batch_size)

    def take(self, jets: int) -> Jets:
        """The next jets, of exactly this number, set after set."""
        # A set owns the jets between two edges; what lies there now less what lay there before is what it gives.
        before, now = ([round(edge * taken) for edge in self._edges] for taken in (self._taken, self._taken + jets))
        self._taken += jets
        numbers = [now[i + 1] - now[i] - before[i + 1] + before[i] for i in range(len(self._streams))]
        return concatenate([stream.take(number) for stream, number in zip(self._streams, numbers) if number])

    def state_dict(self) -> dict[str, Any]:
        """Where the streams stand."""
        return {"taken": self._taken, "sets": [stream.state_dict() for stream in self._streams]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken."""
        self._taken = state["taken"]
        for stream, its in zip(self._streams, state["sets"]):
            stream.load_state_dict(its)

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the states of all ranks of a run, of which there may have been another number."""
        self._taken = states[0]["taken"]
        for index, stream in enumerate(self._streams):
            stream.resume([state["sets"][index] for state in states])

    def close(self) -> None:
        """End the threads of all."""
        for stream in self._streams:
            stream.close()


def sets_of(
    files: Sequence[JetFile], parts: Sequence[EntryRange], proportions: Mapping[str, float]
) -> dict[str, list[EntryRange]]:
    """The parts that belong to each of the names in `proportions`, which are given as those of `--data`.

    Raises:
        UsageError: a file that no name or more than one name covers, or a name without jets to train on.
    """
    owner: dict[Path, str] = {}
    for name in proportions:
        for source in resolve_sources([name]):
            path = Path(source.path).resolve()
            if path in owner:
                raise UsageError(
                    "a file belongs to two data sets", where=SETTING, found=source, allowed=[owner[path], name]
                )
            owner[path] = name
    sets: dict[str, list[EntryRange]] = {name: [] for name in proportions}
    for part in parts:
        file = files[part.file].source
        its_set = owner.get(Path(file.path).resolve())
        if its_set is None:
            hint = f"--set '{SETTING}={{A: 0.7, B: 0.3}}' with names as for --data, which cover all of its files"
            raise UsageError("a file belongs to none of the data sets", where=SETTING, found=file, hint=hint)
        sets[its_set].append(part)
    if empty := [name for name, its in sets.items() if not its]:
        raise UsageError("a data set has no jets to train on", where=SETTING, found=empty[0])
    return sets
