"""Task metrics: known limits, references, and honest intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, poisson
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, roc_auc_score

from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate, exact_interval
from ssl_jets.evaluation.metrics.calibration import calibration_error, calibration_rows
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc, classification_metrics, largest_class
from ssl_jets.evaluation.metrics.ranking import Ranked
from ssl_jets.evaluation.metrics.roc import _band, _rejection

NAMES = ("QCD", "Hbb", "Hqql", "Tbl")


def test_scalars_equal_sklearn(scored) -> None:
    probabilities, labels = scored(900, 4)
    found = classification_metrics(probabilities, labels, NAMES, resamples=20)
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, probabilities.argmax(1)))
    assert found.log_loss.value == pytest.approx(log_loss(labels, probabilities))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, probabilities.argmax(1)))
    recalls = np.diag(found.confusion) / found.confusion.sum(1)
    assert [found.class_accuracy[name].value for name in NAMES] == pytest.approx(list(recalls))
    areas = [roc_auc_score(labels == i, probabilities[:, i]) for i in range(4)]
    assert [found.class_auc[name].value for name in NAMES] == pytest.approx(areas)
    assert found.jets == {name: int((labels == i).sum()) for i, name in enumerate(NAMES)}


def test_calibration_error_equals_a_loop_over_bins(scored) -> None:
    probabilities, labels = scored(900, 4)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.clip(np.floor(confidence * 15), 0, 14)
    expected = sum(
        abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)
    )
    rows = calibration_rows(probabilities, labels, Bootstrap(900, 20))["calibration_error"]
    assert rows[0] == pytest.approx(expected)
    found = classification_metrics(probabilities, labels, NAMES, resamples=20)
    assert found.calibration_error.value == pytest.approx(2 * expected - np.median(rows[1:]))
    filled = sorted(set(bins))
    assert found.reliability.jets.tolist() == [(bins == b).sum() for b in filled]
    assert found.reliability.confidence == pytest.approx([confidence[bins == b].mean() for b in filled])
    assert found.reliability.accuracy == pytest.approx([correct[bins == b].mean() for b in filled])


def test_the_calibration_error_of_calibrated_jets_is_corrected_for_their_number() -> None:
    """Labels drawn with the probabilities themselves: the error is 0, and 15 bins of 1,000 jets find 0.03."""
    found, plain = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.ones(3), 1000)
        labels = (rng.random((1000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
        rows = calibration_rows(probabilities, labels, Bootstrap(1000, 60, seed))
        found.append(calibration_error(rows))
        plain.append(rows["calibration_error"][0])
    assert np.mean(plain) > 0.03
    assert np.mean([one.value for one in found]) < 0.6 * np.mean(plain)
    assert np.mean([one.low95 == 0 for one in found]) > 0.9
    assert np.mean([one.low == 0 for one in found]) > 0.7


def test_intervals_of_few_calibrated_jets_begin_at_zero() -> None:
    """Fifty jets, most of them certain: with noise from resamples of the jets 0 was in two of three intervals."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.arange(50) % 2
        right = 1 / (1 + np.exp(-4 * (rng.normal(4 * labels, 1) - 2)))
        probabilities = np.stack([1 - right, right], axis=1)
        found.append(calibration_error(calibration_rows(probabilities, labels, Bootstrap(50, seed=seed))))
    assert np.mean([one.low95 == 0 for one in found]) > 0.9


def test_the_quoted_efficiencies_are_those_of_the_field_and_can_be_overridden(scored) -> None:
    probabilities, labels = scored(900, 4)
    default = classification_metrics(probabilities, labels, NAMES, resamples=5)
    assert {r.signal: r.efficiency for r in default.rejections} == {"Hbb": 0.5, "Hqql": 0.99, "Tbl": 0.995}
    assert {r.background for r in default.rejections} == {"QCD"}
    other = classification_metrics(
        probabilities, labels, NAMES, efficiencies={"Hbb": 0.3}, background="Tbl", resamples=5
    )
    assert {r.signal: r.efficiency for r in other.rejections} == {"QCD": 0.5, "Hbb": 0.3, "Hqql": 0.99}
    assert other.rejections[1].rejection.value > default.rejections[0].rejection.value


