"""Cache of the partial results of a long protocol: each is computed once and kept as a JSON file.

A stopped protocol resumes from the cache. Every file holds its inputs (hashes, settings) beside the result, which is
computed again after a change of the inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ssl_jets.errors import DataError
from ssl_jets.evaluation.result_base import Result, plain
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.reading import SEAL, guarded, is_sealed, read_json, sealed

_NO_RESULT, _REMOVE = "this is not a piece of a protocol", "remove it: it is made again"

ResultT = TypeVar("ResultT", bound=Result)


class ResultCache:
    """Results in a folder, one file each.

    Args:
        folder: folder of the files.
        made_from: common inputs of all results: hashes of models, files, versions of settings. JSON values.
        total: number of results, for the messages.
        log: called with the name of each result that is computed.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any], total: int, log: Log) -> None:
        self.folder, self.made_from, self.total, self.log = folder, plain(made_from), total, log
        self.done = self.reused = 0

    def get(self, name: str, facts: Mapping[str, Any], make: Callable[[], ResultT], of_type: type[ResultT]) -> ResultT:
        """Return the result `name` from its file, or compute and keep it; `facts` are its inputs besides `made_from`.

        Raises:
            DataError: the file is damaged.
        """
        self.done += 1
        path = self.folder / f"{name}.json"
        made_from = {**self.made_from, **plain(facts)}
        if path.is_file():
            kept = _read(path)
            if kept.made_from == made_from:
                self.reused += 1
                return of_type.of_json(kept.result, path)
        self.log(f"{self.done} of {self.total}: {name}")
        result = plain(make())
        text = json.dumps(sealed({"made_from": made_from, "result": result}), indent=1) + "\n"
        write_text(path, text)
        return of_type.of_json(result, path)  # as it is read: equal in every call


class _Kept(Result):
    """Contents of a file."""

    made_from: dict[str, Any]
    result: dict[str, Any]


def _read(path: Path) -> _Kept:
    content = read_json(path, _NO_RESULT, hint=_REMOVE)
    unsealed = {name: value for name, value in content.items() if name != SEAL}
    with guarded(_NO_RESULT, path, hint=_REMOVE):
        kept = _Kept.model_validate(unsealed)
    if SEAL in content and not is_sealed(content):  # older files have no seal
        raise DataError("a piece of a protocol is damaged", where=path, hint=_REMOVE)
    return kept
