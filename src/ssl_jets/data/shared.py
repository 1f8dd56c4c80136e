"""Columns and classes that files have in common, and must have to be read together."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.data.chunks import check_request
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.request import Request
from ssl_jets.errors import DataError


def shared_columns(files: Sequence[JetFile]) -> tuple[str, ...]:
    """Return the particle columns of the files, which must be the same in all of them.

    Raises:
        DataError: two files differ.
    """
    for file in files[1:]:
        if file.columns != files[0].columns:
            raise DataError(
                "the files have different particle columns",
                where=f"{files[0].source} and {file.source}",
                found=f"{', '.join(sorted({*file.columns} ^ {*files[0].columns}))} only in one of them",
            )
    return files[0].columns


def shared_labels(files: Sequence[JetFile]) -> tuple[str, ...]:
    """Return the names of the classes, the same in all files with labels; empty if no file has labels.

    Raises:
        DataError: two files differ.
    """
    labelled = [file for file in files if file.label_names]
    for file in labelled[1:]:
        if file.label_names != labelled[0].label_names:
            raise DataError(
                "the files have different classes",
                where=f"{labelled[0].source} and {file.source}",
                found=f"{', '.join(labelled[0].label_names)} and {', '.join(file.label_names)}",
            )
    return labelled[0].label_names if labelled else ()


def check_together(files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request) -> None:
    """Check that all files to read have the requested columns and the same classes.

    Raises:
        UsageError: a file lacks a column.
        DataError: two files differ in their columns or classes.
    """
    used = [files[index] for index in sorted({part.file for part in ranges})]
    if used and request.columns is None:
        shared_columns(used)
    shared_labels(used)
    check_request(used, request)
