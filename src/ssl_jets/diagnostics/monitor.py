"""Validation during training, on held-out jets: loss, a linear probe of z, collapse of z.

It never feeds back into the weights: the method is in evaluation mode, no gradient is kept, and the state of the random
generators is restored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ssl_jets.arrays import Array
from ssl_jets.data.split import every_other_block
from ssl_jets.diagnostics import collapse, representation
from ssl_jets.diagnostics.collapse import Verdict
from ssl_jets.diagnostics.representation import RepresentationStatistics, representation_statistics
from ssl_jets.diagnostics.results import joined
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.encoder import BaseEncoder, Encoded, random_like
from ssl_jets.nn.random import kept_state
from ssl_jets.nn.task_weights import Mean, mean_of_batches

CHECK_JETS = 512
"""Largest number of jets that the collapse criteria are computed on."""
ANOTHER_VIEW = Views(rotate=math.pi, reflect=0, drop=0, smear=0.1)
"""Augmentation that should not change z much: a rotation about the jet axis and light smearing."""
EARLY_STEPS = 200
"""Steps in which a healthy z may lose most of its directions, and a decoder learns to read it."""
TEACHER_MAY_STOP_AFTER = 0.9
"""Fraction of the training after which a teacher may stop moving, since its momentum rises to 1."""

BatchLosses = tuple[int, dict[str, list[Mean]]]
"""Number of jets of a batch, and its loss and parts."""


@dataclass(frozen=True)
class Diagnosis:
    """Validation metrics and collapse verdicts at one step.

    Attributes:
        metrics: values by name, to log.
        verdicts: collapse criteria that were met; empty for a healthy representation.
    """

    metrics: dict[str, float]
    verdicts: list[Verdict]


def summary_line(diagnosis: Diagnosis, dim: int, *, early: bool = False) -> str:
    """Format a diagnosis as one line: loss, probe accuracy, and the state of z of `dim` numbers.

    The participation ratio decides on `low-rank`, except in the first `EARLY_STEPS` steps.

    >>> summary_line(Diagnosis({"loss": 2.131, "z_participation_ratio": 15.2}, []), 64)
    'held-out loss 2.131, z healthy (participation ratio 15 of 64)'
    """
    metrics = diagnosis.metrics
    parts = [
        f"{title} {metrics[name]:.4g}"
        for name, title in (("loss", "held-out loss"), ("probe_accuracy", "probe accuracy"))
        if math.isfinite(metrics.get(name, math.nan))
    ]
    state = ", ".join(verdict.name for verdict in diagnosis.verdicts) or ("warming up" if early else "healthy")
    ratio = metrics.get("z_participation_ratio")
    directions = "" if ratio is None else f" (participation ratio {ratio:.0f} of {dim})"
    return ", ".join([*parts, f"z {state}{directions}"])


class Monitor:
    """Validation of a method on fixed held-out jets, each time with the same random numbers.

    Args:
        jets: held-out jets.
        batch_size: jets of one forward pass.
        classes: number of classes; 0 for jets without labels, which cannot be probed.
    """

    def __init__(self, jets: Jets, batch_size: int, classes: int) -> None:
        # A file often holds one class: in file order a batch would not be the mixture of a training batch.
        order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))
        self.jets, self.batch_size, self.classes = jets.select(order), batch_size, classes
        self.some = self.jets.select(torch.arange(min(CHECK_JETS, len(jets))))
        self.view = another_view(self.some)
        self._random: RepresentationStatistics | None = None  # of `some`, by an encoder of random weights
        self._reference: dict[str, float] = {}  # values of earlier validations that later ones are compared with

    def validate(self, method: Method, progress: float, *, early: bool = False) -> Diagnosis:
        """Compute the mean loss and its parts, the method's own metrics, `probe_accuracy`, and all of `check`.

        Args:
            method: the method; it is left unchanged.
            progress: fraction of the training done.
            early: the training is in its first `EARLY_STEPS` steps, when some verdicts would be premature.
        """
        with evaluating(method):
            losses = self._losses(method, progress, self.jets)
            metrics = _mean(losses)
            metrics |= method.validation_metrics(jets.to(_device(method)) for jets in self._batches(self.jets))
            of_z = dict[str, float]()
            z = self._z(method.exported(), self.jets)
            if self.classes and self.jets.labels is not None and self.jets.source is not None:
                file, entry = self.jets.source.numpy()[:, :2].T
                in_fit = torch.from_numpy(every_other_block(file, entry))
                of_z["probe_accuracy"] = representation.ridge_accuracy(z, self.jets.labels, in_fit, self.classes)
            on_z = self._check(method, progress, z[: len(self.some)], early=early)
            verdicts = on_z.verdicts + collapse.verdicts_on_codes(metrics.get("code_usage", 1.0))
            verdicts += collapse.verdicts_on_embedding(metrics.get("embedding_variation", 1.0))
            can_swap = self.batch_size > 1 and method.loss_reads_z
            if can_swap and (swapped := self._swap(method, progress, losses)):
                loss, of_z["z_swap_rise"] = swapped
                verdicts += [] if early else collapse.verdicts_on_swap(of_z["z_swap_rise"], loss)
        return Diagnosis(joined(metrics, of_z | on_z.metrics), verdicts)

    def check(self, method: Method, progress: float) -> Diagnosis:
        """Compute the collapse criteria of z alone, which is fast, on the first `CHECK_JETS` jets."""
        with evaluating(method):
            return self._check(method, progress, self._z(method.exported(), self.some), early=True)

    def state_dict(self) -> dict[str, float]:
        """Return the reference values of the next validation."""
        return dict(self._reference)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the reference values."""
        self._reference = dict(state)

    def _check(self, method: Method, progress: float, z: Tensor, *, early: bool) -> Diagnosis:
        """Compute the collapse criteria from z of `some`."""
        encoder = method.exported()
        statistics = representation_statistics(z, self._z(encoder, self.view))
        if self._random is None:
            random = random_like(encoder, seed=0)
            self._random = representation_statistics(self._z(random, self.some), self._z(random, self.view))
        on_z = collapse.verdicts_on_z(statistics, self._random, targets=method.learns_targets, early=early)
        projections, on_projections = self._projections(method, z)
        teacher, on_teacher = self._teacher(method, progress, encoder, z)
        return Diagnosis(_metrics_of(statistics) | projections | teacher, on_z + on_projections + on_teacher)

    def _projections(self, method: Method, z: Tensor) -> tuple[dict[str, float], list[Verdict]]:
        """Compare the variation of the projections in the loss with its value at the first validation."""
        projection = method.projection(z.to(_device(method)))
        if projection is None:
            return {}, []
        share = float(representation.variation(projection))
        start = self._reference.setdefault("compared", share)
        return {"compared_variation": share}, collapse.verdicts_on_projection(share, start)

    def _teacher(
        self, method: Method, progress: float, encoder: BaseEncoder, z: Tensor
    ) -> tuple[dict[str, float], list[Verdict]]:
        """Measure the distance of student and teacher, one of them `encoder`, and check that the teacher moves."""
        pair = student_and_teacher(method)
        if pair is None:
            return {}, []
        of_student, of_teacher = (z if module is encoder else self._z(module, self.some) for module in pair)
        metrics, teacher = {"teacher_distance": float(representation.distance(of_student, of_teacher))}, pair[1]
        norm = float(sum(weight.double().abs().sum() for weight in teacher.parameters()))
        unmoved = self._reference.get("teacher") == norm and progress < TEACHER_MAY_STOP_AFTER
        self._reference["teacher"] = norm
        return metrics, [Verdict("teacher", "the teacher has not moved since the last validation")] if unmoved else []

    def _swap(self, method: Method, progress: float, losses: list[BatchLosses]) -> tuple[float, float] | None:
        """Compute the loss of `some`, and its rise when jets swap z, from `losses` of all jets; None without a loss."""
        ends = list(accumulate(size for size, _ in losses))  # 128, 256, ...: the losses of `some` may be among them
        known = losses[: ends.index(len(self.some)) + 1] if len(self.some) in ends else None
        loss = _mean(known or self._losses(method, progress, self.some)).get("loss")
        if loss is None:
            return None
        with swapped_z(method):
            return loss, _mean(self._losses(method, progress, self.some))["loss"] - loss

    def _losses(self, method: Method, progress: float, jets: Jets) -> list[BatchLosses]:
        """Compute loss and parts of each batch, with the random numbers of its position."""
        losses = []
        for number, batch in enumerate(self._batches(jets)):
            torch.manual_seed(number)
            batch = batch.to(_device(method))
            losses.append((len(batch), method.means(batch, progress)))
        return losses

    def _z(self, encoder: BaseEncoder, jets: Jets) -> Tensor:
        device = next(encoder.parameters()).device
        return torch.cat([encoder(batch.to(device), z_only=True).z.float().cpu() for batch in self._batches(jets)])

    def _batches(self, jets: Jets) -> Iterator[Jets]:
        for index in torch.arange(len(jets)).split(self.batch_size):
            yield jets.select(index)


