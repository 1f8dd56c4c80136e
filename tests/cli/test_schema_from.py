"""`inspect --schema-from` prints a schema that `inspect --schema` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import Done

WEAVER = """
inputs:
   pf_points: {vars: [part_deta, part_dphi]}
   pf_vectors: {vars: [part_px, part_py, part_pz, part_energy]}
labels: {type: simple, value: [label_QCD]}
observers: [jet_pt]
"""


def test_the_printed_schema_reads_a_file(
    ssl_jets: Callable[..., Done], write_jetclass: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "weaver.yaml").write_text(WEAVER)
    done = ssl_jets("inspect", "--schema-from", "weaver.yaml")
    assert done.code == 0, done.err
    assert "left out: observers" in done.err
    (tmp_path / "mine.yaml").write_text(done.out)
    shown = ssl_jets("inspect", write_jetclass(), "--schema", "mine.yaml")
    assert shown.code == 0, shown.err
    assert "QCD" in shown.out


@pytest.mark.parametrize("words", [(), ("a.root", "--schema-from", "weaver.yaml")])
def test_files_or_a_yaml_file_are_needed_not_both(ssl_jets: Callable[..., Done], words: tuple[str, ...]) -> None:
    done = ssl_jets("inspect", *words)
    assert done.code == 2
    assert "files, or --schema-from" in done.err
