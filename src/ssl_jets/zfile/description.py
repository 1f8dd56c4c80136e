"""Contents of z and scores files for `inspect`: rows, columns, and origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jets.runtime.terminal import by_reason
from ssl_jets.zfile.opening import is_own, open_file

Facts = dict[str, Any]


def described_zfile(path: Path) -> Facts | None:
    """Return path, rows, columns and metadata of a file that `embed`, `predict` or `merge` wrote.

    Returns:
        None for other files: without metadata of this package, or unreadable from their first bytes on.

    Raises:
        DataError: the file is damaged, or was written by a newer version; a part of an index is missing, or another.
    """
    if not is_own(path):
        return None
    with open_file(path) as file:
        file.check_parts()
        return {"file": str(path), "rows": file.rows, "columns": list(file.names), **file.metadata}


def zfile_as_text(facts: Mapping[str, Any]) -> str:
    """Format the facts of `described_zfile` for the terminal."""
    scores, part = facts.get("scores") or {}, facts.get("part")
    kind = facts["format"].removeprefix("ssl-jets ")
    rows = {
        "columns": ", ".join(facts["columns"]),
        "z": f"{facts['dim']} numbers" if kind == "z" else "",
        "model": _models(facts),
        "classes": ", ".join(facts["label_names"]) if kind == "z" else ", ".join(scores["classes"]),
        "regressed": ", ".join(scores.get("regressed", {})),
        "discriminants": ", ".join(f"{name} = {formula}" for name, formula in scores.get("discriminants", {}).items()),
        "temperatures": ", ".join(f"{value:.4g}" for value in scores.get("temperatures", ()) if value != 1),
        "input": _inputs(facts["files"]),
        "where": facts.get("where"),
        "without z" if kind == "z" else "without scores": by_reason(facts["left_out"]),
        "left out": ", ".join(f"{name} ({reason})" for name, reason in facts["files_left_out"].items()),
        "part": f"{part['number']} of {part['of']}: ssl-jets merge joins them" if part else "",
    }
    unit = "jets" if facts["level"] == "jet" else "particles"
    title = f"{facts['file']}: {kind} file of ssl-jets {facts['package_version']}, {facts['rows']:,} {unit}"
    return "\n".join([title, *(f"  {name + ':':<17} {value}" for name, value in rows.items() if value)])


def _models(facts: Mapping[str, Any]) -> str:
    weights = (facts.get("scores") or {}).get("models") or [facts["model_sha256"]]
    return f"{facts['method']}, SHA-256 {', '.join(digest[:12] for digest in weights if digest) or 'not recorded'}"


def _inputs(files: list[str]) -> str:
    return f"{len(files):,} files, such as {files[0]}" if len(files) > 1 else "".join(files)