def test_a_perfect_classifier_has_accuracy_one_and_rejections_that_are_only_lower_limits() -> None:
    labels = np.repeat(np.arange(3), 100)
    found = classification_metrics(np.eye(3)[labels], labels, ("a", "b", "c"), resamples=50)
    # All of 300 are right: wrong ones of 1.2 % are found by one of 40 experiments, of 1 - 0.16 ** (1 / 300) by 16 %.
    assert (found.accuracy.value, found.accuracy.high95) == (1.0, 1.0)
    assert found.accuracy.low95 == pytest.approx(0.025 ** (1 / 300))
    assert found.accuracy.low == pytest.approx(0.16 ** (1 / 300))
    assert found.auc.value == 1.0
    assert found.auc.low == pytest.approx(0.16 ** (1 / 100))
    assert found.log_loss.value == pytest.approx(0, abs=1e-12)
    for rejection in found.rejections:
        assert rejection.background == "a"
        assert rejection.survivors == 0
        assert rejection.rejection.limit
        assert rejection.rejection.value == 100
        assert rejection.rejection.high is None
        assert rejection.rejection.low95 == pytest.approx(100 / 2.9957, rel=1e-3)


def test_limits_and_exact_intervals_of_weighted_jets_are_those_of_the_effective_number() -> None:
    """100 jets of weight 3 or 1 of each class are 80 effective ones: (50 * 3 + 50) ** 2 / (50 * 9 + 50)."""
    labels, weights = np.repeat(np.arange(3), 100), np.tile([3.0, 1.0], 150)
    found = classification_metrics(np.eye(3)[labels], labels, ("a", "b", "c"), weights=weights, resamples=20)
    assert found.accuracy.low95 == pytest.approx(0.025 ** (1 / 240))
    for rejection in found.rejections:
        assert rejection.rejection.value == pytest.approx(80)
        assert rejection.rejection.low == pytest.approx(80 / -np.log(1 - 0.68))
    assert found.reliability.jets.tolist() == pytest.approx([240])
    some = weights * (labels < 2) * (np.arange(300) >= 50)  # half of a, and b
    (rejection,) = classification_metrics(np.eye(3)[labels], labels, ("a", "b", "c"), weights=some).rejections
    assert (rejection.signal, rejection.background_jets) == ("b", 50)
    # One survivor with a tenth of the weight is one of ten jets.
    labels, weights = np.repeat([0, 1], [361, 40]), np.ones(401)
    score, weights[0] = np.where(np.arange(401) == 0, 0.9, 0.2 + 0.6 * labels), 40
    (rejection,) = classification_metrics(
        np.column_stack([1 - score, score]), labels, ("QCD", "S"), weights=weights, resamples=20
    ).rejections
    assert rejection.rejection.value == pytest.approx(10)
    assert rejection.rejection.low95 == pytest.approx(1 / binomtest(1, 10).proportion_ci(0.95).high)


def test_a_random_classifier_is_at_chance() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 5, 4000)
    found = classification_metrics(rng.dirichlet(np.ones(5), 4000), labels, "abcde", resamples=50)
    assert found.accuracy.low95 < 0.2 < found.accuracy.high95
    assert found.auc.low95 < 0.5 < found.auc.high95
    assert all(r.rejection.low95 < 2 < r.rejection.high95 for r in found.rejections)


def test_few_survivors_leave_the_upper_side_of_a_rejection_open() -> None:
    probability = np.concatenate([np.linspace(0.6, 1, 200), np.linspace(0, 0.5, 199), [0.95]])
    labels = np.repeat([1, 0], 200)
    found = classification_metrics(
        np.column_stack([1 - probability, probability]), labels, ("QCD", "top"), resamples=200
    )
    assert found.rejections[0].survivors == 1
    assert found.rejections[0].rejection.value == 200
    assert not found.rejections[0].rejection.limit
    assert found.rejections[0].rejection.low < 200
    assert found.rejections[0].rejection.high95 is None


