"""Jets from awkward records of vector and coffea, and results in the nesting of the events."""

from __future__ import annotations

import re
import warnings
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import vector

import ssl_jets
from ssl_jets.config import FeatureSettings, ModelSettings
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.model import Model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from support.paths import ROOT

vector.register_awkward()
JETS = [[2, 0, 3], [], [1]]
"""Particles of each jet of each event."""


def events(seed: int = 0, mass: float = 0.14) -> ak.Array:
    """Events as coffea gives them: `FatJet` with eta and phi, and the particles of each jet as `constituents`."""
    random = np.random.default_rng(seed)
    flat = [length for event in JETS for length in event]
    jets = {"pt": random.uniform(200, 900, len(flat)), "eta": random.uniform(-2, 2, len(flat)),
            "phi": random.uniform(-3.1, 3.1, len(flat)), "mass": random.uniform(10, 90, len(flat))}  # fmt: skip
    of_jet = np.repeat(np.arange(len(flat)), flat)
    particles = {"pt": random.uniform(1, 90, sum(flat)), "eta": jets["eta"][of_jet] + random.normal(0, 0.2, sum(flat)),
                 "phi": jets["phi"][of_jet] + random.normal(0, 0.2, sum(flat)), "mass": np.full(sum(flat), mass),
                 "charge": random.integers(-1, 2, sum(flat)), "d0": random.normal(0, 0.1, sum(flat))}  # fmt: skip
    packed = ak.unflatten(ak.zip(particles, with_name="Momentum4D"), flat)
    records = ak.zip({**jets, "constituents": packed}, depth_limit=1, with_name="Momentum4D")
    return ak.zip({"FatJet": ak.unflatten(records, [len(event) for event in JETS])}, depth_limit=1)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1, context={"jet_eta": FeatureSettings()}))
    return Model(
        encoder.eval(), ClassHead(64, 2), ("a", "b"), {"training": {"columns": ["pt", "deta", "dphi", "energy"]}}
    )


def test_columns_are_relative_to_the_axis_in_the_convention_of_files() -> None:
    fat = events().FatJet
    jets = Jets.from_awkward(fat.constituents, fat, columns={"d0": 10 * fat.constituents.d0})
    assert jets.columns == ("pt", "deta", "dphi", "energy", "charge", "d0")
    assert jets.lengths.tolist() == [2, 0, 3, 1]
    particles, axis = ak.flatten(fat.constituents, axis=1), ak.flatten(fat, axis=1)
    relative = np.sign(axis.eta) * (particles.eta - axis.eta)
    np.testing.assert_allclose(jets.column("deta"), ak.flatten(relative), rtol=1e-5, atol=1e-6)
    turn = np.angle(np.exp(1j * ak.to_numpy(ak.flatten(particles.phi - axis.phi))))
    np.testing.assert_allclose(jets.column("dphi"), turn, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jets.column("energy"), ak.flatten(particles.E), rtol=1e-6)
    np.testing.assert_allclose(jets.column("d0"), 10 * ak.flatten(particles.d0), rtol=1e-6)


def test_vectors_of_other_components_and_the_axis_of_the_sum() -> None:
    particles = ak.flatten(events().FatJet.constituents, axis=1)
    cartesian = ak.zip({name: getattr(particles, name) for name in ("px", "py", "pz", "E")}, with_name="Momentum4D")
    one, other = Jets.from_awkward(particles), Jets.from_awkward(cartesian)
    torch.testing.assert_close(one.particles[:, :4], other.particles, rtol=1e-4, atol=1e-5)
    total = ak.sum(particles, axis=1)
    expected = np.sign(total.eta) * (particles.eta - total.eta)
    np.testing.assert_allclose(one.column("deta"), ak.flatten(expected), rtol=1e-4, atol=1e-5)


def test_records_without_behaviour_have_no_energy_without_mass() -> None:
    jets = Jets.from_awkward(ak.Array([[{"pt": 5.0, "eta": 1.0, "phi": 0.2}]]))
    assert jets.columns == ("pt", "deta", "dphi")