def another_view(jets: Jets) -> Jets:
    """Rotate jets about their axes by random angles and smear them lightly; deterministic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_view(jets, ANOTHER_VIEW)


def student_and_teacher(method: nn.Module) -> tuple[BaseEncoder, BaseEncoder] | None:
    """Find the trained encoder and its momentum teacher in a method, or in one inside it; not a frozen teacher."""
    for module in method.modules():
        student, teacher = getattr(module, "encoder", None), getattr(module, "teacher", None)
        follows = "teacher" not in getattr(module, "requires", ())
        if follows and isinstance(student, BaseEncoder) and isinstance(teacher, BaseEncoder):
            return student, teacher
    return None


@contextmanager
def swapped_z(method: nn.Module) -> Iterator[None]:
    """Let every encoder of `method` give each jet the z of another jet of its batch; the tokens stay.

    Each call swaps differently, so that two views of a jet get the z of different jets.
    """
    generator = torch.Generator().manual_seed(0)

    def swap(_module: nn.Module, _inputs: object, encoded: Encoded) -> Encoded:
        shift = int(torch.randint(1, max(2, len(encoded.z)), (), generator=generator))
        return encoded._replace(z=encoded.z.roll(shift, dims=0))

    hooks = [module.register_forward_hook(swap) for module in method.modules() if isinstance(module, BaseEncoder)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(method: Method) -> Iterator[None]:
    """Set evaluation mode, no gradients, and a random state of its own; each module then has its mode again."""
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        with torch.no_grad(), kept_state(_device(method)):
            torch.manual_seed(0)
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _mean(losses: list[BatchLosses]) -> dict[str, float]:
    return mean_of_batches(parts for _, parts in losses)


def _device(method: nn.Module) -> torch.device:
    return next(method.parameters()).device


def _metrics_of(statistics: RepresentationStatistics) -> dict[str, float]:
    """Return the statistics under their names in `metrics.jsonl`."""
    return {
        "z_std": statistics.std,
        "z_std_min": statistics.std_min,
        "z_variation": statistics.variation,
        "z_participation_ratio": statistics.participation_ratio,
        "rankme": statistics.rankme,
        "z_mean_cosine": statistics.mean_cosine,
        "z_alignment": statistics.alignment,
        "z_uniformity": statistics.uniformity,
    }


Embed = Callable[[Jets], Array]
"""Function of jets that returns their z, `[jet, D]`."""


def spread_and_collapse(
    jets: Jets, model: tuple[Embed, Array], random: tuple[Embed, Array], *, targets: bool
) -> dict[str, Any]:
    """Compute the parts `spread` and `collapse` of an evaluation.

    Args:
        jets: the jets of z.
        model: the trained encoder and its z.
        random: the randomly initialized encoder and its z.
        targets: the encoder was trained for classes or columns of jets.
    """
    # Jets come file by file, and a file often has one class: the first ones are not a sample of all.
    order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(0))
    view = another_view(jets.select(order[:CHECK_JETS]))

    def statistics(embed: Embed, z: Array) -> RepresentationStatistics:
        return representation_statistics(torch.from_numpy(z)[order], torch.from_numpy(embed(view)))

    of_model, of_random = statistics(*model), statistics(*random)
    return {
        "spread": {"z": of_model, "z of random weights": of_random},
        "collapse": collapse.verdicts_on_z(of_model, of_random, targets=targets),
    }