def test_the_68_percent_interval_covers_the_truth_in_about_68_percent_of_experiments() -> None:
    # Scores of signal N(1, 1), of background N(0, 1): the area is Phi(1 / sqrt(2)), accuracy at 0.5 is Phi(0.5).
    truth_auc, truth_accuracy = norm.cdf(1 / np.sqrt(2)), norm.cdf(0.5)
    truth_rejection = 1 / norm.sf(1.0)
    inside = np.zeros(3)
    experiments = 200
    for seed in range(experiments):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 600)
        probability = 1 / (1 + np.exp(-(rng.normal(size=600) + labels - 0.5)))
        found = classification_metrics(
            np.column_stack([1 - probability, probability]), labels, ("b", "s"), resamples=100
        )
        intervals = (found.auc, found.accuracy, found.rejections[0].rejection)
        truths = (truth_auc, truth_accuracy, truth_rejection)
        inside += [interval.low <= truth <= interval.high for interval, truth in zip(intervals, truths)]
    # Binomial standard deviation 0.033; three of them each side.
    assert inside / experiments == pytest.approx(np.full(3, 0.68), abs=0.10)


def test_a_share_of_few_jets_has_at_least_the_exact_interval() -> None:
    """All of 3 jets of a class are right, and so they are in every resample."""
    labels = np.repeat([0, 1], [50, 3])
    found = classification_metrics(np.eye(2)[labels], labels, ("QCD", "Hbb"), resamples=50)
    of_class = found.class_accuracy["Hbb"]
    assert (of_class.value, of_class.high, of_class.high95) == (1, 1, 1)
    assert of_class.low == pytest.approx(binomtest(3, 3).proportion_ci(0.68).low)
    assert of_class.low95 == pytest.approx(binomtest(3, 3).proportion_ci(0.95).low)
    assert found.class_auc["Hbb"].low == found.auc.low == of_class.low
    improvement = found.significance[0].improvement
    assert improvement.low == pytest.approx(of_class.low * improvement.value)
    assert found.roc[0].low[0] == pytest.approx(of_class.low)


def test_the_area_of_two_classes_has_one_interval_with_any_weights() -> None:
    """Twenty heavy jets against a thousand light ones: each class is the rest of the other."""
    labels = np.repeat([0, 1], [1000, 20])
    score = np.clip(np.random.default_rng(0).normal(0.3 + 0.3 * labels, 0.15), 0.01, 0.99)
    weights = np.where(labels == 1, 1000.0, 1.0)
    probabilities = np.column_stack([1 - score, score])
    found = classification_metrics(probabilities, labels, ("QCD", "Hbb"), weights=weights, resamples=50)
    assert found.class_auc["QCD"] == found.class_auc["Hbb"] == found.auc
    assert found.auc.low95 > 0.8


@pytest.mark.parametrize("jets", [1, 3])
def test_the_95_percent_interval_of_an_area_of_few_jets_covers_the_truth(jets: int) -> None:
    """Signal jets with an area of 0.76: percentiles of resamples cover it in 15 % (one jet) and 75 % (three)."""
    rng, covered = np.random.default_rng(0), []
    labels = np.repeat([0, 1], [100, jets])
    for _ in range(40):
        score = 1 / (1 + np.exp(-rng.normal(labels, 1)))
        _, auc = accuracy_and_auc(np.column_stack([1 - score, score]), labels, resamples=20)
        covered.append(auc.low95 <= norm.cdf(2**-0.5) <= auc.high95)
    assert np.mean(covered) > 0.94


