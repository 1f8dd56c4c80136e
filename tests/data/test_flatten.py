"""`data.flatten`: all classes get one spectrum, exactly by weights and within statistical errors by resampling."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_jets.config import DataSettings, FlattenSettings, MethodSettings, RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.files import count
from ssl_jets.data.loading.flatten import measure_spectrum, with_spectrum
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.request import Request
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.signals import Interrupted
from support.faulty_files import spoil_basket
from support.interrupting import raise_at
from support.overridden import overridden

EDGES = (500.0, 550.0, 650.0, 900.0)
FLATTEN = {"by": ("jet_pt",), "bins": (EDGES,)}


@pytest.fixture
def files(write_jetclass: Any) -> list[Path]:
    """Two classes with other spectra and numbers of jets, some of them beyond the last edge."""

    def falling(seed: int, scale: float) -> Any:
        def edit(branches: dict[str, Any]) -> None:
            rng, jets = np.random.default_rng(seed), len(branches["jet_pt"])
            branches["jet_pt"] = (500 + rng.exponential(scale, jets)).astype(np.float32)

        return edit

    return [
        write_jetclass("QCD_000.root", 1500, label="QCD", cluster=300, edit=falling(1, 80)),
        write_jetclass("Tbl_000.root", 900, label="Tbl", seed=1, cluster=300, edit=falling(2, 200)),
    ]


def two_classes(files: list[Path], **more: Any) -> tuple[Dataset, Any]:
    """Open the files with two classes, and measure their spectra."""
    data = open_dataset(DataSettings(sources=tuple(map(str, files)), labels=("label_QCD", "label_Tbl")))
    return data, measure_spectrum(data, FlattenSettings(**FLATTEN, **more), Request())


def test_a_file_that_cannot_be_read_is_an_error_or_not_counted(files: list[Path]) -> None:
    data, _ = two_classes(files)
    spoil_basket(files[0], "jet_pt", 1)
    with pytest.raises(DataError, match=r"data\.bad_files=skip"):
        measure_spectrum(data, FlattenSettings(**FLATTEN), Request())
    found = measure_spectrum(data, FlattenSettings(**FLATTEN), Request(bad_files="skip"))
    assert found.jets == count([part for part in data.train if part.file == 1])


@pytest.mark.parametrize("classes", ["balanced", "as-is"])
@pytest.mark.parametrize("to", ["uniform", "Tbl", "QCD_000.root"])
def test_the_weights_give_every_class_the_target_spectrum_exactly(files: list[Path], classes: str, to: str) -> None:
    data, spectrum = two_classes(files, to=to, classes=classes)
    request = with_spectrum(Request(("jet_pt",)), spectrum)
    histograms, plain = np.zeros((2, 3)), np.zeros((2, 3))
    total = 0.0
    for jets in ordered(data.files, data.train, request):
        assert jets.weights is not None
        assert jets.labels is not None
        weights, pt, labels = jets.weights.numpy().astype(float), jets.jet["jet_pt"].numpy(), jets.labels.numpy()
        total += weights.sum()
        for label in (0, 1):
            row = labels == label
            histograms[label] += np.histogram(pt[row], EDGES, weights=weights[row])[0]
            plain[label] += np.histogram(pt[row], EDGES)[0]
        assert not weights[pt >= EDGES[-1]].any()
    shape = {"uniform": np.diff(EDGES), "Tbl": plain[1], "QCD_000.root": plain[0]}[to]
    expected = shape / shape.sum()
    sums = histograms.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(histograms / sums, np.stack([expected, expected]), rtol=1e-5)
    ratio = sums[0, 0] / sums[1, 0]
    assert ratio == pytest.approx(1.0 if classes == "balanced" else plain[0].sum() / plain[1].sum(), rel=1e-5)
    assert total == pytest.approx(plain.sum(), rel=1e-5)
    assert spectrum.outside == count(data.train) - plain.sum()


def test_the_effective_sample_size_is_that_of_the_weights(files: list[Path]) -> None:
    data, spectrum = two_classes(files)
    request = with_spectrum(Request(("jet_pt",)), spectrum)
    weights: dict[int, list[float]] = {0: [], 1: []}
    for jets in ordered(data.files, data.train, request):
        assert jets.weights is not None
        assert jets.labels is not None
        for label, weight in zip(jets.labels.tolist(), jets.weights.tolist()):
            if weight:
                weights[label].append(weight)
    for label, name in enumerate(("QCD", "Tbl")):
        own = np.array(weights[label])
        assert spectrum.effective()[name] == pytest.approx(own.sum() ** 2 / (own**2).sum() / len(own), rel=1e-4)


def test_resampled_spectra_agree_within_statistical_errors(files: list[Path]) -> None:
    data, spectrum = two_classes(files, how="resample")
    request = with_spectrum(Request(), spectrum)
    inside = spectrum.before.sum()
    epochs = 10
    sources: Counter[tuple[int, ...]] = Counter()
    histogram = np.zeros((2, 3))
    options: Any = {"batch_size": int(inside), "buffer": 400, "seed": 3, "request": request}
    with TrainStream(data.files, data.train, **options) as stream:
        while stream.epoch < epochs:
            jets = next(stream)
            assert jets.labels is not None
            assert jets.source is not None
            sources.update(map(tuple, jets.source.tolist()))
            for label in (0, 1):
                histogram[label] += np.histogram(jets.jet["jet_pt"][jets.labels == label].numpy(), EDGES)[0]
    # Of a jet with the factor f, floor(f + u) comes in each epoch: its variance is that of the fraction of f.
    expected = epochs * spectrum.before * spectrum.factors
    fraction = spectrum.factors % 1
    sigma = np.sqrt(epochs * spectrum.before * fraction * (1 - fraction))
    excess = abs(histogram - expected) - 4 * sigma  # the last batch belongs to the next epoch in part
    assert (excess <= inside / 2).all()
    assert abs(histogram / histogram.sum() - expected / expected.sum()).max() < 0.01
    # Without the factors the spectra of the classes differ by far more.
    plain = spectrum.before / spectrum.before.sum(axis=1, keepdims=True)
    assert abs(plain[0] - plain[1]).max() > 0.2
    assert max(sources.values()) > epochs  # a rare jet comes several times in an epoch


def settings_of(files: list[Path], method: str, how: str, *more: str) -> RunSettings[MethodSettings]:
    short = ["model.size=tiny", "model.blocks=1", "train.precision=32-true", "train.steps=6", "train.batch_size=16"]
    short.append("data.buffer=200")
    flatten = {"data": {"sources": list(map(str, files)), "flatten": {**FLATTEN, "how": how}}}
    return resolve_pretrain(method, flatten, overridden([*short, "train.validation_jets=40"], *more))


def test_a_resumed_run_draws_the_same_jets_by_the_recorded_spectra(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(files, "mae", "resample", "data.labels=[label_QCD,label_Tbl]")
    whole = pretrain(settings, tmp_path / "whole")
    raise_at(monkeypatch, 4, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings, tmp_path / "run")
    monkeypatch.setattr("ssl_jets.training.flattening.measure_spectrum", None)  # it is read, not measured again
    run = pretrain(settings, tmp_path / "run", resume=True)
    digests = [json.loads((path / "model/config.json").read_text())["weights_sha256"] for path in (whole, run)]
    assert digests[0] == digests[1]
    assert "flatten: resample, jet_pt to uniform; effective sample size QCD " in (run / "log.txt").read_text()
    assert json.loads((run / "flatten.json").read_text())["settings"]["bins"] == [list(EDGES)]


@pytest.mark.parametrize(
    ("method", "how", "more", "kind", "message"),
    [
        ("mae", "weights", "data.flatten.by=[jet_pt]", UsageError, r"no labels to weigh.*how=resample"),
        ("mae", "resample", "data.flatten.by=[jet_ptt]", UsageError, "no such column.*jet_ptt.*jet_pt"),
        ("mae", "resample", "data.flatten.to=top", UsageError, "no class and no file.*top.*uniform"),
        ("mae", "resample", "data.flatten.bins=[[600,500]]", UsageError, "rising edges"),
        ("mae", "resample", "data.flatten.bins=[[1,2]]", DataError, "no bin in which all classes have jets"),
    ],
)
def test_a_wrong_setting_is_one_message(
    files: list[Path], tmp_path: Path, method: str, how: str, more: str, kind: type[SslJetsError], message: str
) -> None:
    with pytest.raises(kind, match=f"(?s){message}"):
        pretrain(settings_of(files, method, how, more, "data.labels=[label_QCD,label_Tbl]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def sources_of_the_first_epoch(streams: list[TrainStream]) -> Counter[tuple[int, ...]]:
    """Take all jets that are left of the first epoch."""
    found: Counter[tuple[int, ...]] = Counter()
    for stream in streams:
        while stream.epoch == 0:
            jets = stream.take(1)
            assert jets.source is not None
            found.update(map(tuple, jets.source.tolist()))
    return found


def test_on_another_number_of_ranks_the_rest_of_an_epoch_has_the_same_copies(write_jetclass: Any) -> None:
    path = write_jetclass("QCD_000.root", 160, label="QCD")
    data = open_dataset(DataSettings(sources=(str(path),)))
    flatten = FlattenSettings(by=("jet_pt",), bins=((500.0, 520.0, 700.0, 1000.0),), how="resample")
    request = with_spectrum(Request(), measure_spectrum(data, flatten, Request()))

    def streams(world: int) -> list[TrainStream]:
        options: Any = {"batch_size": 1, "buffer": 30, "seed": 2, "request": request, "world": world}
        return [TrainStream(data.files, data.train, rank=rank, **options) for rank in range(world)]

    whole = sources_of_the_first_epoch(streams(2))
    assert max(whole.values()) > 1  # there are copies
    begun = streams(2)
    taken: Counter[tuple[int, ...]] = Counter()
    for stream, jets in zip(begun, (17, 40)):
        source = stream.take(jets).source
        assert source is not None
        taken.update(map(tuple, source.tolist()))
    resumed = streams(3)
    for stream in resumed:
        stream.resume([stream.state_dict() for stream in begun])
    assert taken + sources_of_the_first_epoch(resumed) == whole
    for stream in (*begun, *resumed):
        stream.close()
