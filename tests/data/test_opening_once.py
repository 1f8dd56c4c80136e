"""Work of opening thousands of small files, by counting: nothing is loaded or converted more often than needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import pytest

from ssl_jets.data import identity
from ssl_jets.data.events import collections
from ssl_jets.data.files import open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.readers import root
from ssl_jets.data.schemas import schema
from ssl_jets.data.sources import Source

Write = Callable[..., Path]


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Return a list that receives an item for each call of a function."""
    calls, function = list[Any](), getattr(owner, name)

    def call(*args: Any, **more: Any) -> Any:
        calls.append(args)
        return function(*args, **more)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_the_threads_that_open_files_load_the_known_formats_once(
    write_jetclass: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [Source(str(write_jetclass(f"QCD_{number}.root", 5))) for number in range(8)]
    schema.known_schemas.cache_clear()
    schema._known_trees.cache_clear()
    loaded = counted(monkeypatch, schema, "load_yaml")
    open_files(sources)
    assert len(loaded) == len(schema.known_schemas())


def test_formats_of_events_are_not_set_up_for_a_file_of_jets(
    write_jetclass: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jetclass(entries=5)
    schema.known_schemas()
    links = counted(monkeypatch, collections, "Link")
    open_files([Source(str(path))])
    assert links == []


def test_numbers_of_an_indexed_file_are_not_converted_to_awkward(
    write_jetclass: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files([Source(str(write_jetclass(entries=50, cluster=20)))])
    converted = counted(monkeypatch, ak, "from_numpy")
    assert sum(map(len, ordered(files, whole(files)))) == 50
    assert converted == []


def test_the_digest_of_a_small_file_takes_one_read_and_is_that_of_many(
    write_jetclass: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_jetclass(entries=50))
    with root.open_tables(path) as tables:
        reads = counted(monkeypatch, os, "pread")
        digest = identity.digest_of(path, tables[0])
        assert len(reads) == 1
        monkeypatch.setattr(identity, "_AT_ONCE", 0)
        assert identity.digest_of(path, tables[0]) == digest
        assert len(reads) > 10
