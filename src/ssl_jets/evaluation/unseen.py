"""Rows of z and scores files that the model was not trained on."""

from __future__ import annotations

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.errors import DataError
from ssl_jets.evaluation.roles import FORCE
from ssl_jets.runtime.console import Log
from ssl_jets.zfile import ZFile


def trained_rows(file: ZFile) -> Array | None:
    """Return a mask of the rows that the model was trained on, bool `[row]`; None if the file has none."""
    ranges = file.metadata.get("trained")
    if ranges is None or not {"source_file", "source_entry"} <= set(file.columns):
        return None
    source, entry = file.columns["source_file"], file.columns["source_entry"]
    trained = np.zeros(len(file), dtype=bool)
    for index, start, stop in ranges:
        trained |= (source == index) & (entry >= start) & (entry < stop)
    return trained


def unseen_rows(usable: Array, trained: Array, log: Log, *, kind: str, where: str, command: str) -> Array:
    """Return a mask of the usable rows that the model was not trained on, and log how many they are.

    Args:
        usable: rows that can be tested on, bool `[row]`.
        trained: rows that the model was trained on, bool `[row]`.
        log: logger of messages.
        kind: kind of the file in messages, such as "z file".
        where: its path.
        command: command that writes such a file.

    Raises:
        DataError: the model was trained on all usable rows.
    """
    unseen: Array = usable & ~trained
    if not unseen.any():
        raise DataError(
            f"the model was trained on all jets of this {kind}, so none are left to evaluate it on",
            where=where,
            found=f"{len(usable):,} jets",
            hint=f"{command} other jets; or {FORCE}, and the report says that it has seen them",
        )
    seen = int((usable & trained).sum())
    log(f"the model was trained on {seen:,} of the jets, so only the {unseen.sum():,} others are test jets")
    return unseen


def count_leaked(rows: Array, trained: Array, log: Log) -> int:
    """Count, and log, the test rows (their numbers, `[row to test on]`) that the model was trained on."""
    leaked = int(trained[rows].sum())
    if leaked:
        log(
            f"WARNING: as asked for (evaluate.seen), the model was trained on {leaked:,} of the {len(rows):,} jets "
            "tested on"
        )
    return leaked
