"""Files of a training are recognised by contents; copies stay together and are named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ssl_jets.data.files import JetFile, count
from ssl_jets.data.identity import FileId
from ssl_jets.data.seen import Seen, check_same, copies, copies_of, fingerprint, joint_training
from ssl_jets.data.sources import Source
from ssl_jets.data.split import split
from ssl_jets.errors import DataError

DIGEST, OTHER = "a" * 32, "b" * 32


def renamed(file: JetFile, name: str) -> JetFile:
    return replace(file, source=Source(f"elsewhere/{name}"))


def test_a_renamed_file_is_recognised_and_one_of_its_name_is_not() -> None:
    seen = Seen.of({"files": [["a.root", 7, DIGEST]], "held_out": [["a.root", 7, DIGEST, 3, 5]]})
    assert seen.trained(FileId("b.root", 7, DIGEST))
    assert seen.ranges(FileId("b.root", 7, DIGEST)) == [(3, 5)]
    assert not seen.trained(FileId("a.root", 7, OTHER))
    assert seen.ranges(FileId("a.root", 7, OTHER)) == []
    assert Seen.of(seen.facts()) == seen


def test_two_trainings_on_one_file_of_two_names_have_in_common_what_both_held_out() -> None:
    first = {"files": [["a.root", 7, DIGEST]], "held_out": [["a.root", 7, DIGEST, 0, 50]]}
    second = {"files": [["b.root", 7, DIGEST]], "held_out": [["b.root", 7, DIGEST, 40, 90]]}
    joint = Seen.of(joint_training([first, second]))
    assert joint.ranges(FileId("c.root", 7, DIGEST)) == [(40, 50)]
    assert not joint.trained(FileId("a.root", 7, OTHER))


def test_a_record_without_digests_is_refused() -> None:
    with pytest.raises(DataError, match="without digests"):
        Seen.of({"files": [["a.root", 7]], "held_out": [["a.root", 7, 0, 50]]})


def test_a_file_of_the_name_of_a_training_file_with_other_contents_is_named(sample_files: list[JetFile]) -> None:
    trained, later = sample_files[0], renamed(sample_files[1], sample_files[0].name)
    seen = Seen.of_parts([trained], [], [])
    assert seen.notes([trained, later]) == []
    seen = Seen((trained.identity,), ())
    [note] = seen.notes([trained, later])
    assert note.endswith(f": elsewhere/{trained.name}")


def test_copies_are_named_in_one_line_and_files_without_jets_are_none(sample_files: list[JetFile]) -> None:
    first, second = sample_files[:2]
    assert copies_of([first, second]) == []
    files = [first, renamed(first, "x.root"), second, *(renamed(second, f"{name}.root") for name in "pqrs")]
    assert copies(files) == {1: 0, 3: 2, 4: 2, 5: 2, 6: 2}
    [line] = copies_of(files)
    assert line.startswith("WARNING: 5 files are copies of others, so the same jets are there more than once: ")
    assert f"elsewhere/x.root of {first.source}, " in line
    assert line.endswith(" and 2 more")
    empty = replace(first, entries=0)
    assert copies([empty, renamed(empty, "y.root")]) == {}


@pytest.mark.parametrize("files", [2, 6])
def test_no_jet_of_a_copy_is_on_both_sides_of_a_split(sample_files: list[JetFile], files: int) -> None:
    """Of few files blocks are held out, of many of one group whole files; the first name of each decides."""
    single = [renamed(file, f"jets_{index}.root") for index, file in enumerate(sample_files[:files])]
    pairs = [*single, *(renamed(file, f"later_{index}.root") for index, file in enumerate(single))]
    train, held = split(pairs, 0.2, seed=1)

    def contents(parts: list) -> set[tuple[str, int]]:
        return {(pairs[part.file].digest, entry) for part in parts for entry in range(part.start, part.stop)}

    assert not contents(train) & contents(held)
    assert count(train) == 2 * len(contents(train))
    assert [part for part in train if part.file < files] == split(single, 0.2, seed=1)[0]


def test_processes_that_see_other_contents_are_refused_and_the_file_is_named(sample_files: list[JetFile]) -> None:
    first, second = sample_files[:2]
    check_same([fingerprint([first, second])] * 3)
    with pytest.raises(DataError, match="2, 1 files"):
        check_same([fingerprint([first, second]), fingerprint([first])])
    changed = replace(second, digest=DIGEST)
    with pytest.raises(DataError, match=f"{second.name} has other contents"):
        check_same([fingerprint([first, second]), fingerprint([first, changed])])
