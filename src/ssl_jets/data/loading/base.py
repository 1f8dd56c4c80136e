"""Interface of a training stream."""

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
