"""Settings of an evaluation: jets, measurements, and their sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ssl_jets.config import DataSettings, Settings


class MeasureSettings(Settings):
    """Measurements and their sizes (`evaluate.*`)."""

    seed: int = Field(default=0, ge=0)
    """Seed of the choice of jets, the random encoder, the trees and the bootstrap; `--seed` sets it."""
    fit_jets: int = Field(default=20_000, ge=2)
    """Most jets to fit probes of the class on."""
    test_jets: int = Field(default=50_000, ge=2)
    """Most jets to measure on."""
    background: str | None = None
    """Background class of the rejections; by default QCD if there is one, else the first."""
    efficiencies: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Signal efficiencies of the rejections (`--efficiency`); by default 0.5, but 0.99 of `Hqql` and 0.995 of `Tbl`."""
    physics_jets: int = Field(default=4000, ge=0)
    """Most jets that probes of physics quantities, and trees that read z, are fitted on; 0 leaves them out."""
    robust_jets: int = Field(default=2000, ge=0)
    """Most jets of the robustness curves; 0 leaves them out."""
    particle_jets: int = Field(default=2000, ge=0)
    """Most jets that predictions of particles are measured on; 0 leaves them out."""
    deep_sets: bool = True
    """Train a small Deep Sets network from scratch on the same labels, as a baseline: at most 1000 steps on the CPU."""
    seen: bool = False
    """Also measure on training jets of the model, and mark every output. Such numbers show how well it remembers."""


class LabelSettings(Settings):
    """Accuracy against the number of labels (`labels.*`)."""

    shares: tuple[float, ...] = Field(default=(0.001, 0.01, 0.1, 1.0), min_length=1)
    """Shares of the labels to use; of one seed, a larger subset contains every smaller one."""
    seeds: int = Field(default=3, ge=2)
    """Trainings at every point: each with its own subset, order of the jets and head."""
    modes: tuple[Literal["probe", "head", "last-blocks", "lora", "full"], ...] = ("full", "probe")
    """Modes of `finetune` that start from the pretrained model; the same network from scratch is always added."""
    steps: int = Field(default=300, ge=1)
    """Optimizer steps of every training, so that more labels do not mean more steps."""
    batch_size: int = Field(default=128, ge=1)
    """Jets of one step."""
    test_jets: int = Field(default=10_000, ge=2)
    """Most jets to test the trainings on."""


class AnomalySettings(Settings):
    """Search for unlabelled signals (`anomaly.*`)."""

    signals: tuple[str, ...] = ()
    """Classes to search for, one after the other; by default all but the background."""
    counts: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(10, 30, 100, 300, 1000), min_length=1)
    """Signal jets hidden in the background; more than there are to fit on are left out. A search with none is always
    made: the floor."""
    seeds: int = Field(default=5, ge=2)
    """Draws of the signal jets, and of the halves of the background, at every number."""
    neighbours: int = Field(default=10, ge=1)
    """Neighbours of the kNN distance."""


class FigureSettings(Settings):
    """The line above every figure (`figures.*`): the experiment at its left end, the data at its right end."""

    experiment: str = ""
    """Name in bold, such as CMS; `mplhep` sets it in the style of an experiment that it has."""
    status: str = ""
    """Status after the name, such as Simulation Preliminary."""
    energy: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Energy of the collisions, sqrt(s) in TeV."""
    luminosity: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Integrated luminosity in fb^-1."""


class EvaluateSettings(Settings):
    """All settings of an evaluation."""

    data: DataSettings = DataSettings()
    evaluate: MeasureSettings = MeasureSettings()
    labels: LabelSettings = LabelSettings()
    anomaly: AnomalySettings = AnomalySettings()
    figures: FigureSettings = FigureSettings()
