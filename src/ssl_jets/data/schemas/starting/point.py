"""Schema that starts from another tagger's YAML file, with everything that it could not express."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

_WIDTH = 120


@dataclass
class StartingPoint:
    """Schema that starts from another tagger's YAML file.

    Attributes:
        source: `weaver` or `salt`.
        schema: keys of the schema.
        assumed: facts that the file does not have, and that were assumed.
        left_out: parts of the file that the schema does not express, each with the reason.
    """

    source: str
    schema: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the YAML of the schema, with remarks as comments."""
        remarks = [f"# assumed: {line}" for line in self.assumed] + [f"# left out: {line}" for line in self.left_out]
        lines = [
            f"# Schema of ssl-jets, from a YAML file of {self.source}. Check it: ssl-jets inspect FILE --schema THIS"
        ]
        return "\n".join([*lines, *remarks, _flow(self.schema)])


def _flow(schema: dict[str, Any]) -> str:
    """Format a schema like the files of the package: a line for each column."""
    lines = []
    for key, value in schema.items():
        if isinstance(value, dict) and all(isinstance(one, dict) for one in value.values()):
            lines.append(f"{key}:")
            lines += [f"  {name}: {_inline(one)}" for name, one in value.items()]
        else:
            lines.append(yaml.safe_dump({key: value}, width=_WIDTH, sort_keys=False).rstrip())
    return "\n".join(lines)


def _inline(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
