"""Output files with one for each input, from a name with a placeholder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_jets.errors import UsageError, in_shell

NAME, INDEX = "{name}", "{index}"
"""Placeholders for the name of the input without folder and suffix, and for its number in the list of inputs."""


def per_file_paths(out: Path, inputs: Sequence[str]) -> list[Path]:
    """Return the output of each input.

    Args:
        out: a path with `{name}` or `{index}` in its last part.
        inputs: paths of the inputs.

    Raises:
        UsageError: no placeholder, or two inputs with one output.

    Example:
        >>> [str(path) for path in per_file_paths(Path("z/{name}.root"), ["jets/a.root", "jets/b.root"])]
        ['z/a.root', 'z/b.root']
    """
    if NAME not in out.name and INDEX not in out.name:
        hint = in_shell("--out", out.with_suffix("") / (NAME + out.suffix))
        raise UsageError(
            "a file for each input has a name with a placeholder", where="--per-file", found=out, hint=hint
        )
    digits = len(str(max(len(inputs) - 1, 0)))
    paths: dict[Path, str] = {}
    for number, name in enumerate(inputs):
        path = out.with_name(out.name.replace(NAME, Path(name).stem).replace(INDEX, f"{number:0{digits}d}"))
        if path in paths:
            hint = in_shell("--out", out.with_name(out.name.replace(NAME, f"{NAME}-{INDEX}")))
            raise UsageError("two inputs have one output", where=path, found=f"{paths[path]}, {name}", hint=hint)
        paths[path] = name
    return list(paths)
