"""Checks of a request before libraries are imported and files are read, so that a wrong one fails at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_jets.errors import UsageError, nearest
from ssl_jets.runtime.atomic import check_folder, check_run_folder
from ssl_jets.runtime.launcher import join
from ssl_jets.runtime.overwriting import check_apart


def check_new_evaluation(folder: Path, files: Sequence[Path], *, force: bool) -> None:
    """Check that the folder of an evaluation of z files may be written.

    Raises:
        UsageError: it has an evaluation and `force` is not set, it is a file, or one of the z files (an index) has the
            name of a file of an evaluation.
        SslJetsError: it cannot be written to.
    """
    from ssl_jets.evaluation.result import CURVES, METRICS

    check_apart([folder / CURVES, folder / METRICS], files)
    check_folder(folder, METRICS, force=force)


def check_new_run(out: Path | None, *, resume: bool, force: bool) -> None:
    """Check that a run folder may be written, or is one to resume. The ranks of a launch check it together, later.

    Raises:
        UsageError: it contains other files, or a run and neither `resume` nor `force` is set.
    """
    launch = join()
    if out is None or (launch is not None and launch.world > 1) or (resume and (out / "config.yaml").is_file()):
        return
    check_run_folder(out, force=force)


def no_method(out: Path | None, resume: bool) -> UsageError:
    """Return the error of a pretraining without a method; the folder of a run to resume has one."""
    if not resume or out is None:
        return UsageError("no method is given", where="--method", hint="ssl-jets pretrain --method mae")
    runs = nearest(out.name, [config.parent.name for config in out.parent.glob("*/config.yaml")])
    hint = f"beside it is {runs[0]}" if runs else "--method NAME begins a new one"
    return UsageError("there is no run to continue", where=out, hint=hint)


READING = (
    *("sources", "proportions", "format", "labels", "where", "jets", "external"),
    *("bad_jets", "bad_files", "workers"),
)
"""Settings `data.*` of every command that reads jets."""

EVALUATED = ("weights", "validation_fraction", "split_seed")
"""Further ones of `evaluate`."""


def check_read(tree: dict[str, Any], *more: str) -> None:
    """Check that all settings `data.*` are used by a command that only reads jets, or have their default.

    Raises:
        UsageError: a setting would have no effect.
    """
    data = tree.get("data")
    used = [*READING, *more]
    given = data if isinstance(data, dict) else {}
    for name in [name for name in given if name not in used]:
        from ssl_jets.config import DataSettings

        default = DataSettings().model_dump(mode="json")
        if name in default and given[name] != default[name]:  # other names are refused with the nearest ones
            allowed = [f"data.{one}" for one in used]
            raise UsageError("this setting has no effect in this command", where=f"data.{name}", allowed=allowed)


def check_where(tree: dict[str, Any]) -> None:
    """Check that the selection of a tree of settings, if there is one, is a formula.

    Raises:
        UsageError: it is not.
    """
    data = tree.get("data")
    where = data.get("where") if isinstance(data, dict) else None
    if isinstance(where, str):
        from ssl_jets.data.schemas.where import parse_selection

        parse_selection(where)