def test_a_processor_of_coffea_embeds_its_jets(model: Model) -> None:
    """The body of `process(events)`: the result is a column of the jets of each event."""
    fat = events().FatJet
    z = model.embed(fat)
    assert ak.num(z, axis=1).tolist() == [3, 0, 1]
    assert z.ndim == 3
    expected = model.embed(Jets.from_awkward(fat.constituents, fat))
    flat = ak.to_numpy(ak.flatten(z, axis=1))
    np.testing.assert_allclose(flat[[0, 2, 3]], expected[[0, 2, 3]])
    assert np.isnan(flat[1]).all()  # a jet without particles
    p = model.predict(fat)
    assert ak.num(p, axis=1).tolist() == [3, 0, 1]
    with_z = ak.with_field(fat, p[..., 0], "p_a")
    assert with_z.p_a[2, 0] == pytest.approx(float(p[2, 0, 0]))


def test_context_is_read_from_the_axis(model: Model) -> None:
    fat = events().FatJet
    torch.nn.init.normal_(model.encoder.context.embed.weight)  # type: ignore[union-attr]
    without = model.embed(fat)
    model.facts["training"]["context"] = ["jet_eta"]
    assert not np.allclose(ak.flatten(model.embed(fat), axis=None), ak.flatten(without, axis=None), equal_nan=True)


def test_pt_of_the_records_is_context_as_of_files() -> None:
    torch.manual_seed(0)
    numbers = {"jet_pt": FeatureSettings(transform="log"), "jet_eta": FeatureSettings()}
    encoder = Encoder(ModelSettings(size="tiny", blocks=1, context=numbers))
    torch.nn.init.normal_(encoder.context.embed.weight)  # type: ignore[union-attr]
    facts = {"training": {"columns": ["pt", "deta", "dphi", "energy"], "context": ["jet_pt", "jet_eta"]}}
    model, fat = Model(encoder.eval(), facts=facts), events().FatJet
    with warnings.catch_warnings(action="error"):
        found = ak.to_numpy(ak.flatten(model.embed(fat), axis=1))
    for context in (
        {"jet_pt": fat.pt, "jet_eta": abs(fat.eta)},
        {"jet_pt": ak.flatten(fat.pt), "jet_eta": [*map(abs, ak.flatten(fat.eta))]},
    ):
        jets = Jets.from_awkward(fat.constituents, fat, context=context)
        np.testing.assert_allclose(found, model.embed(jets), rtol=1e-5, atol=1e-6)
    assert np.isnan(found[1]).all()
    with pytest.warns(UserWarning, match="missing .*: jet_pt$"):
        assert not np.allclose(ak.flatten(model.embed(fat[["eta", "phi", "constituents"]]), axis=1)[0], found[0])


def test_the_page_gives_tracks_as_files_do(model: Model) -> None:
    """PFNano has -1 for the impact parameters of candidates without a track, and the other sign of d0."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "d0Err" in block)
    fat = events().FatJet
    d0, error = (ak.where(fat.constituents.charge == 0, -1.0, value) for value in (fat.constituents.d0, 0.01))
    pf = ak.with_field(ak.with_field(fat.constituents, d0, "d0"), error, "d0Err")
    names: dict[str, Any] = {"ak": ak, "ssl_jets": ssl_jets, "model": model}
    jets_alone = ak.zip({name: fat[name] for name in ("pt", "eta", "phi")})
    linked = ak.with_field(jets_alone, ak.zip({"pf": pf}, depth_limit=3), "constituents")
    names["events"] = ak.zip({"FatJet": linked}, depth_limit=1)
    exec(code, names)
    jets = names["jets"]
    neutral = jets.column("charge") == 0
    assert 0 < int(neutral.sum()) < len(neutral)
    for name, expected in (("d0", -10 * ak.flatten(d0, axis=None)), ("d0err", 0.1)):
        np.testing.assert_allclose(jets.column(name), np.where(neutral, 0, expected), rtol=1e-6)
    assert jets.context["jet_pt"].tolist() == pytest.approx(ak.flatten(fat.pt).to_list())
    assert names["z"].shape == (4, 64)


@pytest.mark.parametrize("context", [[1.0], [1.0] * 6, 1.0, [[1.0]] * 4], ids=str)
def test_context_of_other_jets_is_one_message(context: Any) -> None:
    fat = events().FatJet
    with pytest.raises(UsageError, match=r"context\['jet_eta'\](.|\n)*one number of each jet"):
        Jets.from_awkward(fat.constituents, fat, context={"jet_eta": context})


def test_context_may_be_missing() -> None:
    fat = events().FatJet
    pt = ak.mask(fat.pt, fat.pt > ak.min(fat.pt))
    jets = Jets.from_awkward(fat.constituents, fat, context={"jet_pt": pt})
    expected = [np.nan if value is None else value for value in ak.flatten(pt).to_list()]
    np.testing.assert_array_equal(jets.context["jet_pt"], np.float32(expected))
    assert np.isnan(expected).sum() == 1


def test_a_warning_names_inputs_that_records_do_not_have(model: Model) -> None:
    model.facts["training"] = {"columns": ["pt", "deta", "dphi", "energy", "kind", "d0"]}
    with pytest.warns(UserWarning, match=r"missing .*`Jets.from_awkward` takes them: kind, d0$"):
        model.predict(events().FatJet)


def test_features_may_be_missing_and_columns_not() -> None:
    fat = events().FatJet
    chi2 = ak.Array([[[1.0, None], [], [2.0, np.nan, 3.0]], [], [[np.inf]]])
    jets = Jets.from_awkward(fat.constituents, fat, features={"chi2": chi2})
    np.testing.assert_array_equal(jets.column("chi2"), np.float32([1, np.nan, 2, np.nan, 3, np.inf]))
    with pytest.raises(DataError, match="missing or not finite"):
        Jets.from_awkward(fat.constituents, fat, columns={"d0": chi2})


def test_jets_without_events_keep_their_shape(model: Model) -> None:
    fat = ak.flatten(events().FatJet, axis=1)
    z = model.embed(fat)
    assert isinstance(z, np.ndarray)
    assert z.shape == (4, 64)


def test_events_without_jets_have_no_rows(model: Model) -> None:
    z = model.embed(events().FatJet[1:2])
    assert ak.num(z, axis=1).tolist() == [0]


class Linked(ak.Array):  # type: ignore[misc]
    """Array of links to particles, as FatJetPFCands of coffea's PFNano schema: `constituents.pf` are the particles."""

    @property
    def pf(self) -> Any:
        return self["target"]


