"""Output of `inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_jets.config import DataSettings
from ssl_jets.data.inspection import files_as_objects, files_as_text, inspect_files
from ssl_jets.errors import DataError


def test_a_column_without_a_number_has_dashes_and_null(write_jetclass: Callable[..., Path]) -> None:
    path = write_jetclass(edit=lambda branches: branches.update(lost=np.full(50, np.nan, np.float32)))
    looked = inspect_files([str(path)], {})
    line = next(line for line in files_as_text(looked).splitlines() if line.strip().startswith("lost"))
    assert line.split() == ["lost", "–", "–", "–", "0%", "50"]
    found = json.loads(json.dumps(files_as_objects(looked, {}), allow_nan=False))[0]
    numbers = found["sample"]["jet_columns"]["lost"]
    assert [numbers[name] for name in ("least", "median", "most")] == [None] * 3


def many(branches: dict[str, Any]) -> None:
    branches.update({f"FatJet_{number:03}": np.full(50, number, np.float32) for number in range(200)})


def test_a_file_of_many_columns_fits_on_a_screen(write_jetclass: Callable[..., Path]) -> None:
    path = str(write_jetclass(edit=many))
    looked = inspect_files([path], {})
    lines = files_as_text(looked).replace(path, "jets.root").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    shown = sum("FatJet_" in line for line in lines)
    assert f"and {203 - 16} more jet columns: --columns" in lines[-1]
    assert 0 < shown < 16
    everything = files_as_text(looked, columns=True)
    assert all(f"FatJet_{number:03}" in everything for number in range(200))
    assert len(files_as_objects(looked, {})[0]["sample"]["jet_columns"]) == 203


def test_many_files_fit_on_a_screen_and_those_that_look_wrong_come_first(write_jetclass: Callable[..., Path]) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["part_d0val"] = branches["part_d0val"] * np.float32(np.nan)

    paths = [write_jetclass("jets_00.root", entries=20)]
    paths += [paths[0].with_name(f"jets_{number:02}.root") for number in range(1, 29)]
    for path in paths[1:]:
        path.write_bytes(paths[0].read_bytes())
    paths.append(write_jetclass("jets_29.root", edit=spoil))
    looked = inspect_files([str(path) for path in paths], {})
    text = files_as_text(looked)
    assert len(text.splitlines()) <= 90
    lines = text.split("\n\n")[-1].splitlines()
    assert lines[0].startswith(f"{paths[29]}: JetClass (jetclass), tree tree, 50 entries; cannot be used: 50")
    assert lines[-1] == "and 8 more files: --columns or --json shows them"
    assert all(str(path) in files_as_text(looked, columns=True) for path in paths)


def test_jet_columns_of_a_schema_have_their_unit(write_jetclass: Callable[..., Path], tmp_path: Path) -> None:
    schema = tmp_path / "mine.yaml"
    schema.write_text("extends: jetclass\njets:\n  fat_pt: {branch: jet_pt, unit: MeV}\n  ratio: {branch: jet_pt}\n")
    lines = files_as_text(inspect_files([str(write_jetclass())], {}, DataSettings(format=str(schema)))).splitlines()
    words = {line.split()[0]: line.split()[1] for line in lines if line.split()[0] in ("fat_pt", "ratio")}
    assert words["fat_pt"] == "GeV"
    assert float(words["ratio"]) > 0


def test_a_file_of_no_known_format_is_refused_with_names_of_its_branches(tmp_path: Path) -> None:
    np.savez(tmp_path / "jets.npz", p4=np.ones((3, 5, 4), np.float32), y=np.zeros(3, int))
    np.save(tmp_path / "jets.npy", np.ones((3, 5, 4), np.float32))
    with pytest.raises(DataError, match=r"no jets of a known format(.|\n)*6 branches: p4, y, p4\[0\]"):
        inspect_files([str(tmp_path / "jets.npz")], {})
    with pytest.raises(DataError, match=r"no kind that is read(.|\n)*numpy\.savez"):
        inspect_files([str(tmp_path / "jets.npy")], {})
