"""Regression targets: standardised robustly, back to physical units, missing where a jet has none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.nn.regression import LEVELS, SMALLEST_WIDTH, Regressor, Targets, columns_of
from support.small_models import made_jets


def with_columns(**columns: Tensor) -> Jets:
    length = len(next(iter(columns.values())))
    return replace(made_jets([1] * length), jet=columns)


@pytest.fixture
def heavy() -> Jets:
    """A mass with a heavy tail, a count, and a ratio whose denominator may be zero."""
    torch.manual_seed(0)
    mass = torch.randn(2001).mul(0.8).exp() * 50
    mass[7] = torch.nan
    a, b = torch.rand(2001), torch.rand(2001)
    a[3], b[3] = 0.0, 0.0
    b[4] = 0.0
    return with_columns(mass=mass, count=torch.randint(1, 90, (2001,)), a=a, b=b)


def test_columns_of_targets_are_named_once() -> None:
    assert columns_of(["m", "a/b", "b/c", "m"]) == ("m", "a", "b", "c")


def test_the_standardisation_is_that_of_the_formula(heavy: Jets) -> None:
    targets = Targets(["mass"])
    targets.fit_statistics([heavy])
    known = sorted(float(value) for value in heavy.jet["mass"] if not math.isnan(value))
    low, centre, high = (known[round(share * (len(known) - 1))] for share in (0.16, 0.5, 0.84))
    tamed = [math.asinh((value - centre) / ((high - low) / 2)) for value in known]
    mean = sum(tamed) / len(tamed)
    std = math.sqrt(sum((value - mean) ** 2 for value in tamed) / len(tamed))
    expected = [
        (math.asinh((value - centre) / ((high - low) / 2)) - mean) / std for value in heavy.jet["mass"].tolist()
    ]
    torch.testing.assert_close(targets(heavy)[:, 0], torch.tensor(expected), atol=2e-2, rtol=1e-2, equal_nan=True)


def test_targets_have_mean_0_and_variance_1_and_a_short_tail(heavy: Jets) -> None:
    targets = Targets(["mass", "count", "a/b"])
    targets.fit_statistics([heavy.select(torch.arange(1000)), heavy.select(torch.arange(1000, 2001))])
    values = targets(heavy)
    for column in values.T:
        known = column[column.isfinite()]
        assert float(known.mean()) == pytest.approx(0.0, abs=1e-4)
        assert float(known.std()) == pytest.approx(1.0, abs=1e-3)
        assert float(known.abs().max()) < 8


def test_a_jet_without_a_value_is_missing_there_and_nowhere_else(heavy: Jets) -> None:
    targets = Targets(["mass", "count", "a/b"])
    targets.fit_statistics([heavy])
    missing = targets(heavy).isnan().nonzero().tolist()
    assert missing == [[3, 2], [4, 2], [7, 0]]


def test_physical_is_the_inverse(heavy: Jets) -> None:
    targets = Targets(["mass", "count", "a/b"])
    targets.fit_statistics([heavy])
    values = targets(heavy)
    known = values.isfinite()
    torch.testing.assert_close(targets.physical(values)[known], targets.raw(heavy).float()[known], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("values", [[2.0] * 50, [0.0] * 45 + [1.0] * 5], ids=["constant", "mostly constant"])
def test_a_column_of_few_values_stays_finite(values: list[float]) -> None:
    targets = Targets(["flag"])
    jets = with_columns(flag=torch.tensor(values))
    targets.fit_statistics([jets])
    assert targets(jets).isfinite().all()
    torch.testing.assert_close(targets.physical(targets(jets))[:, 0], torch.tensor(values), atol=1e-5, rtol=1e-5)


def test_a_target_that_no_jet_has_is_refused_by_its_name() -> None:
    with pytest.raises(SslJetsError, match="no training jet") as caught:
        Targets(["mass"]).fit_statistics([with_columns(mass=torch.full((9,), torch.nan))])
    assert caught.value.where == "target mass"


def test_the_regressor_speaks_in_physical_units_after_a_round_trip(heavy: Jets) -> None:
    regressor = Regressor(4, ["mass", "a/b"], hidden=3)
    regressor.targets.fit_statistics([heavy])
    again = Regressor(4, ["mass", "a/b"], hidden=3)
    again.load_state_dict(regressor.state_dict())
    z = torch.randn(5, 4)
    assert torch.equal(again.physical(z), regressor.physical(z))
    torch.testing.assert_close(regressor.physical(z), regressor.targets.physical(regressor(z)))
    assert 5 < float(regressor.physical(z)[:, 0].median().detach()) < 500


def learned(kind: str, levels: tuple[float, ...] = LEVELS) -> tuple[Regressor, Tensor, Tensor, Jets]:
    """A head that has learned x = 100 + 20 z + (10 + 8 |z|) noise from z and |z|, with z and x of other jets."""
    generator = torch.Generator().manual_seed(1)
    sign = torch.randn(20_000, generator=generator)
    noise = torch.randn(20_000, generator=generator)
    jets = with_columns(x=100 + 20 * sign + (10 + 8 * sign.abs()) * noise)
    z = torch.stack([sign, sign.abs()], dim=1)
    torch.manual_seed(0)
    regressor = Regressor(2, ["x"], 16, kind, levels)  # type: ignore[arg-type]
    regressor.targets.fit_statistics([jets])
    target = regressor.targets(jets)
    optimizer = torch.optim.Adam(regressor.parameters(), lr=0.02)
    for step in range(300):
        rows = torch.arange(step % 10, 16_000, 10)
        optimizer.zero_grad()
        regressor.error(z[rows], target[rows]).mean().backward()
        optimizer.step()
    return regressor, z[16_000:], jets.jet["x"][16_000:], jets


@pytest.mark.parametrize(("kind", "levels"), [("quantile", (0.1, 0.5, 0.8)), ("gaussian", LEVELS)])
def test_bands_hold_their_share_of_the_jets_wherever_they_are_wide(kind: str, levels: tuple[float, ...]) -> None:
    regressor, z, x, _ = learned(kind, levels)
    with torch.no_grad():
        bands = regressor.bands(z)[:, 0]
    assert regressor.levels == levels
    assert bool((bands.diff(dim=1) >= 0).all())
    for part in (z[:, 1] < 0.3, z[:, 1] > 1.2):
        for index, level in enumerate(levels):
            assert float((x[part] < bands[part, index]).float().mean()) == pytest.approx(level, abs=0.05)
    width = bands[:, -1] - bands[:, 0]
    assert width[z[:, 1] > 1.2].mean() > 1.4 * width[z[:, 1] < 0.3].mean()


def test_the_point_of_a_quantile_head_is_its_median_and_a_mean_head_has_no_bands() -> None:
    regressor = Regressor(3, ["x", "y"], 0, "quantile", (0.2, 0.5, 0.7, 0.9))
    z = torch.randn(6, 3)
    outputs = regressor.layers(z).view(6, 2, 4)
    assert torch.equal(regressor(z), outputs.sort(dim=2).values[..., 1])
    mean = Regressor(3, ["x", "y"])
    assert mean.levels == ()
    assert mean.bands(z).shape == (6, 2, 0)


def test_crossing_quantiles_are_put_in_order() -> None:
    regressor = Regressor(2, ["x"], 0, "quantile")
    with torch.no_grad():
        regressor.layers[0].weight.zero_()
        regressor.layers[0].bias.copy_(torch.tensor([2.0, 0.0, 1.0]))
    expected = regressor.targets.physical(torch.tensor([[0.0], [1.0], [2.0]]))[:, 0]
    torch.testing.assert_close(regressor.bands(torch.zeros(1, 2))[0, 0], expected)
    torch.testing.assert_close(regressor.physical(torch.zeros(1, 2))[0], expected[1:2])  # not the output for 0.5


def test_the_loss_of_each_kind_is_that_of_its_formula() -> None:
    z, target = torch.randn(5, 3), torch.randn(5, 1)
    gaussian = Regressor(3, ["x"], 0, "gaussian")
    mean, raw = gaussian.layers(z).unbind(1)
    density = torch.distributions.Normal(mean, nn.functional.softplus(raw) + SMALLEST_WIDTH)
    expected = -density.log_prob(target[:, 0]) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(gaussian.error(z, target)[:, 0], expected)
    quantile = Regressor(3, ["x"], 0, "quantile", (0.5,))
    torch.testing.assert_close(quantile.error(z, target), (quantile(z) - target).abs())
