"""Objective of finetuning: the losses of the tasks, and further terms on the same batch.

    L = L_tasks + sum over terms

L_tasks is the loss of `methods/supervised.py`: each task averaged over the jets with its target, several tasks weighted
by their uncertainties. A term is any other loss on the batch: domain adaptation, distillation, L2-SP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ssl_jets.finetuning.source_weights import SourceWeights
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import BaseEncoder, Encoder
from ssl_jets.nn.particles.heads import ParticleHeads
from ssl_jets.nn.particles.metrics import particle_metrics
from ssl_jets.nn.particles.tasks import ParticleTasks
from ssl_jets.nn.task_weights import Mean, Part, TaskWeights, means_of
from ssl_jets.nn.tasks import Tasks, TaskSettings, at_least_one

LearningRateMultipliers = Callable[[float], Mapping[str, float]]
"""Function of the progress that returns multipliers of the learning rate (see `Method.lr_multipliers`)."""


class Term(nn.Module):
    """Additional loss term. Its parameters are trained, but are not part of the finetuned model."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, Tensor] = {}
        """Detached scalars of the last batch, to log with the loss."""

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor | Mean:
        """Compute the loss, a scalar with its weight included; a `Mean` of weight 0 if the batch does not have it.

        Args:
            objective: encoder and heads.
            z: z of all jets of the batch, `[jet, dim]`.
            jets: the batch; an unlabelled jet has label -1 and targets NaN.
            progress: fraction of the training done, 0 to 1.
        """
        raise NotImplementedError


class Objective(Method):
    """Encoder, heads and loss terms, with the interface of a method.

    Attributes:
        source_weights: weight of each jet of a batch in the losses of the tasks during training, mean 1; None for
            equal weights.
        fits_inputs: fit the statistics of the encoder's inputs, which no trained model provides.
    """

    sees_context: ClassVar[bool] = True
    sees_collections: ClassVar[bool] = True
    encoder: BaseEncoder  # type: ignore[assignment]  # foreign encoders are finetuned, too

    def __init__(
        self,
        cfg: TaskSettings,
        encoder: BaseEncoder,
        labels: tuple[str, ...],
        terms: Mapping[str, Term] | None = None,
        particles: ParticleTasks | None = None,
    ) -> None:
        super().__init__(cfg, cast(Encoder, encoder), labels)
        encoder.reads_context = encoder.reads_collections = True  # the request decides whether the jets have any
        self.tasks = Tasks(cfg, encoder.dim, labels)
        self.particles = particles
        self.loss_reads_z = bool(self.tasks.forms or terms)
        forms = self.tasks.forms | (particles.forms if particles is not None else {})
        self.weights = TaskWeights(forms, learned=cfg.weights == "sigma", smallest=cfg.smallest_sigma)
        self.terms = nn.ModuleDict(terms or {})
        self.source_weights: SourceWeights | None = None
        self.fits_inputs = False
        self.multipliers_at: LearningRateMultipliers = lambda progress: {}
        """Multipliers of the learning rate, set by the mode."""

    def loss(self, jets: Jets, progress: float) -> dict[str, Part]:
        """Compute the total loss, and the value of each task and term."""
        particles, whole = self.particles, self.whole(jets)
        has = torch.ones_like(jets.lengths, dtype=torch.bool) if self.terms else self._has(jets)
        jets = at_least_one(jets, has)
        z, tokens = self.encoder(jets, z_only=particles is None)  # [jet, dim], [particle, width]
        jet_weights = None
        if self.training and self.source_weights is not None:
            jet_weights = self.source_weights(at_least_one(whole, has))  # as fitted: with all inputs
        losses, logged = self.tasks(z, jets, jet_weights)
        if particles is not None:
            of_particles = particles(tokens, jets, jet_weights)
            losses, logged = losses | of_particles[0], logged | of_particles[1]
        total = self.weights.terms(losses)
        if not self.tasks.forms:
            total.append(Mean(0 * z.sum(), 0.0))  # ranks expect a gradient of every weight
        for name, term in self.terms.items():
            assert isinstance(term, Term)
            (mean,) = means_of(term(self, z, jets, progress), len(jets))
            total.append(mean)
            logged |= {f"loss_{name}": Mean(mean.value.detach(), mean.weight), **term.logged}
        return {"loss": total, **logged, **self.weights.parts(losses)}

    def _has(self, jets: Jets) -> Tensor:
        """Return the jets with a target of jets or particles, bool `[jet]`."""
        has = self.tasks.has(jets)
        return has if self.particles is None else has | self.particles.has(jets)

    def after_step(self, progress: float) -> None:
        """Clamp the log-uncertainties s of the tasks to their limits."""
        self.weights.clamp()

    def lr_multipliers(self, progress: float) -> Mapping[str, float]:
        """Return the multipliers of the learning rate that the mode has set."""
        return self.multipliers_at(progress)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Compute mean and standard deviation of the targets and, with `fits_inputs`, of the inputs."""
        if self.fits_inputs or self.particles is not None:
            batches = list(batches)
        if self.fits_inputs:
            self.encoder.fit_statistics(batches)
        if self.particles is not None:
            self.particles.fit_statistics(batches)
        self.tasks.fit_statistics(batches)

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """Return accuracy and AUC, or bias and resolution, of the targets of particles of the held-out jets."""
        if self.particles is None:
            return {}
        return particle_metrics(self.encoder, self.particles.heads, batches)

    @property
    def learns_targets(self) -> bool:
        """Whether there are targets of jets or of particles; the latter do not train z."""
        return bool(self.weights.forms)

    def exported_particle_heads(self) -> ParticleHeads | None:
        """Return the heads of the particles."""
        return None if self.particles is None else self.particles.heads


class L2SPTerm(Term):
    """L2-SP penalty (arXiv:1802.01483): strength / 2 sum (w - w_0)^2 over the pretrained weights that are trained.

    The loss of held-out jets is without it, as without weight decay: it would prefer weights of early steps.
    w_0, the weights of `encoder`, is not saved in checkpoints: a resumed run loads the pretrained model again.

    Args:
        strength: factor of the penalty.
        encoder: the encoder before its training.
        pretrained: the weights that are pretrained; others, as of a new pool, begin at random values.
    """

    def __init__(self, strength: float, encoder: nn.Module, pretrained: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.strength = strength
        weights, known = dict(encoder.named_parameters()), {id(weight) for weight in pretrained}
        self.names = [name for name, weight in weights.items() if weight.requires_grad and id(weight) in known]
        for number, name in enumerate(self.names):
            self.register_buffer(f"start{number}", weights[name].detach().clone(), persistent=False)

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor | Mean:
        """Compute the penalty, which does not depend on the jets; of weight 0 in evaluation mode."""
        if not self.training:
            return Mean(z.new_zeros(()), 0.0)
        weights = dict(objective.encoder.named_parameters())
        total = z.new_zeros(())
        for number, name in enumerate(self.names):
            start: Tensor = getattr(self, f"start{number}")
            total = total + (weights[name] - start).square().sum()
        return self.strength / 2 * total
