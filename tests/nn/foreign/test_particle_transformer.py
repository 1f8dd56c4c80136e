"""The Particle Transformer computes the published network from a checkpoint of the public names and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets, offsets_of
from ssl_jets.nn.foreign.particle_transformer import ParticleTransformer
from support.public_part import logits, shapes, state_dict

LENGTHS = [1, 7, 30, 2]
KINDS = 5


def branches(seed: int = 0) -> list[dict[str, Any]]:
    """Jets of massive particles at large eta of either sign, in numbers that float32 holds, and their momenta."""
    random, jets = np.random.default_rng(seed), []

    def draw(values: Any) -> Any:
        return np.asarray(values, np.float32).astype(np.float64)

    for length, eta in zip(LENGTHS, draw([0.3, -1.4, 1.9, -0.05])):
        pt = draw(np.sort(random.lognormal(2, 1.2, length))[::-1])
        deta, dphi = draw(random.normal(0, 0.2, (2, length)))
        particle_eta, phi = eta + np.sign(eta) * deta, 1.1 + dphi  # JetClass multiplies deta by the sign of the jet
        px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(particle_eta)
        energy = draw(np.sqrt((pt * np.cosh(particle_eta)) ** 2 + random.choice([0.14, 0.5], length) ** 2))
        others = {name: draw(random.normal(0, 2, length)) for name in ("d0", "dz")}
        others |= {name: draw(random.exponential(0.8, length)) for name in ("d0err", "dzerr")}
        others |= {"kind": random.integers(0, KINDS, length), "charge": random.integers(-1, 2, length)}
        jets.append({"p": np.stack([px, py, pz, energy], 1), "eta": eta, "deta": deta, "dphi": dphi, **others})
    return jets


def published_inputs(jet: dict[str, Any]) -> Tensor:
    """The 17 inputs of `JetClass_full.yaml`, in its order."""
    px, py, _, energy = jet["p"].T
    pt, total = np.hypot(px, py), jet["p"].sum(0)

    def scaled(x: Any, offset: float, factor: float) -> Any:
        return np.clip((x - offset) * factor, -5, 5)

    columns = [
        scaled(np.log(pt), 1.7, 0.7), scaled(np.log(energy), 2.0, 0.7),
        scaled(np.log(pt / np.hypot(total[0], total[1])), -4.7, 0.7),
        scaled(np.log(energy / total[3]), -4.7, 0.7), scaled(np.hypot(jet["deta"], jet["dphi"]), 0.2, 4.0),
        jet["charge"], *(jet["kind"] == code for code in range(KINDS)),
        np.tanh(jet["d0"]), np.clip(jet["d0err"], 0, 1), np.tanh(jet["dz"]), np.clip(jet["dzerr"], 0, 1),
        jet["deta"], jet["dphi"],
    ]  # fmt: skip
    return torch.tensor(np.stack(columns, 1), dtype=torch.float64)


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


def test_logits_are_those_of_a_plain_implementation_of_the_paper() -> None:
    state, found = state_dict(), branches()
    part, translated = network(state)
    weight, bias = translated.head
    with torch.no_grad():
        z, tokens = part(as_jets(found))
    ours = z @ weight.T + bias
    plain = torch.stack([logits(state, published_inputs(jet), torch.tensor(jet["p"])) for jet in found])
    assert tokens.shape == (sum(LENGTHS), 128)
    assert (plain[0] - plain[1]).abs().max() > 0.1
    torch.testing.assert_close(ours.double(), plain, rtol=2e-4, atol=2e-4)


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
