"""Interface of a training stream, and the common part of streams that join others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ssl_jets.jets import Jets


class Stream(Protocol):
    """Endless stream of training batches that can be saved and resumed."""

    @property
    def jets_per_epoch(self) -> int: ...
    @property
    def wait_seconds(self) -> float: ...
    @property
    def skipped(self) -> Counter[str]: ...

    def __next__(self) -> Jets: ...
    def state_dict(self) -> dict[str, Any]: ...
    def resume(self, states: Sequence[Mapping[str, Any]]) -> None: ...


class FileStream(Stream, Protocol):
    """Stream with open files or threads."""

    def close(self) -> None: ...


class JoinedStreams:
    """Several streams that one batch draws from."""

    def __init__(self, streams: Sequence[FileStream]) -> None:
        self._joined = streams

    @property
    def jets_per_epoch(self) -> int:
        """Jets of all streams together."""
        return sum(stream.jets_per_epoch for stream in self._joined)

    @property
    def wait_seconds(self) -> float:
        """Time spent waiting for files."""
        return sum(stream.wait_seconds for stream in self._joined)

    @property
    def skipped(self) -> Counter[str]:
        """Number of jets skipped so far, by reason."""
        return sum((stream.skipped for stream in self._joined), Counter[str]())

    def close(self) -> None:
        """End the threads of all streams."""
        for stream in self._joined:
            stream.close()
