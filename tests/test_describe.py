"""What `inspect` prints of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssl_jets.describe import files_as_json, files_as_text, look_at


def test_a_column_without_a_number_has_dashes_and_null(write_jetclass: Callable[..., Path]) -> None:
    path = write_jetclass(edit=lambda branches: branches.update(lost=np.full(50, np.nan, np.float32)))
    looked = look_at([str(path)], {})
    line = next(line for line in files_as_text(looked).splitlines() if line.strip().startswith("lost"))
    assert line.split() == ["lost", "–", "–", "–", "0%", "50"]
    found = json.loads(files_as_json(looked, {}), parse_constant=lambda name: f"not JSON: {name}")[0]
    numbers = found["sample"]["jet_columns"]["lost"]
    assert [numbers[name] for name in ("least", "median", "most")] == [None] * 3
