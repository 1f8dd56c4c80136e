"""Check that an output which is there already is the one that a resumed job would write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import check_output
from ssl_jets.zfile import Column, ZMetadata
from ssl_jets.zfile.opening import open_file

_OPTIONS = {
    "model_sha256": "--model",
    "models": "--model",
    "method": "--model",
    "files": "--data",
    "digests": "contents of the files",
    "schemas": "--schema",
    "label_names": "data.labels",
    "where": "--where",
    "kept": "--keep",
    "level": "--level",
    "part": "--part",
    "discriminants": "--score",
    "temperatures": "--temperature",
    "z": "--with-z",
    "package_version": "the version of ssl-jets",
}
"""What decides on each of the metadata, mostly an option."""


def is_finished(out: Path, metadata: ZMetadata, columns: Sequence[Column]) -> bool:
    """Check whether the output is there, complete, from the same model, files and options.

    Raises:
        UsageError: another file is there; the message names the options that differ.
    """
    if not out.exists():
        return False
    with open_file(out) as file:
        stored, available = file.metadata, {*file.names}
    expected = json.loads(json.dumps(metadata.to_dict()))
    may_differ = {"left_out"}  # known only at the end
    if metadata.part is None:
        may_differ.add("package_version")  # of all rows; parts of two versions are not merged
    names = [name for name in dict.fromkeys((*expected, "where")) if name not in may_differ]
    differ = [name for name in names if stored.get(name) != expected.get(name)]
    if ("z" in available) != any(column.name == "z" for column in columns):  # no metadata of a scores file tell it
        differ.append("z")
    if differ and "model_sha256" not in stored:
        check_output(out, force=False)
    if differ:
        raise UsageError(
            "the output exists already, of other options or files",
            where=out,
            found=", ".join(dict.fromkeys(_options(differ, stored, expected))),
            hint="--force to overwrite it, or another --out",
        )
    return True


def _options(differ: list[str], stored: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the options behind metadata that differ."""
    options = []
    for name in differ:
        before, now = stored.get(name), expected.get(name)
        if name == "scores" and isinstance(before, Mapping) and isinstance(now, Mapping):
            options += _options([key for key in now if before.get(key) != now[key]], before, now)
        elif name == "part" and isinstance(before, Mapping) and isinstance(now, Mapping):
            options += ["--part"] if any(before.get(key) != now[key] for key in now if key != "columns") else []
        else:
            options.append(_OPTIONS.get(name, name))
    return options
