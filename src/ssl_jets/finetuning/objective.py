"""What finetuning minimises: the losses of the tasks, and further terms on the same batch.

    L = L_tasks + sum over terms

L_tasks is that of `methods/supervised.py`: each task averaged over the jets that have its target, several weighed by
their uncertainties. A term is any other loss that sees the batch: unlabelled jets of another domain, a teacher, the
pretrained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ssl_jets.finetuning.source_weights import SourceWeights
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.nn.task_weights import TaskWeights
from ssl_jets.nn.tasks import Tasks, TaskSettings

Rates = Callable[[float], Mapping[str, float]]
"""From the progress to the factors on the learning rate (see `Method.rates`)."""


class Term(nn.Module):
    """A loss beside those of the tasks. Its parameters are trained, but are no part of the finetuned model."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, Tensor] = {}
        """Detached scalars of the last batch, to log beside the loss."""

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor:
        """The loss, a scalar with its weight in it.

        Args:
            objective: what is trained: encoder, heads.
            z: of all jets of the batch, `[jet, dim]`.
            jets: the batch; the label of an unlabelled jet is -1, its targets are NaN.
            progress: share of the training done, 0 to 1.
        """
        raise NotImplementedError


class Objective(Method):
    """Encoder, heads and terms, as the training loop wants them.

    Args:
        cfg: tasks and heads.
        encoder: the encoder to start from.
        labels: names of the classes.
        terms: further losses by name.

    Attributes:
        source_weights: from a batch to a weight of each jet in the losses of the tasks while training, mean 1; None
            where all count the same.
    """

    def __init__(
        self, cfg: TaskSettings, encoder: Encoder, labels: tuple[str, ...], terms: Mapping[str, Term] | None = None
    ) -> None:
        super().__init__(cfg, encoder, labels)
        self.encoder = encoder
        self.tasks = Tasks(cfg, encoder.dim, labels)
        self.weights = TaskWeights(self.tasks.forms, learned=cfg.weights == "sigma", smallest=cfg.smallest_sigma)
        self.terms = nn.ModuleDict(terms or {})
        self.source_weights: SourceWeights | None = None
        self.rates_at: Rates = lambda progress: {}
        """Factors on the learning rate; a mode may set it."""

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """The weighed losses of the tasks and the terms, and the value of each."""
        if not self.terms:
            jets = self.tasks.having(jets)
        z = self.encoder(jets).z
        weighing = self.source_weights if self.training else None
        losses, logged = self.tasks(z, jets, None if weighing is None else weighing(jets))
        total = self.weights(losses)
        for name, term in self.terms.items():
            assert isinstance(term, Term)
            value = term(self, z, jets, progress)
            total = total + value
            logged |= {f"loss_{name}": value.detach(), **term.logged}
        return {"loss": total, **logged, **self.weights.parts(losses)}

    def after_step(self, progress: float) -> None:
        """Keep every s within its limits."""
        self.weights.clamp()

    def lr_multipliers(self, progress: float) -> Mapping[str, float]:
        """Factors on the learning rate."""
        return self.rates_at(progress)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Statistics of the targets."""
        self.tasks.fit_statistics(batches)

    def exported(self) -> Encoder:
        """The encoder."""
        return self.encoder

    def exported_head(self) -> ClassHead | None:
        """The class head."""
        return self.tasks.head

    def exported_regressor(self) -> Regressor | None:
        """The head of the jet columns."""
        return self.tasks.regressor


class L2SPTerm(Term):
    """strength / 2 sum (w - w_0)^2 over the weights of the encoder that learn (L2-SP, `finetuning/objective.py`).

    Args:
        strength: the factor.
        encoder: the pretrained encoder, before its first step.
    """

    def __init__(self, strength: float, encoder: Encoder) -> None:
        super().__init__()
        self.strength, self.anchor = strength, L2SP(encoder)

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor:
        """The pull; it does not depend on the jets."""
        pull: Tensor = self.anchor(objective.encoder)
        return self.strength * pull


class L2SP(nn.Module):
    """Omega of the trainable weights of a module, as they are now.

    w_0 does not go into checkpoints: a run that is resumed loads the pretrained model again.

    Args:
        module: the pretrained module, before its first step.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, weight in module.named_parameters() if weight.requires_grad]
        weights = dict(module.named_parameters())
        for number, name in enumerate(self.names):
            self.register_buffer(f"start{number}", weights[name].detach().clone(), persistent=False)

    def forward(self, module: nn.Module) -> Tensor:
        """Omega of the same module after some steps, a scalar."""
        weights = dict(module.named_parameters())
        total = torch.zeros((), device=next(iter(weights.values())).device)
        for number, name in enumerate(self.names):
            start: Tensor = getattr(self, f"start{number}")
            total = total + (weights[name] - start).square().sum()
        return total / 2