@pytest.mark.parametrize("jets", [(20, 60), (5, 45, 45)])
def test_the_95_percent_interval_of_an_area_near_1_covers_the_truth(jets: tuple[int, ...]) -> None:
    """Areas of 0.98: percentiles of resamples cover them in 85 % (two classes) and 87 % (their mean for three)."""
    rng, covered = np.random.default_rng(0), []
    labels = np.repeat(np.arange(len(jets)), jets)
    for seed in range(100):
        scores = rng.normal(3 * np.eye(len(jets))[labels], 1)  # each class is ranked by a score of its own
        if len(jets) == 2:
            scores[:, 0] = -scores[:, 1]
        _, auc = accuracy_and_auc(norm.cdf(scores), labels, resamples=60, seed=seed)
        covered.append(auc.low95 <= norm.cdf(3 / 2**0.5) <= auc.high95)
    assert np.mean(covered) > 0.9


@pytest.mark.parametrize(("right", "jets"), [(0, 5), (1, 5), (4, 5), (24, 500), (476, 500)])
def test_the_exact_interval_is_the_one_of_clopper_and_pearson(right: int, jets: int) -> None:
    for confidence in (0.68, 0.95):
        expected = binomtest(right, jets).proportion_ci(confidence)
        assert exact_interval(right / jets, jets, confidence) == pytest.approx((expected.low, expected.high))


def test_the_95_percent_interval_of_a_rejection_with_few_survivors_covers_the_truth() -> None:
    """Four of 400 background jets pass on average: percentiles of resamples alone cover the truth in 90 %."""
    covered = 0.0
    for survivors in range(16):
        score = np.repeat([0.9, 0.7, 0.3], [survivors, 30, 400 - survivors])
        labels = np.repeat([0, 1, 0], [survivors, 30, 400 - survivors])
        options = {"names": ("QCD", "S"), "resamples": 400}
        (found,) = classification_metrics(np.column_stack([1 - score, score]), labels, **options).rejections
        assert found.survivors == survivors
        low, high = found.rejection.low95, found.rejection.high95
        if low <= 100 and (high is None or high >= 100):
            covered += poisson.pmf(survivors, 4)
    assert covered > 0.95


@pytest.mark.parametrize(("jets", "efficiency"), [(3, 0.3), (3, 0.5), (10, 0.99), (50, 0.99)])
def test_the_95_percent_interval_of_a_rejection_with_few_signal_jets_covers_the_truth(jets, efficiency) -> None:
    """Percentiles of resamples alone cover it in 59 %, 78 %, 13 % and 42 % of the cases."""
    truth, covered = norm.sf(norm.isf(efficiency, 1.5)), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        signal = np.arange(jets + 500) < jets
        pair = Ranked.of(rng.normal(1.5 * signal), signal, ~signal)
        found = _rejection(pair, Bootstrap(len(signal), seed=seed), "S", "B", efficiency).rejection
        covered.append((found.low95 or 0) <= 1 / truth <= (found.high95 or np.inf))
    assert np.mean(covered) > 0.9


def test_a_rejection_without_a_usable_resample_has_no_interval() -> None:
    bootstrap = Bootstrap(3, 1)
    bootstrap.counts[:] = [[0, 1, 2]]  # no signal jet
    pair = Ranked.of(np.array([2.0, 3.0, 1.0]), np.array([True, False, False]), np.array([False, True, True]))
    found = _rejection(pair, bootstrap, "S", "B", 0.5).rejection
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_the_95_percent_interval_of_a_log_loss_that_few_jets_decide_covers_it() -> None:
    """Fifty jets of a confident classifier: percentiles of resamples cover it in 77 % of the cases."""
    truth = np.log1p(np.exp(8 - 4 * np.random.default_rng(0).normal(4, 1, 10**6))).mean()
    labels, covered = np.arange(50) % 2, []
    for seed in range(200):
        right = 1 / (1 + np.exp(8 - 4 * np.random.default_rng(seed).normal(4 * labels, 1)))
        rows = calibration_rows(np.stack([1 - right, right], axis=1), labels, Bootstrap(50, seed=seed))
        found = Estimate.of_positive(rows["log_loss"], rows["log_loss_error"])
        covered.append(found.low95 <= truth <= found.high95)
    assert np.mean(covered) > 0.85


