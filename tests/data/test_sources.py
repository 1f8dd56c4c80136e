"""Names as a user types them become files, and every mistake is told with what is near."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from ssl_jets.data.files import open_files
from ssl_jets.data.readers import remote
from ssl_jets.data.sources import Source, resolve_sources, sample_sources
from ssl_jets.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.root", "a.root", "sub/c.root", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gives_the_files_of_known_formats_sorted_with_subfolders(folder: Path) -> None:
    assert resolve_sources([str(folder)]) == [Source(str(folder / name)) for name in ("a.root", "b.root", "sub/c.root")]


def test_linked_folders_are_searched_once_and_loops_are_none(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.root").touch()
    for link, to in ("far", elsewhere), ("far2", elsewhere), ("latest", folder / "sub"), ("sub/up", folder):
        (folder / link).symlink_to(to)
    names = ("a.root", "b.root", "far/d.root", "sub/c.root")
    assert resolve_sources([str(folder)]) == [Source(str(folder / name)) for name in names]


def test_a_link_to_a_file_that_is_gone_is_named_or_skipped_and_counted(write_jetclass: Callable[..., Path]) -> None:
    path = write_jetclass("QCD_0.root")
    gone = path.with_name("QCD_1.root")
    gone.symlink_to("gone.root")
    for name in str(path.parent), f"{path.parent}/*.root":
        sources = resolve_sources([name])
        assert [source.path for source in sources] == [str(path), str(gone)]
        with pytest.raises(DataError, match="cannot be read"):
            open_files(sources)
        assert len(open_files(sources, left_out=(left_out := dict[str, str]()))) == 1
        assert left_out == {str(gone): "the file cannot be read"}
    with pytest.raises(DataError, match="No such file"):
        open_files(resolve_sources([str(gone)]))


def test_a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> Any:  # tests may run as root, for whom no folder is closed
        if str(path) == str(folder / "sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"(?s)cannot be read.*sub.*Permission denied"):
        resolve_sources([str(folder)])


def test_a_name_that_is_too_long_is_one_message() -> None:
    with pytest.raises(DataError, match=r"(?s)no such file.*name too long"):
        resolve_sources([",".join(["jets.root"] * 100)])


def test_a_pattern_gives_the_matching_files_sorted(folder: Path) -> None:
    assert resolve_sources([f"{folder}/?.root"]) == [Source(str(folder / name)) for name in ("a.root", "b.root")]
    assert len(resolve_sources([f"{folder}/**/*.root"])) == 3


def test_a_tree_is_named_behind_a_colon_for_files_patterns_and_folders(folder: Path) -> None:
    assert resolve_sources([f"{folder}/a.root:Events"]) == [Source(f"{folder}/a.root", "Events")]
    assert {source.tree for source in resolve_sources([f"{folder}/?.root:my/tree"])} == {"my/tree"}
    assert {source.tree for source in resolve_sources([f"{folder}:jets"])} == {"jets"}


def test_a_file_with_a_colon_in_its_name_is_a_file(folder: Path) -> None:
    (folder / "x:y.root").touch()
    assert resolve_sources([f"{folder}/x:y.root"]) == [Source(f"{folder}/x:y.root")]


def test_a_list_may_have_comments_empty_lines_and_trees(folder: Path) -> None:
    (folder / "list.txt").write_text(f"# mine\n\n{folder}/b.root\n  {folder}/a.root:tree \n")
    expected = [Source(f"{folder}/b.root"), Source(f"{folder}/a.root", "tree")]
    assert resolve_sources([f"@{folder}/list.txt"]) == expected


def test_a_dash_reads_names_from_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{folder}/b.root\n"))
    assert resolve_sources(["-"]) == [Source(f"{folder}/b.root")]


def test_a_source_is_printed_as_it_is_typed() -> None:
    assert str(Source("a.root", "tree")) == "a.root:tree"
    assert str(Source("a.root")) == "a.root"


@pytest.mark.parametrize("name", ["{}/aa.root", "{}/aa.root:tree", "@{}/aa.txt", "{}x/a.root"])
def test_a_missing_file_is_told_with_what_is_near(folder: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        resolve_sources([name.format(folder)])
    assert str(folder) in str(caught.value)
    assert caught.value.allowed is not None
    if "aa.root" in name:
        assert caught.value.allowed[0] == str(folder / "a.root")


@pytest.mark.parametrize("name", ["{}/*.parquet", "{}/empty", "@{}/empty.txt"])
def test_no_files_at_all_is_an_error(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match=r"empty|matches|no files"):
        resolve_sources([name.format(folder)])


def test_no_names_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no input files"):
        resolve_sources([])


def test_a_file_named_twice_is_refused_however_it_is_spelt(folder: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        resolve_sources([str(folder), f"{folder}/sub/../a.root"])


def test_two_trees_of_one_file_are_two_sources(folder: Path) -> None:
    assert len(resolve_sources([f"{folder}/a.root:x", f"{folder}/a.root:y"])) == 2


@pytest.mark.parametrize("line", ["-", "@other.txt"])
def test_a_list_in_a_list_is_refused(folder: Path, line: str) -> None:
    (folder / "list.txt").write_text(f"{line}\n")
    with pytest.raises(UsageError, match="names another list"):
        resolve_sources([f"@{folder}/list.txt"])


def test_messages_about_a_list_name_its_lines_and_do_not_show_them(folder: Path) -> None:
    for content in ("hunter2", "@hunter2", "gopher://hunter2/a.root", "a.root\n:hunter2", f"{folder}/hunter2.root"):
        (folder / "list.txt").write_text(content)
        with pytest.raises((DataError, UsageError)) as caught:
            resolve_sources([f"@{folder}/list.txt"])
        assert "hunter2" not in str(caught.value)
        assert "list.txt, line" in str(caught.value)


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_list_may_have_a_byte_order_mark_and_comments_behind_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    (folder / "c #1.root").touch()
    text = f"{start}{folder}/b.root  # the good one\r\n  # none\n{folder}/c #1.root\n"
    expected = [Source(f"{folder}/b.root"), Source(f"{folder}/c #1.root")]
    (folder / "list.txt").write_text(text, encoding="utf-8")
    assert resolve_sources([f"@{folder}/list.txt"]) == expected
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert resolve_sources(["-"]) == expected


def test_files_of_a_folder_are_known_by_their_first_bytes_and_the_others_are_counted(tmp_path: Path) -> None:
    kept = {"x.root.1": b"root\0\0\xf3", "y": b"PAR1", "z.bin": b"\x89HDF\r\n\x1a\n"}
    passed_over = {"log": b"root [0] .q", "empty": b"", "n.txt": b"jets"}
    for name, content in (kept | passed_over).items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "jets.npz", x=np.ones(3))
    (tmp_path / "jets.npz").rename(tmp_path / "jets.npz.2")
    with ZipFile(tmp_path / "words.docx", "w") as archive:
        archive.writestr("word/document.xml", "")
    said: list[str] = []
    found = resolve_sources([str(tmp_path)], said.append)
    assert [Path(source.path).name for source in found] == ["jets.npz.2", *kept]
    assert len(said) == 1
    assert f"{tmp_path}: 4 files, such as empty" in said[0]


def test_a_file_of_a_known_suffix_is_listed_and_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "notes.txt").unlink()
    monkeypatch.setattr("builtins.open", None)
    assert len(resolve_sources([str(folder)])) == 3


def test_what_a_folder_without_jets_holds_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("jets")
    with pytest.raises(DataError, match=r"1 file, such as notes\.txt"):
        resolve_sources([str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "path", "tree"),
    [
        ("http://host:80/a.root", "http://host:80/a.root", None),
        ("http://host:80/a.root:tree", "http://host:80/a.root", "tree"),
    ],
)
def test_an_address_is_taken_as_it_is(name: str, path: str, tree: str | None) -> None:
    assert resolve_sources([name]) == [Source(path, tree)]


def test_an_address_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="fsspec-xrootd, which is not installed") as caught:
        resolve_sources(["root://host:1094//store/a.root"])
    assert "ssl-jets[xrootd]" in str(caught.value)
    with pytest.raises(UsageError, match="protocol is not known"):
        resolve_sources(["gopher://host/a.root"])


@pytest.mark.parametrize("name", ["{}/a.root:", ":tree"])
def test_a_colon_without_a_tree_or_a_file_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="FILE:TREE"):
        resolve_sources([name.format(folder)])


def test_the_sample_is_there_under_ten_megabytes_with_one_file_a_class() -> None:
    paths = [Path(source.path) for source in sample_sources()]
    assert len(paths) == 10
    assert sum(path.stat().st_size for path in paths) < 10e6


def test_neighbours_are_not_shown_where_the_folder_of_a_missing_file_is_missing_too(tmp_path: Path) -> None:
    (tmp_path / "jets").mkdir()
    (tmp_path / "unrelated.txt").write_text("")
    with pytest.raises(DataError) as caught:
        resolve_sources([str(tmp_path / "jest" / "a.root")])
    assert caught.value.allowed == [str(tmp_path / "jets")]
    with pytest.raises(DataError) as caught:
        resolve_sources([str(tmp_path / "elsewhere" / "a.root")])
    assert caught.value.allowed is None


def test_hidden_files_of_a_folder_are_not_meant(tmp_path: Path) -> None:
    for name in ("a.root", ".b.root", ".unfinished.x1/c.root"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [Path(source.path).name for source in resolve_sources([str(tmp_path)])] == ["a.root"]


def test_a_missing_list_has_the_reason_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        resolve_sources([f"@{tmp_path}/files.txt"])
    assert caught.value.found == "No such file or directory"
