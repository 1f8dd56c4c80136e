"""YAML files of weaver and salt become schemas that read files of their layout, and name what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ssl_jets.api import read_jets
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.schemas.schema import load_schema
from ssl_jets.data.schemas.starting.numpy_formula import translated
from ssl_jets.data.schemas.starting.reader import starting_point
from ssl_jets.data.sources import Source
from ssl_jets.errors import UsageError
from ssl_jets.jets import COLUMNS

WEAVER = """
selection: (jet_pt > 520) & (abs(jet_eta) < 2)
new_variables:
   part_mask: ak.ones_like(part_energy)
   part_pt: np.hypot(part_px, part_py)
   part_pt_log: np.log(part_pt)
   part_logptrel: np.log(part_pt/jet_pt)
   part_d0: np.tanh(part_d0val)
   part_rank: ak.argsort(part_pt)
preprocess: {method: manual}
inputs:
   pf_points: {length: 128, vars: [[part_deta, null], [part_dphi, null]]}
   pf_features:
      length: 128
      vars:
         - [part_pt_log, 1.7, 0.7]
         - [part_logptrel, -4.7, 0.7]
         - part_charge
         - [part_isChargedHadron, null]
         - [part_isNeutralHadron, null]
         - [part_isPhoton, null]
         - [part_isElectron, null]
         - [part_isMuon, null]
         - [part_d0, null]
         - [part_d0err, 0, 1, 0, 1]
         - [part_rank, null]
   pf_vectors: {length: 128, vars: [[part_px, null], [part_py, null], [part_pz, null], [part_energy, null]]}
   pf_mask: {length: 128, vars: [[part_mask, null]]}
labels: {type: simple, value: [label_QCD, label_Hbb]}
observers: [jet_pt]
weights:
   use_precomputed_weights: false
"""
SALT = """
name: mine
model:
  model:
    init_args:
      tasks:
        init_args:
          modules:
            - init_args: {name: jets_classification, input_name: jets, label: flavour_label}
            - init_args: {name: track_origin, input_name: tracks, label: ftagTruthOriginLabel}
data:
  variables:
    jets: [pt_btagJes, eta_btagJes]
    tracks: [d0, z0SinTheta, dphi, deta, qOverP, numberOfPixelHits]
    electrons: [pt]
