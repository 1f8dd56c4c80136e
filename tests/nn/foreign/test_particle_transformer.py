"""The Particle Transformer computes the published network from a checkpoint of the public names and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
from torch import Tensor

from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets, offsets_of
from ssl_jets.nn.foreign.particle_transformer import ParticleTransformer
from support.public_part import (
    LENGTHS,
    PUBLISHED_KINDS,
    branches,
    logits,
    newer_names,
    published_inputs,
    shapes,
    sophon,
    state_dict,
)

WEAVER = json.loads(Path(__file__).parents[2].joinpath("support", "weaver_figures.json").read_text(encoding="utf-8"))
"""Figures of weaver-core itself, see `support/weaver_figures.py`."""


def as_jets(found: list[dict[str, Any]]) -> Jets:
    names = ("deta", "dphi", "charge", "kind", "d0", "d0err", "dz", "dzerr")
    rows = []
    for jet in found:
        px, py, _, energy = jet["p"].T
        columns = {"pt": np.hypot(px, py), "energy": energy, **{name: jet[name] for name in names}}
        order = ("pt", "deta", "dphi", "energy", *names[2:])
        rows.append(torch.tensor(np.stack([columns[name] for name in order], 1), dtype=torch.float32))
    context = {"jet_eta": torch.tensor([abs(jet["eta"]) for jet in found])}
    return Jets(torch.cat(rows), offsets_of(torch.tensor(LENGTHS)), context=context)


def network(state: dict[str, Tensor]) -> tuple[ParticleTransformer, Any]:
    translated = ParticleTransformer.translate(state)
    network = ParticleTransformer(**translated.options)
    network.load_state_dict(translated.weights)
    return network.eval(), translated


@pytest.mark.parametrize("version", ["0.4.17", "0.5.3"])
def test_logits_are_those_of_weaver(version: str) -> None:
    state, found = state_dict(), branches()
    part, translated = network(state if version == "0.4.17" else newer_names(state))
    weight, bias = translated.head
    with torch.no_grad():
        z, tokens = part(as_jets(found))
    assert tokens.shape == (sum(LENGTHS), 128)
    weaver = torch.tensor(WEAVER[version]["logits"])
    torch.testing.assert_close(z @ weight.T + bias, weaver, rtol=2e-4, atol=2e-4)
    assert (weaver[0] - weaver[1]).abs().max() > 0.1
    swaps = translated.options["swap_heads"]
    plain = [logits(state, published_inputs(jet), torch.tensor(jet["p"]), swap=swaps) for jet in found]
    torch.testing.assert_close(torch.stack(plain).float(), weaver, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", ["0.4.17", "0.5.3"])
def test_z_of_sophon_is_that_of_weaver(version: str) -> None:
    state = sophon(state_dict() if version == "0.4.17" else newer_names(state_dict()))
    part, translated = network(state)
    assert translated.options["inputs"] == "full"
    assert translated.head is None
    assert any("hidden layers" in note for note in translated.notes)
    with torch.no_grad():
        z, _ = part(as_jets(branches()))
    torch.testing.assert_close(z[:, :10], torch.tensor(WEAVER[version]["sophon_z"]), rtol=2e-4, atol=2e-4)


def test_inputs_of_a_file_are_those_of_its_branches(sample_files: list[JetFile]) -> None:
    part, _ = network(state_dict())
    (jets,) = ordered(sample_files, [EntryRange(0, 0, 20)], Request(columns=part.columns, context=part.context))
    expected = torch.cat([published_inputs(jet) for jet in raw_jets(sample_files[0], 20)])
    torch.testing.assert_close(part.features(jets).double(), expected, rtol=1e-5, atol=1e-5)


def raw_jets(file: JetFile, entries: int) -> list[dict[str, Any]]:
    """The first jets of a file, by the branches that `JetClass_full.yaml` names."""
    with uproot.open(str(file.source)) as opened:
        arrays = opened["tree"].arrays(filter_name="part_*", entry_stop=entries, library="np")
    jets = []
    for entry in range(entries):
        column = {name.removeprefix("part_"): np.float64(values[entry]) for name, values in arrays.items()}
        flags = np.stack([column[f"is{kind}"] for kind in PUBLISHED_KINDS])
        kind = np.where(flags.any(0), flags.argmax(0), len(flags))
        momenta = np.stack([column[name] for name in ("px", "py", "pz", "energy")], 1)
        jets.append({**column, "p": momenta, "kind": kind, "d0": column["d0val"], "dz": column["dzval"]})
    return jets


def test_the_inputs_are_those_of_the_published_file() -> None:
    found = branches()
    part, _ = network(state_dict())
    expected = torch.cat([published_inputs(jet) for jet in found])
    torch.testing.assert_close(part.features(as_jets(found)).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("inputs", "name"), [(7, "kin"), (13, "kinpid"), (17, "full")])
def test_each_public_model_has_its_inputs(inputs: int, name: str) -> None:
    part, translated = network(state_dict(inputs))
    assert translated.options["inputs"] == name
    assert (translated.options["heads"], translated.options["blocks"]) == (8, 8)
    numbers = sum(value.numel() for value in part.parameters()) + sum(value.numel() for value in translated.head)
    published = sum(torch.Size(shape).numel() for key, shape in shapes(inputs).items() if "running" not in key)
    batch_norms = sum("num_batches" in key for key in shapes(inputs))
    assert numbers == published - batch_norms  # 2.14 million


def test_padding_and_order_change_nothing() -> None:
    part, _ = network(state_dict())
    jets = as_jets(branches())
    with torch.no_grad():
        together, alone = part(jets)[0], torch.cat([part(jets.select(torch.tensor([i])))[0] for i in range(4)])
        reversed_ = part(jets.select(torch.tensor([3, 2, 1, 0])))[0].flip(0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, reversed_, rtol=1e-4, atol=1e-5)


def test_eta_of_the_jet_is_read_and_may_be_missing() -> None:
    part, _ = network(state_dict())
    jets = as_jets(branches())
    with torch.no_grad():
        known, unknown = part(jets)[0], part(jets.without(["jet_eta"]))[0]
    assert unknown.isfinite().all()
    assert (known - unknown).abs().max() > 1e-3


def test_a_jet_without_particles_has_finite_z() -> None:
    part, _ = network(state_dict())
    jets = as_jets(branches())
    empty = jets.keep(jets.jet_of_particle != 1)
    with torch.no_grad():
        z, tokens = part(empty)
    assert z.isfinite().all()
    assert tokens.isfinite().all()
    torch.testing.assert_close(z[2], part(jets)[0][2], rtol=1e-4, atol=1e-5)


def test_batch_norms_of_pairs_see_each_real_pair_once() -> None:
    part = ParticleTransformer(embed=[8], pair=[4], heads=2, blocks=1, class_blocks=1).train()
    jets = as_jets(branches())
    part(jets)
    norm = part.pair[0]
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert norm.running_mean is not None
    # Momentum 0.1: of ln z the mean over the lower triangles with the diagonal, of which z is 1/2.
    values = []
    for jet in branches():
        pt = np.hypot(jet["p"][:, 0], jet["p"][:, 1])
        values += [np.log(min(a, b) / (a + b)) for i, a in enumerate(pt) for b in pt[: i + 1]]
    assert float(norm.running_mean[1]) == pytest.approx(0.1 * np.mean(values), rel=1e-4)


def test_another_network_is_refused() -> None:
    with pytest.raises(SslJetsError, match="no checkpoint of a Particle Transformer"):
        ParticleTransformer.translate({"layers.0.weight": torch.zeros(2, 2)})
    newer = {name: value for name, value in state_dict().items() if not name.endswith("c_attn")}
    with pytest.raises(SslJetsError, match="another version"):
        ParticleTransformer.translate(newer)
    other = {name: value[:5] if name.endswith("input_bn.weight") else value for name, value in state_dict().items()}
    with pytest.raises(SslJetsError, match="other inputs"):
        ParticleTransformer.translate(other)
    pooled = {name: value for name, value in state_dict().items() if ".cls_blocks." not in name}
    with pytest.raises(SslJetsError, match="another version"):
        ParticleTransformer.translate(pooled)
