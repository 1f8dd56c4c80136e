"""Reading of entry ranges through a cache: the chunks of `read_range`, to the last bit."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter

import numpy as np
import torch

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.epoch_plan import CHUNK, LONGEST_CLUSTER, chunk_at_boundaries
from ssl_jets.data.loading.shard_cache import ShardCache, key_of
from ssl_jets.data.loading.shuffle_buffer import Chunk, read_range, within
from ssl_jets.data.request import Request
from ssl_jets.errors import DataError
from ssl_jets.jets import Jets, concatenate

_BLOCK = 1000
"""Entries of a block of a shard, which is read as a whole."""


class CachedReader:
    """Reader of entry ranges that fills a cache with whole clusters and reads from it.

    The number of skipped jets of a range follows from its entries if all of them were skipped for one reason. A shard
    with several reasons, or with an error, is not cached, and its ranges are read from their file.
    """

    def __init__(self, cache: ShardCache, files: Sequence[JetFile], request: Request) -> None:
        self._cache, self._files, self._request = cache, files, request
        self._keys: dict[int, str] = {}
        self._direct = set[EntryRange]()
        self._shards = lru_cache(maxsize=None)(self._shards_of)

    def __call__(self, part: EntryRange) -> Chunk:
        """Read an entry range.

        Raises:
            DataError: as `read_range`.
        """
        pieces = []
        shards = self._shards(part.file)
        for shard in shards[bisect_right(shards, part.start, key=attrgetter("stop")) :]:
            if shard.start >= part.stop:
                break
            start, stop = max(part.start, shard.start), min(part.stop, shard.stop)
            if start < stop:
                pieces.append(self._piece(shard, EntryRange(part.file, start, stop)))
        jets = [piece.jets for piece in pieces if piece.jets is not None]
        skipped = sum((piece.skipped for piece in pieces), Counter[str]())
        return Chunk(concatenate(jets) if jets else None, skipped)

    def _piece(self, shard: EntryRange, part: EntryRange) -> Chunk:
        """Read a range within a shard."""
        key = self._key(part.file)
        if key and shard not in self._direct:
            ends = (shard.start, shard.stop)
            loaded = self._cache.load(key, ends, part.start, part.stop) or self._filled(key, shard)
            if loaded is not None:
                return self._cut(part, *loaded)
        return read_range(self._files, part, self._request)

    def _filled(self, key: str, shard: EntryRange) -> tuple[list[Jets], list[str]] | None:
        """Decode a shard and add it to the cache; None if it cannot be cached."""
        try:
            jets, skipped = read_chunk(self._files[shard.file], 0, shard.start, shard.stop, self._request)
        except DataError:  # raised again, or counted, by those who read this range
            skipped = Counter({"": 1, "error": 1})
        if len(skipped) > 1:
            self._direct.add(shard)
            return None
        edges = [*range(shard.start, shard.stop, _BLOCK), shard.stop]
        at = np.searchsorted(self._numbers(shard.file, jets), edges).tolist()
        blocks = [
            (first, last, jets.select(torch.arange(low, high)))
            for (first, last), (low, high) in zip(pairwise(edges), pairwise(at))
        ]
        self._cache.save(key, (shard.start, shard.stop), blocks, list(skipped))
        return [jets], list(skipped)

    def _cut(self, part: EntryRange, loaded: Sequence[Jets], skipped: Sequence[str]) -> Chunk:
        """Return the jets of a range, and the number of those skipped, from the blocks around it."""
        chunk = within(self._files[part.file], Chunk(concatenate(loaded), Counter(skipped)), part)
        if chunk.jets is not None:
            assert chunk.jets.source is not None
            chunk.jets.source[:, 0] = part.file  # the selection is a copy
        return chunk

    def _numbers(self, file: int, jets: Jets) -> np.ndarray:
        """Return the number of each jet in its file."""
        assert jets.source is not None
        return self._files[file].numbers(jets.source.numpy())

    def _key(self, file: int) -> str:
        """Return the key of a file; "" if it is gone, which its reader reports."""
        if file not in self._keys:
            try:
                self._keys[file] = key_of(self._files[file], self._request)
            except OSError:
                return ""
        return self._keys[file]

    def _shards_of(self, file: int) -> list[EntryRange]:
        """Return the ranges of a file that are cached together: its clusters, joined up to a chunk."""
        whole = EntryRange(file, 0, self._files[file].entries)
        return chunk_at_boundaries(self._files[file], whole, CHUNK, LONGEST_CLUSTER)
