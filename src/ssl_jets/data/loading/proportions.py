"""Mixture of several data sets in one stream, in given proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.base import JoinedStreams
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.sources import resolve_sources
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate

SETTING = "data.proportions"


class ProportionStream(JoinedStreams):
    """Endless batches of jets of several data sets, with the interface of `TrainStream`.

    Each set has its own epochs and its own shuffling; each of its jets comes once per epoch of the set. After any
    number of batches each set has contributed its share of all jets, to within one jet. An epoch of the mixture has as
    many jets as all sets together: a set with more than its natural share is read more than once in it.

    Args:
        streams: one stream for each set.
        shares: share of each set, in the same order; they are divided by their sum.
        batch_size: jets of a batch, of all sets together.
    """

    def __init__(self, streams: Sequence[TrainStream], shares: Sequence[float], *, batch_size: int) -> None:
        super().__init__(streams)
        self._streams, self._batch_size = list(streams), batch_size
        self._shares = [share / sum(shares) for share in shares]
        self._taken = 0
        self._given = [0] * len(self._streams)

    def __next__(self) -> Jets:
        """Return the next batch."""
        return self.take(self._batch_size)

    def take(self, jets: int) -> Jets:
        """Return exactly this number of jets, the next ones of the mixture, set after set."""
        # The quota method (Balinski, Young, Am. Math. Monthly 82, 701, 1975): each jet goes to a set that has less than
        # its share of all, of these to the one with most share a jet. Shares 0.5, 0.3 and 0.2: sets 0, 1, 0, 2, 0, 1.
        before = list(self._given)
        for _ in range(jets):
            self._taken += 1
            due = [index for index, share in enumerate(self._shares) if self._given[index] < share * self._taken]
            self._given[max(due, key=lambda index: self._shares[index] / (self._given[index] + 1))] += 1
        numbers = [given - own for given, own in zip(self._given, before)]
        return concatenate([stream.take(number) for stream, number in zip(self._streams, numbers) if number])

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler states of all streams."""
        return {
            "taken": self._taken,
            "given": list(self._given),
            "sets": [stream.state_dict() for stream in self._streams],
        }

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resume from the states of all ranks of a run, which may have had another number of ranks."""
        self._taken, self._given = states[0]["taken"], list(states[0]["given"])
        for index, stream in enumerate(self._streams):
            stream.resume([state["sets"][index] for state in states])


def assign_to_sets(
    files: Sequence[JetFile], ranges: Sequence[EntryRange], proportions: Mapping[str, float]
) -> dict[str, list[EntryRange]]:
    """Assign the entry ranges to the data sets named in `proportions`, with names as for `--data`.

    Raises:
        UsageError: a file in no data set or in several, or a data set without jets to train on.
    """
    owner: dict[tuple[str, str | None], str] = {}
    for name in proportions:
        for source in resolve_sources([name]):
            if (other := owner.setdefault(source.key, name)) != name:
                raise UsageError("a file belongs to two data sets", where=SETTING, found=source, allowed=[other, name])
    sets: dict[str, list[EntryRange]] = {name: [] for name in proportions}
    for part in ranges:
        file = files[part.file].source
        set_name = owner.get(file.key)
        if set_name is None:
            hint = f"--set '{SETTING}={{A: 0.7, B: 0.3}}' with names as for --data, which cover all of its files"
            raise UsageError("a file belongs to none of the data sets", where=SETTING, found=file, hint=hint)
        sets[set_name].append(part)
    if empty := [name for name, own in sets.items() if not own]:
        raise UsageError("a data set has no jets to train on", where=SETTING, found=empty[0])
    return sets
