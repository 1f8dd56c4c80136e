"""What is watched while training: validation loss, a probe of z, and whether z collapses, on held-out jets.

Nothing here feeds back into the weights: the method is in evaluation mode, no gradient is kept, and the random numbers
are drawn from a generator state that is put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssl_jets.arrays import Array
from ssl_jets.data.split import first_halves
from ssl_jets.diagnostics import collapse
from ssl_jets.diagnostics.collapse import Verdict
from ssl_jets.diagnostics.representation import RepresentationStatistics, distance, representation_statistics, variation
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.encoder import Encoded, Encoder, random_like

CHECK_JETS = 512
"""Most jets of what is measured for the verdicts alone."""


ANOTHER_VIEW = Views(rotate=math.pi, reflect=0, drop=0, smear=0.1)
"""What should not change z much: a rotation about the jet axis and light smearing."""


EARLY_STEPS = 200
"""Steps in which a healthy z may lose most of its directions, and a decoder learns to read it."""


TEACHER_MAY_STOP_AFTER = 0.9
"""Share of the training after which a teacher may stand still, since its momentum rises to 1."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found at one step.

    Attributes:
        metrics: named numbers, to log.
        verdicts: in which ways the representation has failed; empty for a healthy one.
    """

    metrics: dict[str, float]
    verdicts: list[Verdict]


def in_words(look: Diagnosis, dim: int, *, early: bool = False) -> str:
    """Return one line of a look for a reader: loss, probe accuracy, and the state of z of `dim` numbers.

    The rank is the participation ratio, by which a `narrow` z is judged, but not a `young` one.
    """
    metrics = look.metrics
    found = [
        f"{title} {metrics[name]:.4g}"
        for name, title in (("loss", "held-out loss"), ("probe_accuracy", "probe accuracy"))
        if math.isfinite(metrics.get(name, math.nan))
    ]
    state = ", ".join(verdict.name for verdict in look.verdicts) or ("young" if early else "healthy")
    ratio = metrics.get("z_participation_ratio")
    rank = "" if ratio is None else f" (rank {ratio:.0f} of {dim})"
    return ", ".join([*found, f"z {state}{rank}"])


class Monitor:
    """Looks at a method on fixed held-out jets. Every look draws the same random numbers.

    Args:
        jets: held-out jets.
        batch_size: jets of one forward pass.
        classes: number of classes; 0 for jets without labels, which cannot be probed.
    """

    def __init__(self, jets: Jets, batch_size: int, classes: int) -> None:
        # Files hold a class each: in their order a batch would not be the mixture that training sees.
        order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))
        self.jets, self.batch_size, self.classes = jets.select(order), batch_size, classes
        self.some = self.jets.select(torch.arange(min(CHECK_JETS, len(jets))))
        self.view = another_view(self.some)
        self._random: dict[int, RepresentationStatistics] = {}
        self._before: dict[str, float] = {}

    def look(self, method: Method, progress: float, *, early: bool = False) -> Diagnosis:
        """Mean loss and its parts, what the method says of itself, `probe_accuracy`, and what `check` finds.

        Args:
            method: what is looked at; it is left as it was.
            progress: share of the training done.
            early: whether this is one of the first `YOUNG` steps, when some verdicts would be premature.
        """
        with _quiet(method):
            metrics = self._losses(method, progress, self.jets)
            metrics |= method.validation_metrics(jets.to(_device(method)) for jets in self._batches(self.jets))
            z = self._z(method.exported(), self.jets)
            if self.classes and self.jets.labels is not None and self.jets.source is not None:
                file, entry = self.jets.source.numpy()[:, :2].T
                fit = torch.from_numpy(first_halves(file, entry))
                metrics["probe_accuracy"] = ridge_accuracy(z, self.jets.labels, fit, self.classes)
            checked = self._check(method, progress, z, early=early)
            verdicts = checked.verdicts + collapse.verdicts_on_codes(metrics.get("code_usage", 1.0))
            if self.batch_size > 1:
                loss, rise = self._swap(method, progress)
                metrics["z_swap_rise"] = rise
                verdicts += [] if early else collapse.verdicts_on_swap(rise, loss)
        return Diagnosis(metrics | checked.metrics, verdicts)

    def check(self, method: Method, progress: float) -> Diagnosis:
        """The part of a look that takes little time: whether z has collapsed, on the first `CHECK_JETS` of the jets."""
        with _quiet(method):
            return self._check(method, progress, self._z(method.exported(), self.some), early=True)

    def state_dict(self) -> dict[str, float]:
        """What the next look compares with."""
        return dict(self._before)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        self._before = dict(state)

    def _check(self, method: Method, progress: float, z: Tensor, *, early: bool) -> Diagnosis:
        encoder = method.exported()
        found = representation_statistics(z, self._z(encoder, self.view))
        if len(z) not in self._random:
            jets = self.jets if len(z) == len(self.jets) else self.some
            random = random_like(encoder, seed=0)
            self._random[len(z)] = representation_statistics(self._z(random, jets), self._z(random, self.view))
        labels = method.exported_head() is not None
        verdicts = collapse.verdicts_on_z(found, self._random[len(z)], labels=labels, early=early)
        compared, alike = self._compared(method, z[: len(self.some)])
        teacher, still = self._teacher(method, progress)
        return Diagnosis(_named(found) | compared | teacher, verdicts + alike + still)

    def _compared(self, method: Method, z: Tensor) -> tuple[dict[str, float], list[Verdict]]:
        """How much of what the loss compares differs between jets, beside the first time, where it compares any."""
        compared = method.projection(z.to(_device(method)))
        if compared is None:
            return {}, []
        share = float(variation(compared))
        return {"compared_variation": share}, collapse.verdicts_on_projection(
            share, self._before.setdefault("compared", share)
        )

    def _teacher(self, method: Method, progress: float) -> tuple[dict[str, float], list[Verdict]]:
        """How far student and teacher are apart, and whether the teacher moves, where there is one."""
        pair = student_and_teacher(method)
        if pair is None:
            return {}, []
        student, teacher = pair
        found = {"teacher_distance": float(distance(self._z(student, self.some), self._z(teacher, self.some)))}
        stands_at = float(sum(weight.double().abs().sum() for weight in teacher.parameters()))
        still = self._before.get("teacher") == stands_at and progress < TEACHER_MAY_STOP_AFTER
        self._before["teacher"] = stands_at
        return found, [Verdict("teacher", "the teacher has not moved since the last look")] if still else []

    def _swap(self, method: Method, progress: float) -> tuple[float, float]:
        """The loss, and its rise when jets swap their z."""
        loss = self._losses(method, progress, self.some)["loss"]
        with swapped_z(method):
            return loss, self._losses(method, progress, self.some)["loss"] - loss

    def _losses(self, method: Method, progress: float, jets: Jets) -> dict[str, float]:
        totals: dict[str, float] = {}
        for number, batch in enumerate(self._batches(jets)):
            torch.manual_seed(number)
            for name, value in method(batch.to(_device(method)), progress).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch) / len(jets)
        return totals

    def _z(self, encoder: Encoder, jets: Jets) -> Tensor:
        device = encoder.extra_tokens.device
        return torch.cat([encoder(batch.to(device)).z.float().cpu() for batch in self._batches(jets)])

    def _batches(self, jets: Jets) -> Iterator[Jets]:
        for index in torch.arange(len(jets)).split(self.batch_size):
            yield jets.select(index)


def another_view(jets: Jets) -> Jets:
    """The jets turned about their axes by random angles and lightly smeared; the same for the same jets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_view(jets, ANOTHER_VIEW)


