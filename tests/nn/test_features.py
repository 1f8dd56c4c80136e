"""Features: statistics, bounds, targets and missing columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_jets.config import FeatureSettings
from ssl_jets.jets import COLUMNS, KINDS, Jets
from ssl_jets.nn.features import FEATURES, SIGNED_KINDS, TARGETS, TRACK_TARGETS, DeclaredInputs, Features
from support.small_models import made_jets, without_columns

NAMES = [feature.name for feature in FEATURES]


def measured(jets: Jets) -> Features:
    features = Features()
    features.fit_statistics([jets])
    return features


def by_numpy(jets: Jets) -> dict[str, np.ndarray]:
    """The continuous features, written down again."""
    c = {name: jets.column(name).numpy().astype(np.float64) for name in jets.columns}

    def significance(value: np.ndarray, error: np.ndarray) -> np.ndarray:
        s = np.divide(value, np.maximum(error, 1e-6), out=np.zeros_like(value), where=error > 0)
        return np.sign(s) * np.log1p(np.abs(s))

    return {
        "log_pt": np.log(c["pt"]),
        "log_energy": np.log(c["energy"]),
        "deta": c["deta"],
        "dphi": c["dphi"],
        "tanh_d0": np.tanh(c["d0"]),
        "d0_size": np.abs(significance(c["d0"], c["d0err"])),
        "dz_size": np.abs(significance(c["dz"], c["dzerr"])),
        "log_d0err": np.log1p(100 * c["d0err"]),
        "tanh_dz": np.tanh(c["dz"]),
        "log_dzerr": np.log1p(100 * c["dzerr"]),
        "dr": np.sqrt(c["deta"] ** 2 + c["dphi"] ** 2),
        "charge": c["charge"],
        "d0_significance": significance(c["d0"], c["d0err"]),
        "dz_significance": significance(c["dz"], c["dzerr"]),
    }


def test_measured_statistics_are_those_of_numpy(batch: Jets) -> None:
    features, expected = measured(batch), by_numpy(batch)
    assert sorted(expected) == sorted(NAMES)
    for index, name in enumerate(NAMES):
        assert float(features.mean[index]) == pytest.approx(expected[name].mean(), rel=1e-4, abs=1e-5), name
        assert float(features.std[index]) == pytest.approx(expected[name].std(), rel=1e-4), name


def test_statistics_do_not_depend_on_how_the_jets_are_cut_into_batches(batch: Jets) -> None:
    whole, cut = measured(batch), Features()
    cut.fit_statistics(batch.select(index) for index in torch.arange(len(batch)).split(7))
    torch.testing.assert_close(cut.mean, whole.mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(cut.std, whole.std, atol=1e-6, rtol=1e-6)


def test_standardised_inputs_have_mean_0_and_std_1_on_the_data_measured(batch: Jets) -> None:
    inputs, missing = measured(batch)(batch)
    continuous = inputs[:, : len(FEATURES)]
    assert inputs.shape == (len(batch.particles), Features().width)
    assert not missing.any()
    torch.testing.assert_close(continuous.mean(0), torch.zeros(len(FEATURES)), atol=1e-4, rtol=0)
    torch.testing.assert_close(continuous.std(0, correction=0), torch.ones(len(FEATURES)), atol=1e-3, rtol=0)


def test_kind_is_one_hot(batch: Jets) -> None:
    one_hot = measured(batch)(batch)[0][:, len(FEATURES) :]
    assert one_hot.shape[1] == len(KINDS)
    assert torch.equal(one_hot.sum(1), torch.ones(len(one_hot)))
    assert torch.equal(one_hot.argmax(1), batch.column("kind").long())


@pytest.mark.parametrize("d0err", [0.0, 1e-9, 0.05])
@pytest.mark.parametrize("d0", [900.0, -900.0])
def test_heavy_tails_of_impact_parameters_stay_bounded(batch: Jets, d0: float, d0err: float) -> None:
    particles = batch.particles.clone()
    row = [batch.columns.index(name) for name in ("d0", "dz", "d0err", "dzerr")]
    particles[0, row] = torch.tensor([d0, d0, d0err, d0err])
    inputs, _ = measured(batch)(replace(batch, particles=particles))
    assert inputs.isfinite().all()
    assert inputs[0].abs().max() < 40


def test_extreme_momenta_stay_bounded(batch: Jets) -> None:
    particles = batch.particles.clone()
    particles[0, batch.columns.index("pt")] = 1e-12
    particles[1, batch.columns.index("energy")] = 1e6
    inputs, _ = measured(batch)(replace(batch, particles=particles))
    assert inputs.isfinite().all()
    assert inputs[:2].abs().max() < 20


def test_an_uncertainty_below_zero_means_no_track_and_gives_no_nan(batch: Jets) -> None:
    particles = batch.particles.clone()
    particles[0, [batch.columns.index(name) for name in ("d0err", "dzerr")]] = -1.0
    inputs, _ = measured(batch)(replace(batch, particles=particles))
    assert inputs.isfinite().all()


def test_particles_without_a_track_have_zero_significance(batch: Jets) -> None:
    plain = Features()  # mean 0, std 1: the raw values
    inputs = plain(batch)[0]
    neutral = batch.column("d0err") == 0
    assert neutral.any()
    assert not neutral.all()
    significance = inputs[:, [NAMES.index("d0_significance"), NAMES.index("dz_significance")]]
    assert not significance[neutral].any()
    assert significance[~neutral].any()


def test_significance_is_odd_in_the_impact_parameter() -> None:
    jets = made_jets([40])
    mirrored = jets.particles.clone()
    mirrored[:, [jets.columns.index("d0"), jets.columns.index("dz")]] *= -1
    there, back = Features()(jets)[0], Features()(replace(jets, particles=mirrored))[0]
    for name in ("d0_significance", "dz_significance", "tanh_d0", "tanh_dz"):
        assert torch.equal(there[:, NAMES.index(name)], -back[:, NAMES.index(name)])


def test_a_constant_feature_is_not_divided_by_zero() -> None:
    jets = made_jets([40])
    particles = jets.particles.clone()
    particles[:, jets.columns.index("charge")] = 0.0
    same = replace(jets, particles=particles)
    inputs, _ = measured(same)(same)
    assert inputs.isfinite().all()


@pytest.mark.parametrize("unit", [1.0, 1e-13, 1e9])
def test_declared_features_are_standardized_in_any_unit(unit: float) -> None:
    inputs = DeclaredInputs({"time": FeatureSettings(), "constant": FeatureSettings()})
    rows = unit * torch.tensor([[1.0, 3.0], [2.0, 3.0], [torch.nan, 3.0], [6.0, 3.0]])
    inputs.fit_statistics([rows])
    values, _ = inputs(rows)
    torch.testing.assert_close(values[:, 0], torch.tensor([-2.0, -1.0, 0.0, 3.0]) / (14 / 3) ** 0.5)
    assert not values[:, 1].any()


def test_a_missing_column_stands_at_the_mean_and_is_declared(batch: Jets) -> None:
    features = measured(batch)
    inputs, missing = features(without_columns(batch, "d0err", "kind"))
    gone = {"log_d0err", "d0_significance", "d0_size"}
    assert {name for name, flag in zip(NAMES, missing.tolist()) if flag} == gone
    for index, name in enumerate(NAMES):
        assert (not inputs[:, index].any()) == (name in gone)
    assert not inputs[:, len(FEATURES) :].any()


def test_targets_of_tracks_have_no_weight_for_neutral_particles(batch: Jets) -> None:
    _, weights, _ = measured(batch).targets(batch)
    neutral = batch.column("charge") == 0
    tracks = list(TRACK_TARGETS)
    others = [index for index in range(TARGETS) if index not in tracks]
    assert tracks == [index for index in range(TARGETS) if set(FEATURES[index].needs) & {"d0", "dz", "d0err", "dzerr"}]
    assert not weights[neutral][:, tracks].any()
    assert weights[~neutral].all()
    assert weights[:, others].all()


def test_targets_are_the_first_inputs_and_the_signed_kind(batch: Jets) -> None:
    features = measured(batch)
    values, _, kinds = features.targets(batch)
    torch.testing.assert_close(values, features(batch)[0][:, :TARGETS])
    assert int(kinds.min()) >= 0
    assert int(kinds.max()) < SIGNED_KINDS
    assert torch.equal(kinds // 3, batch.column("kind").long())
    assert torch.equal((kinds % 3 - 1).float(), batch.column("charge").sign())


def test_missing_columns_have_no_weight_as_targets(batch: Jets) -> None:
    features = measured(batch)
    _, weights, kinds = features.targets(without_columns(batch, "d0", "charge"))
    assert not weights[:, NAMES.index("tanh_d0")].any()
    assert weights[:, NAMES.index("log_pt")].all()
    assert set(kinds.tolist()) == {-1}


def test_particles_are_the_inverse_of_targets(sample_jets: Jets) -> None:
    features = measured(sample_jets)
    values, _, kinds = features.targets(sample_jets)
    back = features.particles(values, kinds)
    assert back.shape == (len(sample_jets.particles), len(COLUMNS))
    for index, name in enumerate(COLUMNS):
        # An impact parameter comes back to its own size or, where it is lost in rounding, to a nanometre.
        torch.testing.assert_close(
            back[:, index], sample_jets.column(name), atol=1e-6, rtol=2e-4, msg=lambda text, name=name: name + text
        )


def test_an_impact_parameter_far_beyond_the_reach_of_tanh_comes_back() -> None:
    jets = made_jets([40])
    particles = jets.particles.clone()
    track = jets.column("charge") != 0
    particles[track, jets.columns.index("d0")] = -300.0
    features = Features()
    values, _, kinds = features.targets(replace(jets, particles=particles))
    assert features.particles(values, kinds)[track, COLUMNS.index("d0")].tolist() == pytest.approx(
        [-300.0] * int(track.sum()), rel=1e-3
    )


@pytest.mark.parametrize("scale", [1.0, 10.0, 1e6])
def test_particles_are_physical_whatever_the_decoder_says(batch: Jets, scale: float) -> None:
    features, generator = measured(batch), torch.Generator().manual_seed(0)
    values = scale * torch.randn(2000, TARGETS, generator=generator)
    kinds = torch.randint(0, SIGNED_KINDS, (2000,), generator=generator)
    columns = dict(zip(COLUMNS, features.particles(values, kinds).T, strict=True))
    assert all(column.isfinite().all() for column in columns.values())
    assert (columns["pt"] > 0).all()
    assert (columns["energy"] >= columns["pt"]).all()
    assert torch.equal(3 * columns["kind"] + columns["charge"] + 1, kinds.float())
    neutral = columns["charge"] == 0
    for name in ("d0", "d0err", "dz", "dzerr"):
        assert not columns[name][neutral].any()
    assert (torch.minimum(columns["d0err"], columns["dzerr"]) >= 0).all()
    assert columns["d0"][~neutral].any()
