"""Flow matching against closed forms, and the set decoder's symmetries."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.flow import Condition, ParticleFlow, SetFlow, VectorFlow, integrate, interpolant, precondition
from support.small_models import made_jets, shuffle_particles

DIM, WIDTH = 6, 16


def normal_field(mean: float, std: float, x: Tensor, t: float) -> Tensor:
    """The exact velocity where the data are N(mean, std^2): x_t is t mean + sqrt((1 - t)^2 + t^2 std^2) n."""
    variance = (1 - t) ** 2 + t**2 * std**2
    return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)


def test_the_bridge_ends_at_noise_and_data_and_moves_straight() -> None:
    torch.manual_seed(0)
    data, noise = torch.randn(2, 5, 3).double()
    zeros = torch.zeros(5).double()
    torch.testing.assert_close(interpolant(data, noise, zeros)[0], noise)
    torch.testing.assert_close(interpolant(data, noise, zeros + 1)[0], data)
    t = torch.rand(5).double()
    ahead, velocity = interpolant(data, noise, t + 1e-3)
    torch.testing.assert_close((ahead - interpolant(data, noise, t)[0]) / 1e-3, velocity)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_without_a_network_the_velocity_is_the_exact_one_of_normal_data(t: float) -> None:
    skip, out, into = (float(value) for value in precondition(torch.tensor([t])))
    x = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(skip * x, normal_field(0.0, 1.0, x, t))
    torch.manual_seed(0)
    data, noise = torch.randn(2, 200_000, 1)
    between, velocity = interpolant(data, noise, torch.full((200_000,), t))
    assert float((into * between).std()) == pytest.approx(1, abs=0.01)
    assert float((velocity - skip * between).std()) == pytest.approx(out, rel=0.01)  # what F has to say is of order 1
    assert float(((velocity - skip * between) * between).mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (3.0, 0.5), (-1.0, 2.0)])
def test_the_integral_carries_noise_to_the_normal_distribution_of_the_field(mean: float, std: float) -> None:
    noise = torch.linspace(-3, 3, 13).double().unsqueeze(1)
    made = integrate(lambda x, t: normal_field(mean, std, x, t), noise, 100)
    torch.testing.assert_close(made, mean + std * noise, atol=2e-3, rtol=2e-3)


def test_the_integral_is_of_second_order() -> None:
    noise = torch.tensor([[0.5]]).double()
    exact = 1.5 * math.e - 2  # of dx/dt = x + t from 0.5
    errors = [abs(float(integrate(lambda x, t: x + t, noise, steps)) - exact) for steps in (20, 40, 80)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("steps", [12, 25])
def test_the_exact_velocity_of_two_modes_carries_noise_to_them(steps: int) -> None:
    """0.3 N(-1, 0.2) + 0.7 N(1, 0.2), with E(x - n | x_t) in closed form; the steps of `next_particle` and `mar`."""
    means, shares, width = torch.tensor([-1.0, 1.0]), torch.tensor([0.3, 0.7]), 0.2

    def velocity(x: Tensor, t: float) -> Tensor:
        variance = t**2 * width**2 + (1 - t) ** 2
        away = x - t * means  # [row, mode]
        mode = (shares.log() - away.square() / (2 * variance)).softmax(1)
        return (mode * (means + (t * width**2 - (1 - t)) / variance * away)).sum(1, keepdim=True)

    torch.manual_seed(0)
    drawn = integrate(velocity, torch.randn(40_000, 1), steps)[:, 0]
    assert float((drawn > 0).double().mean()) == pytest.approx(0.7, abs=0.01)
    for mean, mode in ((1.0, drawn[drawn > 0]), (-1.0, drawn[drawn < 0])):
        assert float(mode.mean()) == pytest.approx(mean, abs=0.01)
        assert float(mode.std()) == pytest.approx(width, rel=0.03)


def test_a_trained_flow_draws_from_the_distribution_of_its_data() -> None:
    torch.manual_seed(0)

    def draw(count: int) -> Tensor:
        """Two narrow bumps at (-1, 1) and (1, -1)."""
        side = torch.randint(0, 2, (count, 1)).float() * 2 - 1
        return torch.cat([side, -side], dim=1) + 0.2 * torch.randn(count, 2)

    flow = VectorFlow(2, 64)
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=300)
    for _ in range(300):
        data, t = draw(256), torch.rand(256)
        between, velocity = interpolant(data, torch.randn_like(data), t)
        loss = (flow(between, t) - velocity).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    made = flow.sample(torch.randn(2000, 2), 30)
    right = made[:, 0] > 0
    assert float(right.float().mean()) == pytest.approx(0.5, abs=0.08)
    for side, sign in ((right, 1.0), (~right, -1.0)):
        torch.testing.assert_close(made[side].mean(0), torch.tensor([sign, -sign]), atol=0.12, rtol=0)
        assert float(made[side].std(0).max()) < 0.4  # one bump: normal data of this covariance have 1


def flow_and_condition(jets: Jets, tokens: bool) -> tuple[SetFlow, Condition]:
    torch.manual_seed(0)
    flow = SetFlow(DIM, WIDTH, blocks=2, z_tokens=2, token_width=5 if tokens else 0)
    generated = jets.rank_by_pt() % 2 == 0 if tokens else torch.ones(len(jets.particles), dtype=torch.bool)
    known = torch.randn(int((~generated).sum()), 5) if tokens else None
    return flow, Condition(torch.randn(len(jets), DIM), jets.offsets, generated, torch.ones(TARGETS), known)


def apply(flow: SetFlow, condition: Condition, x: Tensor, t: float = 0.4) -> Tensor:
    """Velocity and logits side by side."""
    with torch.no_grad():
        return torch.cat(flow(x, torch.full((len(condition.z),), t), condition), dim=1)


@pytest.mark.parametrize("tokens", [False, True])
def test_a_set_flow_is_equivariant_to_the_order_of_particles_and_blind_to_other_jets(tokens: bool) -> None:
    jets = made_jets([7, 3, 12])
    flow, condition = flow_and_condition(jets, tokens)
    x = torch.randn(int(condition.generated.sum()), TARGETS)
    out = apply(flow, condition, x)
    _, index = shuffle_particles(jets)
    place = torch.full((len(index),), -1)
    place[condition.generated] = torch.arange(len(x))
    known = torch.full((len(index),), -1)
    known[~condition.generated] = torch.arange(int((~condition.generated).sum()))
    generated = condition.generated[index]
    moved = replace(
        condition,
        generated=generated,
        tokens=None if condition.tokens is None else condition.tokens[known[index][~generated]],
    )
    torch.testing.assert_close(apply(flow, moved, x[place[index][generated]]), out[place[index][generated]])
    first = int(jets.offsets[1])
    rows, others = int(condition.generated[:first].sum()), int((~condition.generated[:first]).sum())
    alone = Condition(condition.z[:1], jets.offsets[:2], condition.generated[:first], condition.present,
                  None if condition.tokens is None else condition.tokens[:others])  # fmt: skip
    torch.testing.assert_close(apply(flow, alone, x[:rows]), out[:rows])


def test_a_set_flow_uses_time_z_and_the_known_particles() -> None:
    flow, condition = flow_and_condition(made_jets([7, 3, 12]), tokens=True)
    assert condition.tokens is not None
    x = torch.randn(int(condition.generated.sum()), TARGETS)
    out = apply(flow, condition, x)
    assert not torch.allclose(apply(flow, condition, x, t=0.6), out, atol=1e-2)
    assert not torch.allclose(apply(flow, replace(condition, z=condition.z + 1), x), out, atol=1e-2)
    assert not torch.allclose(apply(flow, replace(condition, tokens=condition.tokens + 1), x), out, atol=1e-2)


def test_a_target_that_the_data_lack_changes_nothing() -> None:
    jets = made_jets([7, 3])
    flow, condition = flow_and_condition(jets, tokens=False)
    condition = replace(condition, present=torch.ones(TARGETS).index_fill(0, torch.tensor([5]), 0.0))
    values, noise = torch.randn(2, 10, TARGETS)
    kinds, t = torch.randint(0, SIGNED_KINDS, (10,)), torch.rand(2)
    altered = values.clone()
    altered[:, 5] = 7.0
    of_one, present = ParticleFlow(DIM, WIDTH), condition.present
    of_particles = (noise, t[jets.jet_of_particle], torch.randn(10, DIM), present)
    found = [
        (*flow.errors(x, kinds, noise, t, condition), *of_one.errors(x, kinds, *of_particles))
        for x in (values, altered)
    ]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_flow_without_a_network_leaves_standard_normal_numbers_and_draws_kinds_by_their_logits() -> None:
    jets = made_jets([30] * 100)
    flow, condition = flow_and_condition(jets, tokens=False)
    shares = torch.softmax(torch.arange(SIGNED_KINDS) / 4.0, dim=0)
    torch.nn.init.zeros_(flow.velocity_out.weight)
    torch.nn.init.zeros_(flow.kinds_out.weight)
    flow.kinds_out.bias.data.copy_(shares.log())
    torch.manual_seed(0)
    noise, times = torch.randn(3000, TARGETS + 1), []
    flow.time.register_forward_pre_hook(lambda module, inputs: times.append(inputs[0]))
    values, kinds = flow.sample(noise, condition, 20)
    assert torch.equal(times[-1], torch.ones(100))  # kinds are those of finished features
    torch.testing.assert_close(values, noise[:, :TARGETS], atol=5e-3, rtol=5e-3)
    counts = torch.bincount(kinds, minlength=SIGNED_KINDS) / 3000
    assert ((counts - shares).abs() < 4.5 * (shares / 3000).sqrt()).all()
    again = flow.sample(noise, condition, 20)[1]
    assert torch.equal(again, kinds)
    assert math.isclose(float(noise[kinds == 0, -1].max()), float(noise[:, -1].sort()[0][int(counts[0] * 3000) - 1]))
