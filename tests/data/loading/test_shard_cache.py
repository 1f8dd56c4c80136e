"""Cache of decoded jets: the same batches, damage and changes found, bounded, shared by jobs, removed at any time."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.loading.packed_jets import from_bytes, to_bytes
from ssl_jets.data.loading.shard_cache import ShardCache, key_of
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.readers import root
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.training.streams import open_cache
from support.jetclass_files import jetclass_branches, write_tree

REQUEST = Request(("jet_sdmass", "aux_genpart_pid"), columns=("pt", "deta", "dphi", "charge"), weights="jet_pt")
BATCHES = 14
"""Batches of 15 jets: two epochs of 105 jets."""


def write(path: Path, entries: int, seed: int, edit: Callable[[dict[str, Any]], None] | None = None) -> Path:
    branches = jetclass_branches(entries, label="QCD" if "QCD" in path.name else "Tbl", seed=seed)
    if edit is not None:
        edit(branches)
    return write_tree(path, {"tree": branches}, cluster=16)


@pytest.fixture
def files(tmp_path: Path) -> list[JetFile]:
    paths = [write(tmp_path / "QCD.root", 60, 1), write(tmp_path / "Tbl.root", 45, 2)]
    return open_files([Source(str(path)) for path in paths])


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, messages: list[str]) -> Callable[..., ShardCache]:
    return lambda most=1e9: ShardCache(tmp_path / "cache", most, messages.append)


def stream(files: list[JetFile], cache: ShardCache | None, request: Request = REQUEST, **options: Any) -> TrainStream:
    settings = {"batch_size": 15, "buffer": 40, "seed": 3, "workers": 2} | options
    return TrainStream(files, whole(files), request=request, cache=cache, **settings)


def batches(
    files: list[JetFile], cache: ShardCache | None, request: Request = REQUEST
) -> tuple[list[Jets], Counter[str]]:
    with stream(files, cache, request) as jets:
        return [next(jets) for _ in range(BATCHES)], jets.skipped


def assert_same(these: list[Jets], others: list[Jets]) -> None:
    for one, other in zip(these, others, strict=True):
        assert to_bytes(one) == to_bytes(other)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jets"))


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(root, "read", None)
        yield


def test_all_fields_and_nested_jets_come_back_bit_for_bit(batch: Jets) -> None:
    odd = {"a/b.c[3]": torch.tensor([np.iinfo(np.int64).max, -1]), "nan": torch.tensor([torch.nan, -0.0])}
    jets = Jets.of([[[1.0, 0.1, 0.2]], [[2.0, 0.3, 0.4]]], ("pt", "deta", "dphi"))
    jets.jet, jets.context = odd, {"mass": torch.rand(2)}
    for one in (batch, jets, batch.select(torch.empty(0, dtype=torch.int64))):
        back = from_bytes(to_bytes(one))
        assert (back.columns, list(back.jet), list(back.context)) == (one.columns, list(one.jet), list(one.context))
        assert to_bytes(back) == to_bytes(one)
        assert (back.labels is None, back.weights is None) == (one.labels is None, one.weights is None)
    jets.jet = {"inner": batch}  # type: ignore[dict-item]
    assert torch.equal(from_bytes(to_bytes(jets)).jet["inner"].particles, batch.particles)  # type: ignore[attr-defined]


def test_batches_and_resumed_batches_are_the_same_with_a_cache(
    files: list[JetFile], cache: Callable[..., ShardCache], monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    expected, _ = batches(files, None)
    assert_same(batches(files, cache())[0], expected)
    monkeypatch.setattr(root, "read", None)  # from here on, no file is read
    assert_same(batches(files, cache())[0], expected)
    with stream(files, cache()) as begun:
        for _ in range(5):
            next(begun)
        state = begun.state_dict()
    with stream(files, cache()) as resumed:
        resumed.resume([state])
        assert_same([next(resumed) for _ in range(BATCHES - 5)], expected[5:])
    assert not messages


def nan_and_empty(branches: dict[str, Any]) -> None:
    branches["part_energy"] = branches["part_energy"] * np.where(np.arange(60) % 7 == 0, np.nan, 1)
    branches["part_px"] = branches["part_px"] * np.where(np.arange(60) == 5, np.nan, 1)


@pytest.mark.parametrize("where", [None, "jet_pt > 600"])
def test_skipped_jets_are_counted_as_without_a_cache(
    where: str | None, tmp_path: Path, cache: Callable[..., ShardCache]
) -> None:
    path = write(tmp_path / "QCD_bad.root", 60, 1, nan_and_empty)
    files = open_files([Source(str(path)), Source(str(write(tmp_path / "Tbl.root", 45, 2)))])
    request = Request(columns=("pt", "energy"), bad_jets="skip", where=where)
    expected, skipped = batches(files, None, request)
    assert skipped
    for _ in range(2):
        jets, counted = batches(files, cache(), request)
        assert_same(jets, expected)
        assert counted == skipped


def test_a_bad_jet_stops_the_training_as_without_a_cache(tmp_path: Path, cache: Callable[..., ShardCache]) -> None:
    files = open_files([Source(str(write(tmp_path / "QCD_bad.root", 60, 1, nan_and_empty)))])
    for use in (None, cache()):
        with pytest.raises(DataError, match="energy is not finite"):
            batches(files, use, Request(columns=("pt", "energy")))


@pytest.mark.parametrize("damage", ["block", "header", "cut", "foreign", "empty"])
def test_a_damaged_or_foreign_shard_is_made_anew(
    damage: str, files: list[JetFile], cache: Callable[..., ShardCache], tmp_path: Path, messages: list[str]
) -> None:
    expected, _ = batches(files, cache())
    first, second = shards(tmp_path / "cache")[:2]
    whole_bytes, content = first.read_bytes(), bytearray(first.read_bytes())
    if damage == "foreign":
        content = bytearray(second.read_bytes())
    else:
        content[-100 if damage == "block" else 30] ^= 1
        content = {"cut": content[:-50], "empty": bytearray()}.get(damage, content)
    first.write_bytes(content)
    assert_same(batches(files, cache())[0], expected)
    assert len(messages) == 1
    assert "made anew" in messages[0]
    assert first.read_bytes() == whole_bytes


def test_other_contents_schemas_and_requests_have_other_keys(files: list[JetFile], tmp_path: Path) -> None:
    file = files[0]
    keys = {key_of(file, REQUEST), key_of(files[1], REQUEST), key_of(file, Request(columns=("pt",)))}
    write(Path(file.source.path), 60, 9)
    keys.add(key_of(file, REQUEST))  # the time of the file
    again = open_files([file.source])[0]
    keys.add(key_of(again, REQUEST))
    schema = tmp_path / "own.yaml"
    schema.write_text("extends: jetclass\njet_cut: jet_pt > 600\n")
    keys.add(key_of(open_files([file.source], schema=str(schema))[0], REQUEST))
    assert len(keys) == 6
    assert key_of(again, REQUEST) == key_of(open_files([file.source])[0], REQUEST)


def test_two_jobs_fill_one_cache_at_once(
    files: list[JetFile], cache: Callable[..., ShardCache], tmp_path: Path
) -> None:
    expected, _ = batches(files, None)
    results: list[list[Jets]] = []
    jobs = [threading.Thread(target=lambda: results.append(batches(files, cache())[0])) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(results) == 3
    for jets in results:
        assert_same(jets, expected)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_two_jobs_claim_a_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = Path.iterdir

    def after_another_job(folder: Path) -> Iterator[Path]:
        monkeypatch.undo()
        ShardCache(folder, 1e9, print)
        return entries(folder)

    monkeypatch.setattr(Path, "iterdir", after_another_job)
    ShardCache(tmp_path / "cache", 1e9, print)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["CACHEDIR.TAG"]


def test_a_cache_stays_below_its_limit_and_can_be_removed_at_any_time(
    files: list[JetFile], cache: Callable[..., ShardCache], tmp_path: Path, messages: list[str]
) -> None:
    expected, _ = batches(files, cache())
    folder, total = tmp_path / "cache", sum(path.stat().st_size for path in shards(tmp_path / "cache"))
    with stream(files, cache()) as jets:
        taken = [next(jets) for _ in range(4)]
        shutil.rmtree(folder, ignore_errors=True)  # while others write
        assert_same([*taken, *(next(jets) for _ in range(BATCHES - 4))], expected)
    assert_same(batches(files, cache())[0], expected)  # not taken for a folder of other files
    shutil.rmtree(folder)
    assert_same(batches(files, cache(0.7 * total))[0], expected)
    assert 0 < sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 0.7 * total
    assert len(messages) == 1
    assert "is full" in messages[0]


def test_a_full_disk_ends_the_caching_and_not_the_training(
    files: list[JetFile],
    cache: Callable[..., ShardCache],
    tmp_path: Path,
    messages: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = cache()
    monkeypatch.setattr(os, "replace", full)
    assert_same(batches(files, opened)[0], batches(files, None)[0])
    assert messages == [f"nothing more is cached in {tmp_path / 'cache'}: No space left on device"]
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["CACHEDIR.TAG"]


def test_a_folder_of_other_files_is_refused_and_remains_of_killed_jobs_are_removed(
    cache: Callable[..., ShardCache], tmp_path: Path
) -> None:
    cache()
    old, new = tmp_path / "cache" / ".1-2.jets.1-1.tmp", tmp_path / "cache" / ".1-2.jets.2-2.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 1e6,) * 2)
    cache()
    assert (old.exists(), new.exists()) == (False, True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jets.root").touch()
    with pytest.raises(UsageError, match="no cache of ssl-jets"):
        open_cache(DataSettings(cache=str(tmp_path / "data")))
    with pytest.raises(UsageError, match="refer to other files"):
        open_cache(DataSettings(cache=str(tmp_path / "new"), external=True))
    with pytest.raises(UsageError, match="no such home folder"):
        open_cache(DataSettings(cache="~a-user-of-no-machine/cache"))
    assert open_cache(DataSettings()) is None
