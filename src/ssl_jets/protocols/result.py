"""Base of the results of protocols. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field

from ssl_jets.evaluation.result_base import Written, plain, read_result
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.short_repr import ShortRepr


class ProtocolResult(ShortRepr, Written):
    """Base of the results of protocols.

    Attributes:
        NAME: name of the protocol and of its file.
        folder: where it is written.
    """

    NAME: ClassVar[str]

    folder: Path = Field(exclude=True)

    @property
    def path(self) -> Path:
        """File of the result."""
        return self.folder / f"{self.NAME}.json"

    def write(self) -> None:
        """Write the file in one step."""
        write_text(self.path, json.dumps(plain(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the result in a folder.

        Raises:
            DataError: the file is missing, is not JSON, or is of another version.
        """
        path = folder / f"{cls.NAME}.json"
        return cls.of_json({**read_result(path), "folder": folder}, path)
