"""Metadata of a z or scores file: one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ssl_jets import __version__
from ssl_jets.errors import DataError
from ssl_jets.runtime.reading import SEAL, guarded, is_sealed, json_object, sealed
from ssl_jets.zfile.checksums import CHANGED, DAMAGED, Checksums
from ssl_jets.zfile.columns import Level

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ScoresMetadata:
    """Origin of the scores of a scores file.

    Attributes:
        classes: classes of the columns `p_CLASS`, in their order; empty for models that regress only.
        regressed: column of each regressed target.
        levels: quantiles of the regressed targets; empty if the models predict none.
        discriminants: formula of each discriminant.
        temperatures: temperature of each model; 1 leaves its probabilities as they are.
        models: SHA-256 of the weights of each model; of several, the mean of the scores is written.
        particle_targets: classes of each target of particles, none for a number; None at level "jet".
    """

    classes: tuple[str, ...] = ()
    regressed: Mapping[str, str] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    discriminants: Mapping[str, str] = field(default_factory=dict)
    temperatures: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    particle_targets: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class PartMetadata:
    """Place of a file among the parts of one output.

    Attributes:
        number: number of the part, from 1.
        of: number of all parts.
        first_file: number in the whole list of inputs of the first of `files`; `source_file` counts in the whole list.
        inputs: number of all inputs.
        inputs_sha256: SHA-256 of the list of their names.
        ranges: entries of the part, as (number of the file in the whole list, start, stop).
        columns: name, type and width of each column.
    """

    number: int
    of: int
    first_file: int
    inputs: int
    inputs_sha256: str
    ranges: tuple[tuple[int, int, int], ...] = ()
    columns: tuple[tuple[str, str, int | None], ...] = ()


@dataclass(frozen=True)
class ZMetadata:
    """Origin of the rows of a z or scores file.

    Attributes:
        model_sha256: SHA-256 of the weights of the model; empty if it was never saved.
        method: the method the model was pretrained with.
        dim: numbers of one z or token.
        level: "jet" or "particle".
        files: the input files; `source_file` is an index into this list.
        label_names: the class of each value of `label`; empty without labels.
        kept: the jet columns copied from the input.
        collections: for each file the jet collection that `source_jet` is an index into; "" for files with a jet per
            entry.
        trained: entries that the model was trained on, as (index of the file, start, stop).
        left_out: jets that could not be used, by reason; at level "jet" their z is NaN.
        files_left_out: files that could not be opened, with the reason; they have no rows and are not in `files`.
        digests: for each input file the digest of its contents, the same for a copy of any name.
        schemas: for each input file the SHA-256 of the schema that it was read by.
        scores: of a scores file; None for a z file.
        part: of one part of several; None for a whole file.
        where: selection of the jets; None for all.
    """

    model_sha256: str
    method: str
    dim: int
    level: Level
    files: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    trained: tuple[tuple[int, int, int], ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    files_left_out: Mapping[str, str] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    scores: ScoresMetadata | None = None
    part: PartMetadata | None = None
    where: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields with the versions of format and package, as they are stored."""
        fields = asdict(self)
        if self.scores is not None and self.scores.particle_targets is None:
            del fields["scores"]["particle_targets"]
        return {
            "format": "ssl-jets z" if self.scores is None else "ssl-jets scores",
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            **{name: value for name, value in fields.items() if value is not None},
        }


def to_json(metadata: Mapping[str, Any], checksums: Checksums) -> str:
    """Return one line of JSON with the checksums of the rows, and `crc32`, the checksum of the rest of the line."""
    return json.dumps(sealed({**metadata, "checksums": checksums.to_dict()}))


def from_json(text: str, path: Path) -> tuple[dict[str, Any], Checksums | None]:
    """Read the metadata of a file and the checksums of its rows; None for an index: its parts have them.

    Raises:
        DataError: not a JSON object, damaged, or written by a newer format version.
    """
    with guarded("the metadata of the z file is not JSON", path):
        metadata = json_object(text)
    version = metadata.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DataError(
            "the z file was written by a newer ssl-jets",
            where=path,
            found=f"format version {version}",
            allowed=[f"format version up to {FORMAT_VERSION}"],
            hint="pip install --upgrade ssl-jets",
        )
    stored = metadata.pop("checksums", None)
    if stored is None and SEAL not in metadata:
        return metadata, None
    if not isinstance(stored, dict) or not is_sealed({**metadata, "checksums": stored}):
        raise DataError(DAMAGED, where=path, found="other metadata", hint=CHANGED)
    del metadata[SEAL]
    return metadata, Checksums.from_dict(stored, path)