def test_links_are_followed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fat = events().FatJet
    links = ak.zip({"pt": fat.constituents.pt, "target": fat.constituents}, depth_limit=3, with_name="Link")
    linked = ak.with_field(ak.zip({name: fat[name] for name in ("pt", "eta", "phi", "mass")}), links, "constituents")
    monkeypatch.setitem(ak.behavior, ("*", "Link"), Linked)
    np.testing.assert_allclose(ak.flatten(model.embed(linked), axis=None), ak.flatten(model.embed(fat), axis=None))


@pytest.mark.parametrize("what", ["no records", "one axis", "other jets", "no eta", "unknown column", "structure"])
def test_other_arrays_are_one_message(what: str) -> None:
    fat = events().FatJet
    particles, jets, columns = fat.constituents, fat, {}
    if what == "no records":
        particles = np.zeros((3, 4))
    elif what == "one axis":
        particles = ak.flatten(particles, axis=None)
    elif what == "other jets":
        jets = fat[:, :1]
    elif what == "no eta":
        particles = ak.zip({"pt": particles.pt})
    elif what == "unknown column":
        columns = {"d1": "d0"}
    else:
        columns = {"d0": particles.d0[:, :, :1]}
    with pytest.raises(UsageError):
        Jets.from_awkward(particles, jets, columns=columns)


@pytest.mark.parametrize("value", [None, float("nan"), "jet"])
def test_a_missing_value_is_one_message(value: float | str | None) -> None:
    particle = {"pt": 5.0, "eta": 1.0, "phi": 0.2}
    first = None if value == "jet" else [{**particle, "eta": value}, particle]
    with pytest.raises(DataError, match="missing or not finite"):
        Jets.from_awkward(ak.Array([first, [particle]]))


@pytest.mark.parametrize(("pt", "reason"), [(0.0, "pt is zero"), (-5.0, "pt is negative"), (2e6, "beyond 1,000,000")])
def test_particles_of_records_follow_the_rules_of_files(model: Model, pt: float, reason: str) -> None:
    records = events().FatJet
    records["constituents"] = ak.with_field(records.constituents, ak.full_like(records.constituents.pt, pt), "pt")
    with pytest.raises(DataError, match=reason):
        model.embed(records)


def test_jets_without_constituents_are_one_message(model: Model) -> None:
    with pytest.raises(UsageError, match="no particles"):
        model.embed(events().FatJet[["pt", "eta", "phi"]])
