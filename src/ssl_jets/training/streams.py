"""Batch stream of a training: chosen by the settings, and its throughput."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path

from lightning_fabric import Fabric

from ssl_jets.config import DataSettings, MethodSettings, RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.base import Stream
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.mixed import MixedStream, shares
from ssl_jets.data.loading.proportions import ProportionStream, assign_to_sets
from ssl_jets.data.loading.shard_cache import ShardCache
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.data.seen import check_same, fingerprint
from ssl_jets.data.shared import shared_columns
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.runtime.console import log
from ssl_jets.runtime.process_group import Ranks


class Throughput:
    """Jets per second and waiting time since the last logged line."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.reset(0)

    def reset(self, jets: int) -> None:
        """Start a new interval at `jets` jets."""
        self.jets, self.time = jets, time.monotonic()
        self.wait = self.stream.wait_seconds

    def rates(self, jets: int) -> dict[str, float]:
        """Return jets/s and the fraction of the time spent waiting for data, and start a new interval."""
        elapsed = max(time.monotonic() - self.time, 1e-9)
        rates = {
            "jets_per_second": (jets - self.jets) / elapsed,
            "data_wait": (self.stream.wait_seconds - self.wait) / elapsed,
        }
        self.reset(jets)
        return rates


def open_on_all_ranks(settings: DataSettings, fabric: Fabric) -> Dataset:
    """Open the files of a training and check that all ranks see the same files, since each reads a share."""
    data = open_dataset(settings)
    ranks, own = Ranks(fabric.global_rank, fabric.world_size), fingerprint(data.files)
    # Digests first: lists of 10,000 files from 1,000 processes would take a gigabyte in each of them.
    if len(set(ranks.gather(hashlib.sha256(repr(own).encode()).hexdigest()))) > 1:
        check_same(ranks.gather(own))
    return data


def open_cache(settings: DataSettings) -> ShardCache | None:
    """Open the cache of decoded jets of the settings; None without one.

    Raises:
        UsageError: the folder holds other files, there is no home folder as it names, or files may refer to others,
            whose changes a cache would not see.
    """
    if settings.cache is None:
        return None
    if settings.external:
        hint = "without data.cache, or without data.external"
        raise UsageError("files that refer to other files cannot be cached", where="data.cache", hint=hint)
    try:
        folder = Path(settings.cache).expanduser()
    except RuntimeError as error:
        raise UsageError("there is no such home folder", where="data.cache", found=error) from None
    return ShardCache(folder, 1e9 * settings.cache_gb, log)


def make_stream(
    data: Dataset,
    settings: RunSettings[MethodSettings],
    fabric: Fabric,
    request: Request,
    subset: Jets | None = None,
) -> TrainStream | MemoryStream | ProportionStream | MixedStream:
    """Make the training stream of this rank: `subset` or all of `data.train`, mixed with `data.unlabelled`."""
    seed, batch_size = settings.train.seed, settings.train.batch_size
    cache = open_cache(settings.data)
    ranks = {"rank": fabric.global_rank, "world": fabric.world_size}

    def read(
        files: list[JetFile], parts: list[EntryRange], size: int, request: Request, *, seed: int, share: float = 1.0
    ) -> TrainStream:
        buffer = data.entries_for(parts, math.ceil(share * settings.data.buffer))
        options = {"buffer": buffer, "workers": settings.data.workers, "selected": data.jets(parts)}
        return TrainStream(files, parts, batch_size=size, seed=seed, request=request, cache=cache, **options, **ranks)

    def labelled(size: int) -> TrainStream | MemoryStream | ProportionStream:
        if subset is not None:
            return MemoryStream(subset, batch_size=size, seed=seed, **ranks)
        proportions = settings.data.proportions
        if not proportions:
            return read(data.files, data.train, size, request, seed=seed)
        if request.columns is None:
            shared_columns([data.files[part.file] for part in data.train])
        sets = assign_to_sets(data.files, data.train, proportions)
        portions = [proportions[name] / sum(proportions.values()) for name in sets]
        streams = [
            read(data.files, sets[name], size, request, seed=seed, share=portion)
            for name, portion in zip(sets, portions)
        ]
        return ProportionStream(streams, portions, batch_size=size)

    if not data.unlabelled:
        return labelled(batch_size)
    labelled_size, unlabelled_size = shares(batch_size, settings.data.unlabelled_ratio)
    if request.columns is None:
        shared_columns([data.files[part.file] for part in data.all_train])
    # Another seed, so that the same jets do not come at the same time with and without their labels.
    unlabelled = read(data.blind, data.unlabelled, unlabelled_size, request.inputs, seed=seed + 1)
    return MixedStream(labelled(labelled_size), unlabelled)
