"""Bias and resolution of predictions whose bias and resolution are known."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_jets.errors import DataError
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap
from ssl_jets.evaluation.metrics.regression import explained, quantiles, regression_metrics


def made(jets: int = 4000, bias: float = 2.0, width: float = 5.0, seed: int = 1):
    rng = np.random.default_rng(seed)
    true, pt = rng.normal(100, 30, jets), rng.uniform(500, 1000, jets)
    return true + bias + width * rng.normal(size=jets), true, pt


def test_bias_and_resolution_are_those_put_in_and_the_intervals_hold_them() -> None:
    predicted, true, pt = made()
    found = regression_metrics(predicted, true, "mass", {"jet_pt": pt})
    assert found.bias.low95 < 2 < found.bias.high95
    assert found.resolution.low95 < 4.972 < found.resolution.high95  # (16 %, 84 %): 0.994 standard deviations
    assert found.resolution.high - found.resolution.low < 0.4
    assert found.spread == pytest.approx(30, rel=0.05)
    assert found.explained.value == pytest.approx(1 - (4 + 25) / 900, abs=0.005)


def test_a_prediction_that_ignores_the_jet_explains_nothing_and_resolves_the_spread() -> None:
    _, true, pt = made()
    found = regression_metrics(np.full_like(true, true.mean()), true, "mass", {"jet_pt": pt})
    assert found.explained.value == pytest.approx(0, abs=1e-9)
    assert found.resolution.value == pytest.approx(found.spread, rel=1e-3)


def test_a_dependence_on_pt_shows_against_pt_and_not_against_eta() -> None:
    predicted, true, pt = made()
    predicted += (pt - 750) / 25
    eta = np.random.default_rng(3).uniform(-2, 2, len(pt))
    along_pt, along_eta = regression_metrics(predicted, true, "mass", {"jet_pt": pt, "jet_eta": eta}).responses
    assert along_pt.bias[0].high95 < along_pt.bias[-1].low95
    for centre, bias in zip(along_pt.centre, along_pt.bias):
        assert bias.low95 - 0.5 < 2 + (centre - 750) / 25 < bias.high95 + 0.5
    assert max(bias.value for bias in along_eta.bias) - min(bias.value for bias in along_eta.bias) < 2.5
    assert len(along_pt.edges) == 9


def test_bins_without_jets_are_left_out() -> None:
    rng = np.random.default_rng(0)
    for share in np.linspace(0.05, 0.95, 40):
        pt = np.sort(rng.uniform(500, 1000, 800))
        first = int(share * 680)
        pt[first : first + 120] = pt[first]
        true = rng.normal(80, 10, 800)
        (found,) = regression_metrics(true + 1, true, "mass", {"pt": pt}, resamples=2).responses
        assert len(found.centre) == len(found.edges) - 1
        assert (np.diff(found.centre) > 0).all()


def test_a_weight_counts_as_copies() -> None:
    predicted, true, _ = made(300)
    weights = np.random.default_rng(1).integers(1, 4, 300)
    copies = [np.repeat(values, weights) for values in (predicted, true)]
    weighted = regression_metrics(predicted, true, "mass", {}, weights=weights, resamples=3)
    repeated = regression_metrics(*copies, "mass", {}, resamples=3)
    assert weighted.explained.value == pytest.approx(repeated.explained.value)
    assert weighted.bias.value == pytest.approx(repeated.bias.value, abs=0.2)
    assert weighted.resolution.value == pytest.approx(repeated.resolution.value, abs=0.2)


def test_the_density_holds_every_jet() -> None:
    true = np.random.default_rng(0).normal(size=1000)
    beyond = regression_metrics(true + 100, true, "x", {}, resamples=2).density
    assert beyond.counts[:, -1].sum() == beyond.counts.sum() == 1000
    around = regression_metrics(true, true, "x", {}, resamples=2).density
    assert np.trace(around.counts) == 1000


@pytest.mark.parametrize("jets", [20, 21, 100, 1001])
def test_quantiles_are_those_of_numpy_of_even_and_odd_samples(jets: int) -> None:
    values, shares = np.random.default_rng(0).normal(size=jets), (0.16, 0.5, 0.84)
    found = quantiles(values, Bootstrap(jets, 1), np.arange(jets), shares)
    np.testing.assert_allclose(found[0], np.quantile(values, shares, method="averaged_inverted_cdf"), rtol=1e-12)
    assert found[0, 1] == np.median(values)
    copies = np.repeat(values, Bootstrap(jets, 1).counts[0])
    np.testing.assert_allclose(found[1], np.quantile(copies, shares, method="averaged_inverted_cdf"), rtol=1e-12)


def test_the_bias_of_symmetric_residuals_of_an_even_sample_is_zero() -> None:
    true = np.linspace(0, 1, 20)
    found = regression_metrics(true + np.repeat([-1.0, 1.0], 10), true, "x", {}, resamples=2)
    assert found.bias.value == pytest.approx(0)


def test_jets_without_the_target_have_no_part_and_too_few_are_refused() -> None:
    predicted, true, pt = made(300)
    gaps = true.copy()
    gaps[::3] = np.nan
    kept = np.isfinite(gaps)
    found = regression_metrics(predicted, gaps, "tau21", {"jet_pt": pt}, resamples=2)
    alone = regression_metrics(predicted[kept], true[kept], "tau21", {"jet_pt": pt[kept]}, resamples=2)
    assert (found.jets, found.bias.value) == (200, alone.bias.value)
    assert found.responses[0].bias == alone.responses[0].bias
    with pytest.raises(DataError, match="tau21"):
        regression_metrics(predicted, np.full(300, np.nan), "tau21", {})


def test_the_spread_is_that_of_the_jets_that_count() -> None:
    rng = np.random.default_rng(0)
    true = np.concatenate([rng.normal(0, 1, 4000), rng.normal(0, 50, 4000)])
    weights = np.repeat([1.0, 0.0], 4000)
    found = regression_metrics(np.zeros_like(true), true, "mass", {}, weights=weights, resamples=2)
    assert found.spread == pytest.approx(found.resolution.value, abs=0.01)
    assert found.spread == pytest.approx(1.0, abs=0.05)


def test_an_explained_share_without_a_usable_resample_has_no_interval() -> None:
    bootstrap = Bootstrap(2, 1, seed=0)
    bootstrap.counts[:] = [[2, 0]]  # one jet alone does not vary
    found = explained(np.array([0.0, 1.0]), np.array([0.0, 2.0]), bootstrap)
    assert (found.value, found.low, found.high95) == (0.5, None, None)


def test_the_95_percent_interval_of_an_explained_share_of_few_jets_covers_it() -> None:
    """Twenty jets, R^2 = 0.75: percentiles of resamples cover it in 90 % of the cases."""
    covered = []
    for seed in range(500):
        true, off = np.random.default_rng(seed).normal(0, 1, (2, 20))
        found = explained(2 * true + off, 2 * true, Bootstrap(20, seed=seed))
        covered.append(found.low95 <= 0.75 <= found.high95)
    assert np.mean(covered) > 0.915
