"""Schema under construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Started:
    """Schema under construction: its keys, facts that were assumed, and parts that were left out with the reason."""

    schema: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