def student_and_teacher(method: nn.Module) -> tuple[Encoder, Encoder] | None:
    """The encoder that is trained and the one that follows it, of the method or of one inside it."""
    for module in method.modules():
        student, teacher = getattr(module, "encoder", None), getattr(module, "teacher", None)
        if isinstance(student, Encoder) and isinstance(teacher, Encoder):
            return student, teacher
    return None


@contextmanager
def swapped_z(method: nn.Module) -> Iterator[None]:
    """Within it every encoder of `method` gives each jet the z of another one of its batch; the tokens stay.

    Each call swaps differently, so that two views of a jet get the z of different jets.
    """
    generator = torch.Generator().manual_seed(0)

    def swap(_module: nn.Module, _inputs: object, found: Encoded) -> Encoded:
        away = int(torch.randint(1, max(2, len(found.z)), (), generator=generator))
        return found._replace(z=found.z.roll(away, dims=0))

    hooks = [module.register_forward_hook(swap) for module in method.modules() if isinstance(module, Encoder)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _quiet(method: Method) -> Iterator[None]:
    """Evaluation mode, no gradients, and random numbers of its own."""
    method.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    finally:
        method.train()


def _device(method: nn.Module) -> torch.device:
    return next(method.parameters()).device


def _named(found: RepresentationStatistics) -> dict[str, float]:
    """The measures under the names they have in `metrics.jsonl`."""
    return {
        "z_std": found.std,
        "z_std_min": found.std_min,
        "z_variation": found.variation,
        "z_participation_ratio": found.participation_ratio,
        "rankme": found.rankme,
        "z_mean_cosine": found.mean_cosine,
        "z_alignment": found.alignment,
        "z_uniformity": found.uniformity,
    }


def ridge_accuracy(z: Tensor, labels: Tensor, fit: Tensor, classes: int) -> float:
    """Accuracy of a ridge classifier of standardised z, fitted where `fit` is true and tested on the rest.

    A closed form that takes milliseconds: a guide while training, not the probe of `evaluate`.
    """
    known = labels >= 0
    train, test = fit & known, ~fit & known
    if len(labels[train].unique()) < 2 or not test.any():  # of one class nothing is told
        return float("nan")
    z = (z - z[train].mean(0)) / z[train].std(0).clamp(min=1e-6)
    z = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    target = torch.nn.functional.one_hot(labels[train], classes).double()
    ridge = 1e-2 * train.sum() * torch.eye(z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(z[train].T @ z[train] + ridge, z[train].T @ target)
    return float(((z[test] @ weights).argmax(1) == labels[test]).double().mean())


Encode = Callable[[Encoder, Jets], Array]


def spreads(
    encode: Encode, jets: Jets, found: tuple[Encoder, Array], random: tuple[Encoder, Array], *, labels: bool
) -> dict[str, Any]:
    """The parts `spread` and `collapse` of an evaluation.

    Args:
        encode: an encoder and jets to z `[jet, D]`.
        jets: the jets of z.
        found: the encoder and its z.
        random: the encoder of random weights and its z.
        labels: whether the encoder was trained to tell classes.
    """
    # Jets come file by file, and a file has one class: the first ones would not stand for all.
    order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))
    view = another_view(jets.select(order[:CHECK_JETS]))
    of_model, of_random = (
        representation_statistics(torch.from_numpy(z)[order], torch.from_numpy(encode(encoder, view)))
        for encoder, z in (found, random)
    )
    return {
        "spread": {"z": of_model, "z of random weights": of_random},
        "collapse": collapse.verdicts_on_z(of_model, of_random, labels=labels),
    }
