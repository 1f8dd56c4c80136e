"""Schema made from the YAML file of weaver or salt, with everything that it could not express."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ssl_jets.config import read_config
from ssl_jets.data.schemas.starting.salt import salt_schema
from ssl_jets.data.schemas.starting.started import Started
from ssl_jets.data.schemas.starting.weaver import weaver_schema
from ssl_jets.errors import UsageError

_WIDTH = 120


@dataclass(frozen=True)
class StartingPoint:
    """Schema that starts from another tagger's YAML file.

    Attributes:
        source: `weaver` or `salt`.
        schema: keys of the schema.
        assumed: facts that the file does not have, and that were assumed.
        left_out: parts of the file that the schema does not express, each with the reason.
    """

    source: str
    schema: dict[str, Any]
    assumed: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """Return the YAML of the schema, with remarks as comments."""
        remarks = [f"# assumed: {line}" for line in self.assumed] + [f"# left out: {line}" for line in self.left_out]
        lines = [
            f"# Schema of ssl-jets, from a YAML file of {self.source}. Check it: ssl-jets inspect FILE --schema THIS"
        ]
        return "\n".join([*lines, *remarks, _flow(self.schema)])


def starting_point(path: str | Path) -> StartingPoint:
    """Read the YAML file of weaver or salt.

    Raises:
        UsageError: it cannot be read, is of neither, or has no kinematics of particles.
    """
    tree = read_config(Path(path))
    started: Started
    if isinstance(tree.get("inputs"), dict):
        source, started = "weaver", weaver_schema(tree, str(path))
    elif isinstance(variables := (tree.get("data") or {}).get("variables"), dict):
        source, started = "salt", salt_schema(tree, variables, str(path))
    else:
        allowed = ["`inputs` (weaver)", "`data.variables` (salt)"]
        found = ", ".join(map(str, tree))
        raise UsageError("this is no YAML file of weaver or salt", where=path, found=found, allowed=allowed)
    return StartingPoint(source, started.schema, tuple(started.assumed), tuple(started.left_out))


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
