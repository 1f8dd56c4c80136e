"""Jets of a model, in a file: what is written, that a seed gives the same jets, and what is refused."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import uproot
from torch import nn

from ssl_jets import cli, methods
from ssl_jets.config import MethodSettings
from ssl_jets.data.files import EntryRange, JetFile, open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import resolve_sources
from ssl_jets.data.write import energies, momenta
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.generation import BATCH, generate, with_axis
from ssl_jets.jets import COLUMNS, Jets, concatenate
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.signals import Interrupted
from support.small_models import made_jets, tiny_encoder


class Dice(Method):
    """Jets of random numbers around a learned pt; jets of `bad` particles have a NaN."""

    class Config(MethodSettings):
        """Settings."""

        bad: int = 0

    can_generate: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.scale = nn.Parameter(torch.tensor(3.0))

    def exported(self) -> Encoder:
        return self.encoder

    def generate(self, jets: int) -> Jets:
        lengths = torch.randint(1, 9, (jets,)).tolist()
        made = made_jets(lengths, seed=int(torch.randint(0, 1 << 30, ())))
        particles = made.particles.clone()
        particles[:, 0] *= self.scale
        particles[made.lengths[made.jet_of_particle] == self.cfg.bad, 1] = torch.nan
        return Jets(particles, made.offsets)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    real, names = methods.find, [*methods.names(), "dice"]
    monkeypatch.setattr(methods, "find", lambda name: Dice if name == "dice" else real(name))
    monkeypatch.setattr(methods, "names", lambda: names)


def trained(folder: Path, bad: int = 0, name: str = "dice", **training: object) -> Path:
    method = Dice(Dice.Config(name="dice", bad=bad), tiny_encoder(made_jets([5, 6])))
    save_model(Model(method.encoder, facts={"method": name, "training": training}), folder / "run" / "model", method)
    return folder / "run"


def read(path: Path) -> Jets:
    files = open_files(resolve_sources([str(path)]))
    return concatenate(list(ordered(files, whole(files), Request(jet_columns=("jet_eta", "jet_phi", "jet_mass")))))


def test_jets_are_written_for_embed_in_bounded_batches(tmp_path: Path) -> None:
    run, messages = trained(tmp_path), []
    summary = generate(run, 600, tmp_path / "jets.root", seed=1, report=lambda *done: messages.append(done))
    assert (summary.jets, summary.redrawn) == (600, {})
    assert messages == [(BATCH, 600), (2 * BATCH, 600), (600, 600)]
    found = read(tmp_path / "jets.root")
    assert len(found) == 600
    assert bool((found.rank_by_pt() == torch.arange(len(found.particles)) - found.offsets[found.jet_of_particle]).all())
    assert str(uproot.open(tmp_path / "jets.root")["metadata"]).count('"seed": 1')
    assert embed(run, [str(tmp_path / "jets.root")], tmp_path / "z.npz").jets == 600


def test_a_seed_gives_the_same_jets_and_another_seed_others(tmp_path: Path) -> None:
    run = trained(tmp_path)
    found = []
    for number, seed in enumerate((5, 5, 6)):
        generate(run, 300, tmp_path / f"{number}.root", seed=seed)
        found.append(read(tmp_path / f"{number}.root"))
    assert torch.equal(found[0].particles, found[1].particles)
    assert not torch.equal(found[0].lengths, found[2].lengths)
    # No batch repeats another.
    assert not torch.equal(found[0].lengths[:44], found[0].lengths[BATCH:])


KINEMATICS = ("pt", "deta", "dphi", "energy")


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"columns": KINEMATICS}, KINEMATICS),
        ({"columns": [*KINEMATICS, "charge", "d0", "d0err"]}, KINEMATICS),  # kind and charge are learned together
        ({"columns": [*KINEMATICS, "charge", "kind", "d0", "dzerr"]}, (*KINEMATICS, "charge", "kind", "dzerr")),
        ({"columns": COLUMNS, "last_columns": KINEMATICS}, KINEMATICS),  # went on from a model of more columns
        ({"columns": COLUMNS}, COLUMNS),
    ],
)
def test_a_file_has_no_column_that_the_generator_was_not_trained_with(
    tmp_path: Path, training: dict[str, list[str]], expected: tuple[str, ...]
) -> None:
    generate(trained(tmp_path / "all"), 20, tmp_path / "all.root")
    generate(trained(tmp_path, **training), 20, tmp_path / "out.root")
    every, found = read(tmp_path / "all.root"), read(tmp_path / "out.root")
    assert found.columns == expected
    for name in {*expected} - {"energy"}:  # an energy follows from the mass of the kind
        assert torch.equal(found.column(name), every.column(name))


def test_unusable_jets_are_drawn_again_and_counted(tmp_path: Path) -> None:
    summary = generate(trained(tmp_path, bad=3), 400, tmp_path / "jets.root")
    found = read(tmp_path / "jets.root")
    assert len(found) == 400
    assert not bool((found.lengths == 3).any())
    assert list(summary.redrawn) == ["deta is not finite"]
    assert 20 < summary.redrawn["deta is not finite"] < 120


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("energy", 2e6, "energy is beyond 1,000,000"),
        ("deta", 20.0, "its momentum pt cosh(deta) is beyond 1,000,000"),
        ("d0", -3e6, "d0 is beyond 1,000,000"),
        ("pt", 0.0, "pt is zero"),
    ],
)
def test_jets_that_readers_refuse_are_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, value: float, reason: str
) -> None:
    run, draw = trained(tmp_path), Dice.generate

    def wild(self: Dice, jets: int) -> Jets:
        made = draw(self, jets)
        particles = made.particles.clone()
        particles[made.lengths[made.jet_of_particle] == 3, COLUMNS.index(column)] = value
        return replace(made, particles=particles)

    monkeypatch.setattr(Dice, "generate", wild)
    summary = generate(run, 200, tmp_path / "jets.root")
    assert list(summary.redrawn) == [reason]
    found = read(tmp_path / "jets.root")  # reads all, with the rules of every command
    assert len(found) == 200
    assert not bool((found.lengths == 3).any())


def test_the_axis_of_real_jets_is_found_from_their_energies(sample_files: list[JetFile]) -> None:
    jets = next(ordered(sample_files, [EntryRange(8, 0, 300)], Request(jet_columns=("jet_eta",))))
    found = with_axis(replace(jets, jet={}))
    error = (found.jet["jet_eta"] - jets.jet["jet_eta"].abs()).abs()
    assert error.max() < 0.1
    assert error.median() < 0.002
    # The energies change little, and fit the momenta exactly.
    ratio = found.column("energy") / jets.column("energy")
    assert (ratio - 1).abs().median() < 0.003
    mass2 = found.column("energy").double().square() - momenta(found).square().sum(1)
    torch.testing.assert_close(
        mass2 / found.column("energy").square(), (found.masses() / found.column("energy")).square().double(),
        rtol=0, atol=1e-6,
    )  # fmt: skip
    # An axis that the jets do have is kept.
    torch.testing.assert_close(with_axis(jets).jet["jet_eta"], jets.jet["jet_eta"], rtol=0, atol=0)


def test_energies_too_small_for_any_axis_give_the_one_of_least_energy() -> None:
    jets = made_jets([4, 7, 30])
    particles = jets.particles.clone()
    particles[:, jets.columns.index("energy")] = 1e-3
    low = replace(jets, particles=particles)
    eta = with_axis(low).jet["jet_eta"].double()
    assert bool((eta >= 0).all())
    least = jets.mean(energies(with_axis(low)))
    for other in (eta + 0.05, (eta - 0.05).clamp(min=0)):
        assert bool((jets.mean(energies(replace(low, jet={"jet_eta": other}))) >= least - 1e-3).all())


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run, out = trained(tmp_path), tmp_path / "jets.root"
    with pytest.raises(UsageError, match="--jets 1000"):
        generate(run, 0, out)
    with pytest.raises(UsageError, match=r"negative(.|\n)*-1"):  # hash(-1) is hash(-2): two seeds of the same jets
        generate(run, 5, out, seed=-1)
    with pytest.raises(UsageError, match=r"\.root"):
        generate(run, 5, tmp_path / "jets.parquet")
    with pytest.raises(SslJetsError, match="no trained model"):
        generate(tmp_path / "none", 5, out)
    with pytest.raises(UsageError, match=r"cannot generate(.|\n)*method mae(.|\n)*dice(.|\n)*next_particle$"):
        generate(trained(tmp_path / "other", name="mae"), 5, out)
    out.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        generate(run, 5, out)
    assert out.read_text() == "precious"
    assert generate(run, 5, out, force=True).jets == 5


def bad_jets(number: int) -> Jets:
    return replace(made_jets([2] * number), particles=torch.full((2 * number, 10), torch.nan))


def test_a_last_jet_that_is_unusable_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 jets the 44 of the second batch are all bad, by chance: the model makes usable jets nevertheless."""
    run, draw = trained(tmp_path), Dice.generate
    made = iter([False, True, False])
    monkeypatch.setattr(Dice, "generate", lambda self, jets: bad_jets(jets) if next(made) else draw(self, jets))
    summary = generate(run, 300, tmp_path / "jets.root")
    assert (summary.jets, summary.redrawn) == (300, {"pt is not finite": 44})
    assert len(read(tmp_path / "jets.root")) == 300


def test_a_model_of_no_usable_jets_and_a_signal_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Dice, "generate", lambda self, jets: bad_jets(jets))
        with pytest.raises(SslJetsError, match="no usable jets"):
            generate(run, 5, tmp_path / "jets.root")
    with pytest.raises(Interrupted):
        generate(run, 600, tmp_path / "jets.root", report=lambda *_: signal.raise_signal(signal.SIGTERM))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_command_prints_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = trained(tmp_path), tmp_path / "jets.root"
    words = ["ssl-jets", "generate", "--model", str(run), "--jets", "7", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "7 jets in" in printed.err
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "--force" in capsys.readouterr().err
