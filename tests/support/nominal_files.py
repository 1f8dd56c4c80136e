"""Files that exist only in name, for plans of reading."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.data.files import JetFile
from ssl_jets.data.readers import root
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.data.sources import Source


def made_up_files(sizes: Sequence[int], cluster: int) -> list[JetFile]:
    """Files of two classes that exist only in name."""
    return [
        JetFile(
            Source(f"{'ab'[index % 2]}_{index}.root"),
            known_schemas()[0],
            root,
            "tree",
            entries,
            (*range(0, entries, cluster), entries),
            1,
            (),
            (),
            digest=str(index),
        )
        for index, entries in enumerate(sizes)
    ]
