"""Reader of the YAML file of weaver or salt."""

from __future__ import annotations

from pathlib import Path

from ssl_jets.config import read_config
from ssl_jets.data.schemas.starting.point import StartingPoint
from ssl_jets.data.schemas.starting.salt import salt_schema
from ssl_jets.data.schemas.starting.weaver import weaver_schema
from ssl_jets.errors import UsageError


def starting_point(path: str | Path) -> StartingPoint:
    """Read the YAML file of weaver or salt.

    Raises:
        UsageError: it cannot be read, is of neither, or has no kinematics of particles.
    """
    tree = read_config(Path(path))
    if isinstance(tree.get("inputs"), dict):
        return weaver_schema(tree, str(path))
    if isinstance(variables := (tree.get("data") or {}).get("variables"), dict):
        return salt_schema(tree, variables, str(path))
    allowed = ["`inputs` (weaver)", "`data.variables` (salt)"]
    found = ", ".join(map(str, tree))
    raise UsageError("this is no YAML file of weaver or salt", where=path, found=found, allowed=allowed)
