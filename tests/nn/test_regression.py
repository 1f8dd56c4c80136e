"""Regression targets: standardised robustly, back to physical units, missing where a jet has none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from small_models import made_jets
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.nn.regression import Regressor, Targets, columns_of


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
    targets.measure([heavy])
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
    targets.measure([heavy.select(torch.arange(1000)), heavy.select(torch.arange(1000, 2001))])
    values = targets(heavy)
    for column in values.T:
        known = column[column.isfinite()]
        assert float(known.mean()) == pytest.approx(0.0, abs=1e-4)
        assert float(known.std()) == pytest.approx(1.0, abs=1e-3)
        assert float(known.abs().max()) < 8


def test_a_jet_without_a_value_is_missing_there_and_nowhere_else(heavy: Jets) -> None:
    targets = Targets(["mass", "count", "a/b"])
    targets.measure([heavy])
    missing = targets(heavy).isnan().nonzero().tolist()
    assert missing == [[3, 2], [4, 2], [7, 0]]


def test_physical_is_the_inverse(heavy: Jets) -> None:
    targets = Targets(["mass", "count", "a/b"])
    targets.measure([heavy])
    values = targets(heavy)
    known = values.isfinite()
    torch.testing.assert_close(targets.physical(values)[known], targets.raw(heavy).float()[known], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("values", [[2.0] * 50, [0.0] * 45 + [1.0] * 5], ids=["constant", "mostly constant"])
def test_a_column_of_few_values_stays_finite(values: list[float]) -> None:
    targets = Targets(["flag"])
    jets = with_columns(flag=torch.tensor(values))
    targets.measure([jets])
    assert targets(jets).isfinite().all()
    torch.testing.assert_close(targets.physical(targets(jets))[:, 0], torch.tensor(values), atol=1e-5, rtol=1e-5)


def test_a_target_that_no_jet_has_is_refused_by_its_name() -> None:
    with pytest.raises(SslJetsError, match="no training jet") as caught:
        Targets(["mass"]).measure([with_columns(mass=torch.full((9,), torch.nan))])
    assert caught.value.where == "target mass"


def test_the_regressor_speaks_in_physical_units_after_a_round_trip(heavy: Jets) -> None:
    regressor = Regressor(4, ["mass", "a/b"], hidden=3)
    regressor.targets.measure([heavy])
    again = Regressor(4, ["mass", "a/b"], hidden=3)
    again.load_state_dict(regressor.state_dict())
    z = torch.randn(5, 4)
    assert torch.equal(again.physical(z), regressor.physical(z))
    torch.testing.assert_close(regressor.physical(z), regressor.targets.physical(regressor(z)))
    assert 5 < float(regressor.physical(z)[:, 0].median().detach()) < 500
