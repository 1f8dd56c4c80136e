"""Checkpoint files: whatever happens to their bytes is one message, and an older one is at hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_jets.errors import SslJetsError
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.training import checkpoint
from ssl_jets.training.run_folder import checkpoints
from support.paths import NAMES_OF_LIBRARIES


def state_of(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    weights = {f"layer{number}.weight": torch.randn(5, 3, generator=generator) for number in range(3)}
    return {"method": weights, "step": step, "streams": [{"row": 3, "left": [(0, 1, 2)]}], "monitor": {"compared": 0.5}}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert all(torch.equal(found["method"][name], value) for name, value in expected["method"].items())
    assert {name: found[name] for name in found if name != "method"} == {
        name: expected[name] for name in expected if name != "method"
    }


@pytest.mark.parametrize("name", NAMES_OF_LIBRARIES)
def test_a_name_that_a_library_would_take_for_an_address_is_a_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name) / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    for step in (1, 2):
        checkpoint.write(path, state_of(step), keep=2)
    assert_equal(checkpoint.read(path), state_of(2))
    assert checkpoints(path) == [path, path.with_name("last-1.ckpt")]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_last_ones_are_kept_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.write(tmp_path / "other.ckpt", state_of(0))
    for step in range(1, 6):
        checkpoint.write(path, state_of(step), keep=3)
        assert [checkpoint.read(file)["step"] for file in checkpoints(path)] == list(range(step, max(0, step - 3), -1))
    checkpoint.write(path, state_of(6), keep=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "other.ckpt"]


def test_a_full_disk_keeps_the_older_ones_and_names_the_spare_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room = tmp_path / "my last.ckpt", 3
    save = torch.save

    def limited(state: dict[str, Any], target: Path) -> None:
        if len(list(tmp_path.glob("my last*"))) >= room:
            target.write_bytes(b"begun")
            raise RuntimeError("unexpected pos 64 vs 0")
        save(state, target)

    monkeypatch.setattr("torch.save", limited)
    for step in range(1, 4):
        checkpoint.write(path, state_of(step), keep=3)
    with pytest.raises(SslJetsError, match="cannot be written") as caught:
        checkpoint.write(path, state_of(4), keep=3)
    assert [checkpoint.read(file)["step"] for file in checkpoints(path)] == [3, 2, 1]
    assert len(list(tmp_path.iterdir())) == 3
    assert "the checkpoint before has 0 MB" in str(caught.value.found)
    assert f"rm '{tmp_path}/my last-1.ckpt' '{tmp_path}/my last-2.ckpt', then --resume from my last.ckpt" in str(
        caught.value.hint
    )
    # Resumed with fewer: those that are not kept make room, and the newest stays until the next one is complete.
    room = 2
    checkpoint.write(path, state_of(4), keep=1)
    assert [checkpoint.read(file)["step"] for file in checkpoints(path)] == [4]
    room = 1
    with pytest.raises(SslJetsError) as caught:
        checkpoint.write(path, state_of(5), keep=1)
    assert checkpoint.read(path)["step"] == 4
    assert caught.value.hint == "free some space, then --resume"


def test_a_damaged_byte_changes_nothing_or_is_one_message(tmp_path: Path) -> None:
    path, chance, refused = tmp_path / "last.ckpt", random.Random(0), 0
    checkpoint.write(path, state_of(1))
    whole = path.read_bytes()
    for number in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged if number % 3 else damaged[: chance.randrange(len(whole))])
        try:
            assert_equal(checkpoint.read(path), state_of(1))
        except SslJetsError as error:
            refused += 1 if error.where == path and "--force" in str(error.hint) else -1000
    assert refused > 100


def test_every_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.write(path, state_of(1))
    whole = path.read_bytes()
    start = whole.index(state_of(1)["method"]["layer1.weight"].numpy().tobytes())
    for place in range(start, start + 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SslJetsError, match="checksum"):
            checkpoint.read(path)


class Beside(Ranks):
    """Rank 0 beside a machine on which the checkpoint has the contents of these files in turn, then of the last one."""

    def __init__(self, *files: Path) -> None:
        super().__init__(0, 2)
        self.__dict__["files"] = list(files)

    def gather(self, value: Any) -> list[Any]:
        files = self.__dict__["files"]
        return [value, (checkpoint._checksums(files.pop(0) if len(files) > 1 else files[0]), False)]


@pytest.mark.parametrize(("other", "found"), [("older.ckpt", "another one"), ("nowhere.ckpt", "none")])
def test_a_checkpoint_that_another_machine_does_not_see_is_waited_for_and_then_one_message(
    other: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, older = tmp_path / "last.ckpt", tmp_path / "older.ckpt"
    checkpoint.write(older, state_of(1))
    checkpoint.write(path, state_of(2))
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    checkpoint.require_same(path, Beside(tmp_path / other, tmp_path / other, path))
    assert len(waited) == 2
    monkeypatch.setattr(checkpoint, "VISIBLE_WITHIN", 0.0)
    with pytest.raises(SslJetsError, match="do not see the same checkpoint") as caught:
        checkpoint.require_same(path, Beside(tmp_path / other))
    assert caught.value.found == f"rank 1: {found}"


class Pickled:
    """An object that runs code when it is unpickled."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Pickled, "ran", True)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"step": Pickled()}, path)
    with pytest.raises(SslJetsError, match="cannot be read"):
        checkpoint.read(path)
    assert not Pickled.ran


def test_the_newest_sound_one_takes_the_place_of_damaged_ones(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for step in (1, 2, 3):
        checkpoint.write(path, state_of(step), keep=3)
    path.write_bytes(path.read_bytes()[:500])
    path.with_name("last-1.ckpt").write_bytes(b"")
    messages = checkpoint.settle(path)
    assert [file.name for file in (path, path.with_name("last-1.ckpt")) if str(file) in " ".join(messages)] == [
        "last.ckpt",
        "last-1.ckpt",
    ]
    assert checkpoint.read(path)["step"] == 1
    assert checkpoint.settle(path) == []
    for file in checkpoints(path):
        file.write_bytes(b"PK")
    with pytest.raises(SslJetsError, match="cannot be read"):
        checkpoint.settle(path)


@pytest.mark.parametrize(
    "error", [KeyError("watch"), TypeError("int"), RuntimeError("size mismatch"), AttributeError()]
)
def test_contents_of_another_version_are_one_message(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(SslJetsError, match="not one of this run"), checkpoint.one_message(tmp_path / "last.ckpt"):
        raise error


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(5, "Input/output error"), RuntimeError("[../gloo/transport/tcp] closed")]
)
def test_faults_of_the_machine_are_not_taken_for_damage(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, checkpoint.one_message(tmp_path / "last.ckpt"):
        raise error
    assert caught.value is error