def test_a_difference_of_two_perfect_areas_has_the_interval_of_their_jets() -> None:
    perfect, worse = np.ones(201), np.linspace(0.6, 0.8, 201)
    found = Estimate.of_area_difference(perfect, perfect, 25)
    expected = float(exact_interval(0.0, 25, 0.95)[1])
    assert (found.value, found.low95, found.high95) == pytest.approx((0.0, -expected, expected))
    assert Estimate.of_area_difference(perfect, worse, 25) == Estimate.of_rows(worse - perfect)


def test_the_95_percent_interval_of_a_difference_that_few_jets_decide_covers_it() -> None:
    """Of 50 jets one in 200 is right for one reader alone: most samples have none."""
    covered = 0
    for seed in range(100):
        difference = (np.random.default_rng(seed).random(50) < 0.005).astype(np.float64)
        rows = np.concatenate([weights @ difference / 50 for weights in Bootstrap(50, 50, seed).blocks()])
        estimate = Estimate.of_difference(rows, 50)
        covered += estimate.low95 <= 0.005 <= estimate.high95
    assert covered >= 95


def test_the_interval_shrinks_as_one_over_root_n(scored) -> None:
    few, many = (accuracy_and_auc(*scored(jets, 3))[0] for jets in (500, 8000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.35)


def test_the_seed_fixes_the_intervals(scored) -> None:
    probabilities, labels = scored(300, 3)
    first, same, other = (accuracy_and_auc(probabilities, labels, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first[1].low != other[1].low


def test_the_short_form_gives_the_numbers_of_the_long_one(scored) -> None:
    probabilities, labels = scored(400, 4)
    found = classification_metrics(probabilities, labels, NAMES)
    assert accuracy_and_auc(probabilities, labels) == (found.accuracy, found.auc)


def test_resamples_draw_every_jet_once_on_average() -> None:
    bootstrap = Bootstrap(1000, 100, seed=3)
    assert (bootstrap.counts.sum(axis=1) == 1000).all()
    rows = list(bootstrap.blocks())
    np.testing.assert_array_equal(rows[0], np.ones((1, 1000)))
    assert sum(len(block) for block in rows) == 101
    weights = np.linspace(0, 2, 1000)
    weighted = np.concatenate(list(Bootstrap(1000, 100, seed=3, weights=weights).blocks()))
    np.testing.assert_array_equal(weighted, np.concatenate(rows) * weights)


def test_the_ends_of_an_interval_are_percentiles_and_of_a_biased_number_their_reflections() -> None:
    replicates = (np.arange(1, 1000) / 1000) ** 2
    ends = {share: share**2 for share in (0.025, 0.16, 0.5, 0.84, 0.975)}
    plain = Estimate(0.3, ends[0.16], ends[0.84], ends[0.025], ends[0.975])
    assert vars(Estimate.of(0.3, replicates)) == pytest.approx(vars(plain))
    reflected = [min(1, max(0, 0.6 - ends[share])) for share in (0.5, 0.84, 0.16, 0.975, 0.025)]
    assert vars(Estimate.of(0.3, replicates, biased=True)) == pytest.approx(vars(Estimate(*reflected)))
    assert Estimate.of(float("nan"), np.array([1.0])) == Estimate(None, None, None, None, None)


def test_an_average_has_at_least_the_exact_interval_of_a_share_of_its_variance() -> None:
    rows = np.array([0.9, *[0.85, 0.95] * 20])  # variance .0025 of resamples of 4 jets: .9 * .1 / .0025 * 3 / 4 = 27
    found, expected = Estimate.of_means(rows, 4), exact_interval(0.9, 27, 0.95)
    assert (found.low95, found.high95) == pytest.approx((float(expected[0]), float(expected[1])))


def test_the_roc_band_holds_the_curve(scored) -> None:
    probabilities, labels = scored(2000, 4)
    for curve in classification_metrics(probabilities, labels, NAMES, resamples=60).roc:
        assert len(curve.background_efficiency) <= 300
        inside = (curve.low <= curve.signal_efficiency + 1e-9) & (curve.signal_efficiency <= curve.high + 1e-9)
        assert inside.mean() > 0.95


def test_the_roc_band_is_the_interval_of_each_point() -> None:
    rows = np.random.default_rng(0).binomial(500, (0.02, 0.5, 0.99), (200, 3)) / 500
    points = [Estimate.of_share(column, 500) for column in rows.T]
    low, high = _band(rows, 500)
    assert (low, high) == (pytest.approx([one.low for one in points]), pytest.approx([one.high for one in points]))


def test_probabilities_and_labels_that_do_not_fit_are_refused(scored) -> None:
    probabilities, labels = scored(50, 3)
    with pytest.raises(DataError, match="do not fit"):
        classification_metrics(probabilities, labels, ("a", "b"))
    with pytest.raises(DataError, match="not a class"):
        classification_metrics(probabilities, labels - 1, "abc")
    with pytest.raises(DataError, match="NaN"):
        classification_metrics(np.where(probabilities > 0.9, np.nan, probabilities), labels, "abc")
    with pytest.raises(UsageError, match="no such class"):
        classification_metrics(probabilities, labels, "abc", background="QCD")


def test_a_weight_counts_as_copies_of_the_jet(scored) -> None:
    probabilities, labels = scored(600, 4)
    weights = np.random.default_rng(8).integers(1, 4, 600)
    copies = np.repeat(np.arange(600), weights)
    first = np.arange(600) % 2 == 0
    weighted = classification_metrics(probabilities, labels, NAMES, weights=weights, first=first, resamples=3)
    repeated = classification_metrics(probabilities[copies], labels[copies], NAMES, first=first[copies], resamples=3)
    plain = classification_metrics(probabilities, labels, NAMES, resamples=3)
    error, same = (
        calibration_rows(probabilities[rows], labels[rows], Bootstrap(len(rows), 3, weights=of))["calibration_error"][0]
        for rows, of in ((np.arange(600), weights), (copies, None))
    )
    assert error == pytest.approx(same, abs=1e-12)
    for name in ("accuracy", "auc", "auc_rest", "log_loss"):
        value = getattr(weighted, name).value
        assert value == pytest.approx(getattr(repeated, name).value, abs=1e-12), name
        assert value != pytest.approx(getattr(plain, name).value, abs=1e-6), name
    for one, other in zip(weighted.rejections, repeated.rejections):
        assert one.rejection.value == pytest.approx(other.rejection.value)
    for name in NAMES:
        assert weighted.class_accuracy[name].value == pytest.approx(repeated.class_accuracy[name].value)
        assert weighted.class_auc[name].value == pytest.approx(repeated.class_auc[name].value)
    for one, other in zip((weighted.reliability, weighted.calibrated), (repeated.reliability, repeated.calibrated)):
        ours, theirs = (getattr(of, "reliability", of) for of in (one, other))
        np.testing.assert_allclose(ours.confidence, theirs.confidence, rtol=1e-3)
        np.testing.assert_allclose(ours.accuracy, theirs.accuracy, rtol=1e-9)
    assert weighted.calibrated.temperatures == pytest.approx(repeated.calibrated.temperatures, rel=1e-3)
    np.testing.assert_array_equal(weighted.confusion, repeated.confusion)
    assert weighted.jets == plain.jets


@pytest.mark.parametrize("unit", [1e-13, 1e9])
def test_the_unit_of_the_weights_changes_no_number(scored, unit: float) -> None:
    probabilities, labels = scored(900, 4)
    weights = np.random.default_rng(0).uniform(0.5, 2, 900)
    one, other = (
        classification_metrics(probabilities, labels, NAMES, weights=weights * factor, resamples=10)
        for factor in (1, unit)
    )
    for point, same in zip(one.rejections, other.rejections, strict=True):
        assert same.signal_efficiency == pytest.approx(point.signal_efficiency)
        assert same.rejection.value == pytest.approx(point.rejection.value)
        assert same.rejection.low == pytest.approx(point.rejection.low)
    for curve, same in zip(one.roc, other.roc, strict=True):
        np.testing.assert_allclose(same.signal_efficiency, curve.signal_efficiency)


def test_an_overconfident_model_is_calibrated_by_the_temperature_that_made_it_so(scored) -> None:
    probabilities, labels = scored(6000, 4)  # logits N(0, 1) + 1.5: the true posterior has logits 1.5 times as large
    powers = probabilities ** (1.5 * 2)
    found = classification_metrics(powers / powers.sum(1, keepdims=True), labels, NAMES, resamples=50).calibrated
    assert found.temperatures == pytest.approx((2, 2), rel=0.08)
    before = classification_metrics(powers / powers.sum(1, keepdims=True), labels, NAMES, resamples=50)
    assert before.calibration_error.low95 > 0.08
    assert found.calibration_error.value < 0.03
    assert found.log_loss.high95 < before.log_loss.low95


def test_no_jet_helps_to_calibrate_itself(scored) -> None:
    """Labels of one half that say nothing: its own temperature does not see them, that of the other half does."""
    probabilities, labels = scored(2000, 3)
    first = np.arange(2000) < 1000
    wrong = np.where(first, np.random.default_rng(99).integers(0, 3, 2000), labels)
    right_t, wrong_t = (
        classification_metrics(probabilities, y, "abc", first=first, resamples=2).calibrated for y in (labels, wrong)
    )
    assert wrong_t.temperatures[1] == right_t.temperatures[1]
    assert wrong_t.temperatures[0] > 3 * right_t.temperatures[0]


def test_a_guess_has_the_share_of_the_largest_class_by_weight() -> None:
    labels = np.repeat([0, 2], [90, 10])
    assert largest_class(labels, np.ones(100)) == pytest.approx(0.9)
    weights = np.where(labels == 2, 27.0, 1.0)
    assert largest_class(labels, weights) == pytest.approx(0.75)
    constant = np.tile([0.0, 0.0, 1.0], (100, 1))
    found = classification_metrics(constant, labels, ("a", "b", "c"), weights=weights, resamples=2)
    assert found.largest_class == found.accuracy.value == pytest.approx(0.75)


def test_a_largest_improvement_at_the_tightest_cut_is_a_lower_limit() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [400, 300])
    for shift, limit in ((6.0, True), (0.8, False)):
        score = norm.cdf(rng.normal(size=700) + shift * labels - shift / 2)
        found = classification_metrics(np.column_stack([1 - score, score]), labels, ("QCD", "S"), resamples=20)
        (best,) = found.significance
        assert best.improvement.limit is limit
        assert (best.background_efficiency == 25 / 400) is limit
        assert best.improvement.value <= np.sqrt(400 / 25) + 1e-12


def test_the_significance_improvement_is_that_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20000)
    probability = norm.cdf(rng.normal(size=40000) + 2 * labels - 1)
    found = classification_metrics(np.column_stack([1 - probability, probability]), labels, ("b", "s"), resamples=50)
    best = found.significance[0]
    cuts = np.linspace(0, 4, 400)
    allowed = norm.sf(cuts) >= 25 / 20000
    expected = (norm.sf(cuts - 2) / np.sqrt(norm.sf(cuts)))[allowed].max()
    assert best.improvement.low95 < expected < best.improvement.high95 * 1.02
    assert best.improvement.value == pytest.approx(best.efficiency / np.sqrt(best.background_efficiency))
    few = classification_metrics(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 0, 1]), ("b", "s"), resamples=5)
    assert few.significance[0].improvement.value is None
