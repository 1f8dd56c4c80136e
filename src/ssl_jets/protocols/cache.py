"""The pieces of a long protocol: each is computed once, kept as a JSON file, and found again when the protocol goes on.

A protocol is stopped and started at will: what is finished is not made again. A piece is remembered together with what
it was made from, and is made anew where that changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssl_jets.errors import DataError
from ssl_jets.evaluation.result import plain
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.reading import SEAL, guarded, is_sealed, read_json, sealed


class ResultCache:
    """Results in a folder, one file each.

    Args:
        folder: where they are kept.
        made_from: what all of them depend on: hashes of models, files, versions of settings. JSON values.
        total: how many there will be, for the messages.
        say: told which piece is made.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any], total: int, say: Log) -> None:
        self.folder, self.made_from, self.total, self.say = folder, plain(made_from), total, say
        self.done = self.reused = 0

    def get(self, name: str, facts: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The piece `name`: from its file, or made by `make` and then kept.

        Args:
            name: of the file; unique within the protocol.
            facts: what this piece depends on besides `made_from`. JSON values.
            make: computes it. What it returns must be what JSON can hold.
        """
        self.done += 1
        path = self.folder / f"{name}.json"
        wanted = {**self.made_from, **plain(facts)}
        found = _read(path)
        if found is not None and found["made_from"] == wanted:
            self.reused += 1
            result: dict[str, Any] = found["result"]
            return result
        self.say(f"{self.done} of {self.total}: {name}")
        result = plain(make())
        text = json.dumps(sealed({"made_from": wanted, "result": result}), indent=1) + "\n"
        write_text(path, text)
        return result


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    hint = "remove it: it is made again"
    found = read_json(path, "this is not a piece of a protocol", hint=hint)
    with guarded("this is not a piece of a protocol", path, hint=hint):
        kept = {"made_from": found["made_from"], "result": found["result"]}
    if SEAL in found and not is_sealed(found):  # older pieces have no seal
        raise DataError("a piece of a protocol is damaged", where=path, hint=hint)
    return kept
