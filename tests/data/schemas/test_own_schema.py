"""A user's own schema reads files of no known format, and an error in it names the nearest alternatives."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import uproot

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import open_files
from ssl_jets.data.inspection import files_as_text, inspect_files
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.schema import load_schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.pretraining import pretrain, resolve_pretrain
from support.jetclass_files import jetclass_branches, write_tree

Write = Callable[..., Path]

MINE = """
particles:
  pt: {formula: "hypot(trk.px, trk.py)", unit: MeV}
  deta: {formula: "eta(trk.px, trk.py, trk.pz)", absolute: true}
  dphi: {formula: "phi(trk.px, trk.py)", absolute: true}
  d0: {branch: trk.d0, unit: cm}
  kind: {formula: kind(trk.id)}
axis: {eta: jets.eta, phi: jets.phi}
particle_cut: trk.valid == 1
jet_cut: jets.pt > 100000
jets:
  jet_pt: {branch: jets.pt, unit: MeV}
labels:
  light: jets.flavour < 4
  heavy: jets.flavour >= 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two datasets of compound types, as flavour taggers use them: jets, and padded tracks with a flag `valid`."""
    rng = np.random.default_rng(0)
    names = ("px", "py", "pz", "d0")
    tracks = np.zeros((30, 8), [*((name, "f4") for name in names), ("id", "i4"), ("valid", "?")])
    for name in names:
        tracks[name] = rng.normal(0, 5000, tracks.shape)
    tracks["id"] = rng.choice([211, -11, 22], tracks.shape)
    tracks["valid"] = np.arange(8) < rng.integers(1, 9, 30)[:, None]
    jets = np.zeros(30, [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("flavour", "i4")])
    jets["pt"], jets["eta"] = rng.uniform(50e3, 200e3, 30), rng.normal(0, 1, 30)
    jets["phi"], jets["flavour"] = rng.uniform(-3, 3, 30), rng.integers(0, 6, 30)
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as output:
        output["jets"], output["trk"] = jets, tracks
    return path


def schema(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def test_a_schema_converts_units_cuts_unpads_and_labels(file: Path, tmp_path: Path) -> None:
    (opened,) = open_files([Source(str(file))], schema=schema(tmp_path, MINE))
    assert (opened.label_names, opened.columns) == (("light", "heavy"), ("pt", "deta", "dphi", "kind", "d0"))
    jets, left_out = read_chunk(opened, 0, 0, 30, Request(jet_columns=("jet_pt", "jets.eta")))
    with h5py.File(file) as content:
        raw, tracks = content["jets"][:], content["trk"][:]
    kept = raw["pt"] > 100e3
    assert left_out == {"not jets.pt > 100000": int((~kept).sum())}
    assert jets.source is not None
    assert jets.source[:, 1].tolist() == np.flatnonzero(kept).tolist()
    assert jets.lengths.tolist() == tracks["valid"][kept].sum(1).tolist()
    np.testing.assert_allclose(jets.jet["jet_pt"], raw["pt"][kept] / 1000, rtol=1e-6)
    real = tracks[kept][tracks["valid"][kept]]
    np.testing.assert_allclose(jets.column("pt"), np.hypot(real["px"], real["py"]) / 1000, rtol=1e-6)
    np.testing.assert_allclose(jets.column("d0"), real["d0"] * 10, rtol=1e-6)
    axis = np.repeat(raw["eta"][kept], tracks["valid"][kept].sum(1))
    deta = np.arcsinh(real["pz"] / np.hypot(real["px"], real["py"])) - axis
    np.testing.assert_allclose(jets.column("deta"), np.where(axis < 0, -deta, deta), atol=1e-5)
    assert jets.column("dphi").abs().max() <= np.pi
    assert jets.labels is not None
    assert jets.labels.tolist() == (raw["flavour"][kept] >= 4).tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("branch: trk.d0", "branch: trk.d00", r"lacks the branch trk\.d00[\s\S]*most like trk\.d00 are: trk\.d0"),
        ("branch: jets.pt", "branch: jets.pz", r"lacks the branch jets\.pz[\s\S]*jets\.p"),
        ("light: jets.flavour", "light: jets.flavor", r"lacks the branch jets\.flavor[\s\S]*jets\.flavour"),
        ("eta: jets.eta", "eta: jets.etta", r"lacks the branch jets\.etta"),
        ("unit: cm", "unit: um", "data.format|value that is not allowed"),
        ("unit: cm", "unit: GeV", "the unit of d0 is one of mm, cm, m"),
        ("trk.px, trk.py)", "trk.px +* trk.py)", "not a formula"),
        ("particle_cut", "particlecut", "particle_cut"),
        ("jet_pt: {branch: jets.pt", "jet_pt: {formula: trk.px", "for each particle"),
        ("light: jets.flavour < 4", "light: jets.flavour < 5", "no class, or to several"),
        ('pt: {formula: "hypot(trk.px, trk.py)", unit: MeV}', "", "missing: pt"),
        (
            "kind: {formula: kind(trk.id)}",
            "kind: {branch: trk.id}",
            r"kind is not an integer from 0 to 5[\s\S]*kind\(BRANCH\)",
        ),
        ("unit: cm}", "unit: cm}\n  d0: {branch: trk.d0, unit: mm}", "'d0' is given twice"),
        ("jet_cut: jets.pt >", "jet_cut: trk.px >", r"for each particle[\s\S]*mine.yaml[\s\S]*trk.px"),
        ("axis: {eta: jets.eta, phi: jets.phi}", "", r"keys do not go together[\s\S]*mine.yaml[\s\S]*the axis"),
    ],
)
def test_an_error_in_a_schema_names_the_nearest_alternatives(
    file: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in MINE
    with pytest.raises(SslJetsError, match=message):
        read_chunk(
            open_files([Source(str(file))], schema=schema(tmp_path, MINE.replace(old, new, 1)))[0], 0, 0, 30, Request()
        )


def test_an_error_in_a_schema_mentions_no_settings(file: Path, tmp_path: Path) -> None:
    for old, new in (("particle_cut", "particlecut"), ("axis: {eta: jets.eta, phi: jets.phi}", "")):
        with pytest.raises(UsageError) as caught:
            load_schema(schema(tmp_path, MINE.replace(old, new, 1)))
        text = str(caught.value)
        assert "setting" not in text
        assert "--set" not in text
        assert "hypot" not in text  # the whole schema


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axis: {eta: jets.eta}", r"a key is missing[\s\S]*mine.yaml: axis.phi"),
        ("label_index: {branch: jets.flavour}", r"a key is missing[\s\S]*mine.yaml: label_index.names"),
        (
            "events: {collections: {a: {}}, jets: {pt: pt}, prefix: a, particles: [{pt: b}]}",
            r"missing[\s\S]*events.link",
        ),
        (
            "events: {collections: {a: {}}, jets: {pt: pt}, prefix: a, particles: [{pt: b}], link: {table: [c]}}",
            r"a key has too few values[\s\S]*events.link.table[\s\S]*\['c'\]",
        ),
    ],
)
def test_a_key_or_value_that_a_schema_lacks_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_schema(schema(tmp_path, text))
    assert "Field required" not in str(caught.value)


def test_classes_of_an_index_are_chosen_in_a_schema(write_jetclass: Write, tmp_path: Path) -> None:
    path = write_jetclass(label=None, edit=lambda branches: branches.update(flavour=np.arange(50, dtype=np.int32) % 3))
    text = "extends: jetclass\nlabel_index: {branch: flavour, names: [g, q, t]}"
    with pytest.raises(
        UsageError, match=r"labels that were asked for[\s\S]*chosen in a schema: `labels: {A: flavour == 0}`"
    ):
        open_files([Source(str(path))], schema=schema(tmp_path, text), labels=("g", "q"))


def test_powers_of_whole_numbers_are_not_whole(write_jetclass: Write, tmp_path: Path) -> None:
    path = write_jetclass()
    text = "extends: jetclass\njets: {jet_pt_tev: {formula: 'jet_pt * 10**-3'}}\njet_cut: jet_pt > 10**10**10"
    (opened,) = open_files([Source(str(path))], schema=schema(tmp_path, text))
    jets, left_out = read_chunk(opened, 0, 0, 50, Request(jet_columns=("jet_pt_tev",)))
    assert (len(jets), left_out.total()) == (0, 50)
    (opened,) = open_files([Source(str(path))], schema=schema(tmp_path, text.rpartition("\n")[0]))
    jets, _ = read_chunk(opened, 0, 0, 50, Request(jet_columns=("jet_pt_tev", "jet_pt")))
    torch.testing.assert_close(jets.jet["jet_pt_tev"], jets.jet["jet_pt"] / 1000)


def test_a_schema_can_extend_a_known_one(write_jetclass: Write, tmp_path: Path) -> None:
    path = write_jetclass(label=None, edit=lambda branches: branches.update(flavour=np.arange(50, dtype=np.int32) % 3))
    text = "extends: jetclass\nlabel_index: {branch: flavour, names: [g, q, t]}"
    (opened,) = open_files([Source(str(path))], schema=schema(tmp_path, text))
    labels = read_chunk(opened, 0, 0, 50, Request())[0].labels
    assert labels is not None
    assert (opened.label_names, labels.tolist()) == (("g", "q", "t"), [index % 3 for index in range(50)])


def test_labels_of_ones_own_replace_the_index_of_a_known_format(tmp_path: Path) -> None:
    text = "extends: jetclass2\nlabels: {QCD: jet_label >= 161, other: jet_label < 161}"
    extended = load_schema(schema(tmp_path, text))
    assert extended.label_index is None
    assert extended.labels == {"QCD": "jet_label >= 161", "other": "jet_label < 161"}


def test_a_schema_that_changes_other_keys_reads_unlabelled_files_as_the_format_it_extends(
    write_jetclass: Write, tmp_path: Path
) -> None:
    path = write_jetclass(label=None)
    more = schema(tmp_path, "extends: jetclass\njets: {mass: {branch: jet_sdmass}}")
    (opened,) = open_files([Source(str(path))], schema=more)
    assert (opened.label_names, opened.schema.name) == ((), "mine")
    with pytest.raises(DataError, match="lacks the branch gone"):
        open_files([Source(str(path))], schema=schema(tmp_path, "extends: jetclass\njets: {mass: {branch: gone}}"))
    labels = "extends: jetclass\nlabels: {QCD: label_QCD, top: label_Tbl}"
    with pytest.raises(DataError, match="lacks the branch label_QCD, label_Tbl"):
        open_files([Source(str(path))], schema=schema(tmp_path, labels))


def test_columns_that_look_like_labels_are_named_where_there_are_none(write_jetclass: Write) -> None:
    numbers = {name: np.arange(50, dtype=np.int32) for name in ("aux_truth_match", "flavour")}
    path = write_jetclass(label=None, edit=lambda branches: branches.update(numbers))
    hint = r"flavour, aux_truth_match may be labels: `label_index: \{branch: flavour, names: \[\.\.\.\]\}`"
    assert re.search(hint, files_as_text(inspect_files([str(path)], {})))
    with pytest.raises(DataError, match=hint):
        pretrain(resolve_pretrain("supervised", {"data": {"sources": [str(path)]}}), path.parent / "run")


def test_a_known_schema_can_be_named_and_a_wrong_name_is_an_error(write_jetclass: Write) -> None:
    path = write_jetclass()
    assert open_files([Source(str(path))], schema="jetclass")[0].schema.name == "jetclass"
    with pytest.raises(UsageError, match="no such format") as caught:
        open_files([Source(str(path))], schema="jetclas")
    assert caught.value.allowed is not None
    assert caught.value.allowed[0] == "jetclass"
    with pytest.raises(DataError, match="looks like JetNet"):
        open_files([Source(str(path))], schema="jetnet")


def test_jetclass_as_an_rntuple_is_the_same_file(tmp_path: Path) -> None:
    branches = jetclass_branches(50, seed=4)
    tree = write_tree(tmp_path / "tree.root", {"tree": branches})
    with uproot.recreate(tmp_path / "ntuple.root") as output:
        output.mkrntuple("tree", {name: values[:20] for name, values in branches.items()})
        output["tree"].extend({name: values[20:] for name, values in branches.items()})
    first, second = open_files([Source(str(tree)), Source(str(tmp_path / "ntuple.root"))])
    assert (second.entries, second.boundaries) == (50, (0, 20, 50))
    assert (second.columns, second.label_names) == (first.columns, first.label_names)
    assert set(second.jet_columns) == set(first.jet_columns)
    for start, stop in ((0, 50), (15, 33)):
        one, other = (read_chunk(opened, 0, start, stop, Request())[0] for opened in (first, second))
        assert torch.equal(one.particles, other.particles)
        assert torch.equal(one.offsets, other.offsets)


def flat(folder: Path, **jet: np.ndarray) -> Path:
    """Jets of three particles in padded datasets, with the given numbers for each jet."""
    rng = np.random.default_rng(0)
    path = folder / "flat.h5"
    with h5py.File(path, "w") as output:
        for name, values in jet.items():
            output[name] = values
        for name in ("pt", "eta", "phi"):
            output[name] = rng.uniform(1, 2, (len(next(iter(jet.values()))), 3)).astype("f4")
    return path


FLAT = """
particles:
  pt: {branch: pt, unit: GeV}
  deta: {branch: eta, absolute: true}
  dphi: {branch: phi, unit: rad, absolute: true}