"""


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "theirs.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "theirs.yaml"

    return write


def own_schema(tmp_path: Path, yaml: Path) -> Path:
    (tmp_path / "ours.yaml").write_text(starting_point(yaml).text(), encoding="utf-8")
    return tmp_path / "ours.yaml"


def hbb(files: list[JetFile]) -> str:
    return next(str(file.source) for file in files if "HToBB" in str(file.source))


def test_weavers_file_reads_jetclass_like_the_known_format(
    yaml_file: Callable[[str], Path], sample_files: list[JetFile], tmp_path: Path
) -> None:
    data, schema = hbb(sample_files), own_schema(tmp_path, yaml_file(WEAVER))
    ours = read_jets(data, each=100, schema=str(schema), keep=["jet_pt", "jet_eta"])
    known = read_jets(data, each=100, keep=["jet_pt", "jet_eta"])
    chosen = (known.jet["jet_pt"] > 520) & (known.jet["jet_eta"].abs() < 2)
    assert 0 < int(chosen.sum()) < len(known)
    known = known.select(chosen.nonzero()[:, 0])
    names = ("pt", "deta", "dphi", "energy", "charge", "kind", "d0", "d0err")
    assert ours.columns == (*names, "part_logptrel")
    relative = (known.column("pt") / known.jet["jet_pt"][known.jet_of_particle]).log()
    torch.testing.assert_close(ours.column("part_logptrel"), relative)
    torch.testing.assert_close(
        ours.particles[:, : len(names)], known.particles[:, [COLUMNS.index(name) for name in names]]
    )
    assert ours.labels is not None
    assert ours.labels.unique().tolist() == [1]  # QCD, Hbb: in the order of the file


def test_variables_that_are_no_functions_of_columns_are_features(
    yaml_file: Callable[[str], Path], sample_files: list[JetFile], tmp_path: Path
) -> None:
    data, schema = hbb(sample_files), own_schema(tmp_path, yaml_file(WEAVER))
    (file,) = open_files([Source(data)], schema=str(schema))
    assert file.features == ("part_logptrel",)
    assert load_schema(schema).features["part_logptrel"].formula == "log(hypot(part_px, part_py) / jet_pt)"


def test_what_weavers_file_loses_is_named(yaml_file: Callable[[str], Path]) -> None:
    point = starting_point(yaml_file(WEAVER))
    left_out = "\n".join(point.left_out)
    assert "part_rank: ak.argsort" in left_out
    assert "observers: --keep" in left_out
    assert "weights: " in left_out
    assert "part_mask" not in left_out
    assert any("part_pt_log, part_charge" in line for line in point.assumed)
    for line in (*point.assumed, *point.left_out):
        assert line in point.text()


def test_labels_by_formula(yaml_file: Callable[[str], Path]) -> None:
    by_formula = WEAVER.replace("value: [label_QCD, label_Hbb]", "value: [jet_isTop, jet_isQCD]")
    by_formula = by_formula.replace("preprocess:", "   jet_isTop: label\n   jet_isQCD: 1-label\npreprocess:")
    assert starting_point(yaml_file(by_formula)).schema["labels"] == {"jet_isTop": "label", "jet_isQCD": "1 - label"}
    custom = WEAVER.replace("{type: simple, value: [label_QCD, label_Hbb]}", "{type: custom, value: {truth: label.argmax(1)}}")  # fmt: skip  # noqa: E501
    point = starting_point(yaml_file(custom))
    assert "labels" not in point.schema
    assert any("classes are formulas" in line for line in point.left_out)


def test_salts_file_adds_features_and_context_to_the_known_format(
    yaml_file: Callable[[str], Path], tmp_path: Path
) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "ttbar.h5"
    tracks = np.zeros((20, 6), [*((name, "f4") for name in ("qOverP", "deta", "dphi", "d0", "z0SinTheta")),
                                ("numberOfPixelHits", "u1"), ("valid", "?")])  # fmt: skip
    for name in ("deta", "dphi", "d0", "z0SinTheta"):
        tracks[name] = rng.normal(0, 0.1, tracks.shape)
    tracks["qOverP"], tracks["valid"] = 1 / rng.uniform(1e3, 9e3, tracks.shape), np.arange(6) < 4
    tracks["numberOfPixelHits"] = rng.integers(1, 7, tracks.shape)
    jets = np.zeros(20, [("pt_btagJes", "f4"), ("eta_btagJes", "f4"), ("HadronConeExclTruthLabelID", "i4")])
    jets["pt_btagJes"], jets["eta_btagJes"] = rng.uniform(2e4, 9e4, 20), rng.normal(0, 1, 20)
    with h5py.File(path, "w") as file:
        file["jets"], file["tracks"] = jets, tracks
    schema = own_schema(tmp_path, yaml_file(SALT))
    (opened,) = open_files([Source(str(path))], schema=str(schema))
    assert "numberOfPixelHits" in opened.features
    assert {"jet_pt", "jet_eta"} <= set(opened.context)
    assert "charge" in opened.columns
    point = starting_point(yaml_file(SALT))
    left_out = "\n".join(point.left_out)
    for name in ("electrons", "flavour_label", "ftagTruthOriginLabel"):
        assert name in left_out


def test_track_pt_and_uncalibrated_jets_choose_their_format(yaml_file: Callable[[str], Path]) -> None:
    with_pt = SALT.replace("qOverP,", "qOverP, pt,")
    assert starting_point(yaml_file(with_pt)).schema["extends"] == "ftag_pt"
    plain = SALT.replace("pt_btagJes, eta_btagJes", "pt, eta")
    assert starting_point(yaml_file(plain)).schema["extends"] == "ftag_eta"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n", "no YAML file of weaver or salt"),
        ("inputs: {pf_features: {vars: [part_px]}}\n", "kinematics of particles"),
        ("data: {variables: {jets: [pt]}}\n", "variables of tracks"),
    ],
)
def test_other_files_are_one_message(yaml_file: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        starting_point(yaml_file(text))


@pytest.mark.parametrize(
    "text", ["a[0]", "__import__('os').system('true')", "ak.argsort(a)", "a +", "loop", "(a & 4) > 0", "a | 1"]
)
def test_formulas_that_we_do_not_have_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        translated(text, {"loop": "loop + 1"})
