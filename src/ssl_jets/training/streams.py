"""The stream of batches of a training: what the loop needs of it, and which one the settings ask for."""

from __future__ import annotations

import math
import time

from lightning_fabric import Fabric

from ssl_jets.config import DataSettings, MethodSettings, RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.files import EntryRange, JetFile, shared_columns
from ssl_jets.data.loading.base import Stream
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.mixed import MixedStream, shares
from ssl_jets.data.loading.proportions import ProportionStream, sets_of
from ssl_jets.data.loading.stream import Request, TrainStream
from ssl_jets.data.seen import check_same, fingerprint
from ssl_jets.jets import Jets
from ssl_jets.runtime.process_group import Ranks


class Rates:
    """Rates since the last logged line."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.reset(0)

    def reset(self, jets: int) -> None:
        self.jets, self.time, self.wait = jets, time.monotonic(), self.stream.wait_seconds

    def rates(self, jets: int) -> dict[str, float]:
        """jets/s, and the share of the time spent waiting for data."""
        elapsed = max(time.monotonic() - self.time, 1e-9)
        rates = {
            "jets_per_second": (jets - self.jets) / elapsed,
            "data_wait": (self.stream.wait_seconds - self.wait) / elapsed,
        }
        self.reset(jets)
        return rates


def open_for(settings: DataSettings, fabric: Fabric) -> Dataset:
    """The files of a training, which must be the same for all of its processes: each reads a share of them."""
    data = open_dataset(settings)
    check_same(Ranks(fabric.global_rank, fabric.world_size).gather(fingerprint(data.files)))
    return data


def make_stream(
    data: Dataset,
    settings: RunSettings[MethodSettings],
    fabric: Fabric,
    request: Request,
    subset: Jets | None = None,
) -> TrainStream | MemoryStream | ProportionStream | MixedStream:
    """The training stream of this rank: of the `subset` or all of `data.train`, mixed with `data.unlabelled`."""
    seed, batch_size = settings.train.seed, settings.train.batch_size
    place = {"rank": fabric.global_rank, "world": fabric.world_size}

    def read(
        files: list[JetFile], parts: list[EntryRange], size: int, request: Request, seed: int, share: float = 1.0
    ) -> TrainStream:
        more = {"buffer": math.ceil(share * settings.data.buffer), "workers": settings.data.workers}
        return TrainStream(files, parts, batch_size=size, seed=seed, request=request, **more, **place)

    def labelled(size: int) -> TrainStream | MemoryStream | ProportionStream:
        if subset is not None:
            return MemoryStream(subset, batch_size=size, seed=seed, **place)
        if not settings.data.proportions:
            return read(data.files, data.train, size, request, seed)
        shared_columns([data.files[part.file] for part in data.train])
        sets = sets_of(data.files, data.train, settings.data.proportions)
        portions = [settings.data.proportions[name] / sum(settings.data.proportions.values()) for name in sets]
        streams = [read(data.files, sets[name], size, request, seed, share) for name, share in zip(sets, portions)]
        return ProportionStream(streams, portions, batch_size=size)

    if not data.unlabelled:
        return labelled(batch_size)
    few, others = shares(batch_size, settings.data.unlabelled_ratio)
    shared_columns([data.files[part.file] for part in data.all_train])
    without = Request.of(settings.data)
    # Another seed, so that the same jets do not come at the same time with and without their labels.
    return MixedStream(labelled(few), read(data.blind, data.unlabelled, others, without, seed + 1))