axis: {eta: jet_eta, phi: jet_phi}
"""


def test_a_jet_without_an_axis_is_a_bad_jet(tmp_path: Path) -> None:
    eta = np.array([0.1, np.nan, 0.3, 0.4], dtype="f4")
    path = flat(tmp_path, jet_eta=eta, jet_phi=np.zeros(4, dtype="f4"))
    file = open_files([Source(str(path))], schema=schema(tmp_path, FLAT))[0]
    with pytest.raises(DataError, match="deta is not finite"):
        read_chunk(file, 0, 0, 4, Request())
    jets, left_out = read_chunk(file, 0, 0, 4, Request(bad_jets="skip"))
    assert len(jets) == 3
    assert left_out == {"deta is not finite": 1}
    assert torch.isfinite(jets.particles).all()


def test_whole_numbers_neither_wrap_around_nor_overflow(tmp_path: Path) -> None:
    tag, flag = np.arange(7, dtype="u1"), np.array([0, 1] * 3 + [0], dtype="?")
    path = flat(tmp_path, tag=tag, flag=flag, jet_eta=np.zeros(7, "f4"), jet_phi=np.zeros(7, "f4"))
    jets = "jets: {far: {formula: tag * 1000}, less: {formula: flag - 1}}\n"
    text = FLAT + jets + "labels: {near: abs(tag - 3) <= 1, other: abs(tag - 3) > 1}\n"
    file = open_files([Source(str(path))], schema=schema(tmp_path, text))[0]
    found, _ = read_chunk(file, 0, 0, 7, Request(jet_columns=("far", "less")))
    assert found.labels is not None
    assert found.labels.tolist() == [1, 1, 0, 0, 0, 1, 1]
    assert found.jet["far"].tolist() == (1000.0 * tag).tolist()
    assert found.jet["less"].tolist() == (flag - 1.0).tolist()


def test_jet_columns_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    weight = np.array([1.5, -2.5], dtype=">f8")
    path = flat(tmp_path, w=weight, jet_eta=np.zeros(2, "f4"), jet_phi=np.zeros(2, "f4"))
    file = open_files([Source(str(path))], schema=schema(tmp_path, FLAT))[0]
    found, _ = read_chunk(file, 0, 0, 2, Request(jet_columns=("w",)))
    assert found.jet["w"].tolist() == weight.tolist()


def test_a_name_in_braces_without_a_value_is_an_error(tmp_path: Path) -> None:
    text = (resources.files("ssl_jets") / "data" / "schemas" / "formats" / "edm4hep.yaml").read_text(encoding="utf-8")
    text = text.replace('prefix: "{jets}."', 'prefix: "{jetz}."')
    with pytest.raises(UsageError, match=r"(?s)events.*Jet has no word for \{jetz\}"):
        load_schema(schema(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("particles: {pt: {brunch: a}}", r"particles\.pt\.brunch.*branch"),
        ("extends: lhco\ncluster: {radios: 0.4}", r"cluster\.radios.*radius"),
    ],
)
def test_a_misspelt_key_deep_in_a_schema_is_an_error_with_the_nearest_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        load_schema(schema(tmp_path, text))
