"""Heads f(z) = y, and projectors of contrastive and joint-embedding losses."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.nn.features import DeclaredInputs, Features

_FROM_KINDS = ("charge", "kind", "d0", "d0err", "dz", "dzerr")
"""Columns that a decoder makes from the kind and charge of a particle: tracks of neutral particles are zero."""


def mlp(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Return an MLP with one hidden layer of width `hidden`, or a linear layer for `hidden` 0."""
    layers = [nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out)] if hidden else [nn.Linear(dim, out)]
    return nn.Sequential(*layers)


class ClassHead(nn.Module):
    """Classifier of z `[jet, dim]`, logits `[jet, classes]`: linear, or an MLP with one hidden layer.

    Args:
        dim: dimension of z.
        classes: number of classes.
        hidden: width of the hidden layer; 0 for a linear head.
    """

    def __init__(self, dim: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        self.dim, self.classes, self.hidden = dim, classes, hidden
        self.layers = mlp(dim, hidden, classes)

    def forward(self, z: Tensor) -> Tensor:
        """Return the logits `[jet, classes]`."""
        logits: Tensor = self.layers(z)
        return logits


class Projector(nn.Sequential):
    """Projector `[jet, dim]` to the space of a loss `[jet, out]`: linear layers with norm and GELU in between.

    The papers use BatchNorm. With LayerNorm, the default, the loss is the same in training and evaluation and on any
    number of ranks, and no information leaks between views through batch statistics. The layers have no bias: a norm
    follows and has one, and after the last layer a bias would favour a constant output.

    Args:
        dim: input dimension.
        hidden: width of the hidden layers.
        out: output dimension.
        layers: number of linear layers; 0 is the identity and requires `out` = `dim`.
        norm: function from a width to the norm layer.
    """

    def __init__(
        self, dim: int, hidden: int, out: int, layers: int, norm: Callable[[int], nn.Module] = nn.LayerNorm
    ) -> None:
        widths = [dim, *[hidden] * (layers - 1), out]
        steps: list[nn.Module] = []
        for index in range(layers):
            steps += [norm(hidden), nn.GELU()] if index else []
            steps.append(nn.Linear(widths[index], widths[index + 1], bias=False))
        super().__init__(*steps)


class FeatureHead(nn.Module):
    """Prediction of the features that a schema marks as targets, from the output of a decoder of particles.

    The error of a particle is the mean over the targets that it has: |p - x| of a standardized value x, or the
    cross-entropy of a category.
    """

    def __init__(self, width: int, declared: DeclaredInputs) -> None:
        super().__init__()
        targets = {name: definition for name, definition in declared.definitions.items() if definition.target}
        self.values = sum(name in targets for name in declared.continuous)
        self.sizes = [len(targets[name].categories) + 1 for name in declared.categorical if name in targets]
        self.out = nn.Linear(width, self.values + sum(self.sizes))

    def error(self, decoded: Tensor, jets: Jets, features: Features) -> Tensor:
        """Compute the error of each particle, `[particle]`; 0 for a particle that lacks all targets.

        Args:
            decoded: output of the decoder, `[particle, width]`.
            jets: these particles.
            features: features of the encoder.
        """
        values, codes = features.declared_targets(jets)
        prediction, *logits = self.out(decoded).float().split([self.values, *self.sizes], dim=1)
        there = values.isfinite()
        errors = [(prediction - values.where(there, prediction.detach())).abs()]
        for scores, code in zip(logits, codes.unbind(1), strict=True):
            errors.append(nn.functional.cross_entropy(scores, code, ignore_index=-1, reduction="none").unsqueeze(1))
        count = there.sum(1) + (codes >= 0).sum(1)
        return torch.cat(errors, dim=1).sum(1) / count.clamp(min=1)


def particle_errors(prediction: Tensor, logits: Tensor, jets: Jets, features: Features) -> tuple[Tensor, Tensor]:
    """Compute L1 on the features and cross-entropy on the signed kind of predicted particles, `[particle]` each.

    Features that a particle lacks do not count: the L1 is the mean over the others, the cross-entropy of no kind is 0.

    Args:
        prediction: standardized features, `[particle, TARGETS]`.
        logits: of the signed kind, `[particle, SIGNED_KINDS]`.
        jets: these particles.
        features: features of the encoder.
    """
    values, weights, kinds = features.targets(jets)
    error = ((prediction.float() - values).abs() * weights).sum(1) / weights.sum(1).clamp(min=1)
    return error, nn.functional.cross_entropy(logits.float(), kinds, ignore_index=-1, reduction="none")


def target_head(width: int, features: Features) -> FeatureHead | None:
    """Return a head for the features that are targets; None without any, so that the decoder stays as it was."""
    declared = features.declared
    if declared is None or not any(definition.target for definition in declared.definitions.values()):
        return None
    return FeatureHead(width, declared)


def target_loss(head: FeatureHead | None, decoded: Tensor, jets: Jets, features: Features) -> dict[str, Tensor]:
    """Return the error averaged over the particles of each jet, then over jets, as `target_loss`; none without a head.

    Args:
        head: result of `target_head`.
        decoded: output of the decoder, `[particle, width]`.
        jets: these particles.
        features: features of the encoder.
    """
    return {} if head is None else {"target_loss": jets.mean(head.error(decoded, jets, features)).mean()}


def learned_columns(trained: Collection[str]) -> tuple[str, ...]:
    """Return the canonical columns that a decoder learns from jets with these columns.

    Kinds and charges are learned together, and an impact parameter with its uncertainty.

    Example:
        >>> learned_columns(["pt", "deta", "dphi", "energy", "charge"])
        ('pt', 'deta', 'dphi', 'energy')
    """
    needs = {name: {name, *(("kind", "charge") if name in _FROM_KINDS else ())} for name in COLUMNS}
    needs["d0"].add("d0err")
    needs["dz"].add("dzerr")
    return tuple(name for name in COLUMNS if needs[name] <= set(trained))


def drawn_columns_only(jets: Jets) -> Jets:
    """Return jets without the columns that no decoder draws, such as features of a schema and charges without kinds.

    A generator that reads its own particles has to be trained with these alone: weights of further columns would be
    read without them while drawing.

    Example:
        >>> drawn_columns_only(Jets.of([[[9.0, 0.1, 0.0, -1.0]]], ("pt", "deta", "dphi", "charge"))).columns
        ('pt', 'deta', 'dphi')
    """
    return jets.without(set(jets.columns) - set(learned_columns(jets.columns)))


class CountHead(nn.Module):
    """Multiplicity distribution p(n | z), with a class for each n from 1 to `most`; larger n count as `most`."""

    def __init__(self, dim: int, most: int, hidden: int) -> None:
        super().__init__()
        self.most = most
        self.logits = ClassHead(dim, most, hidden)

    def error(self, z: Tensor, counts: Tensor) -> Tensor:
        """Compute -ln p(n | z) of each jet, `[jet]`, for int64 counts `[jet]`."""
        target = counts.clamp(1, self.most) - 1
        return nn.functional.cross_entropy(self.logits(z).float(), target, reduction="none")

    def quantile(self, z: Tensor, share: Tensor) -> Tensor:
        """Return the quantile of p(n | z) at `share` `[jet]`, int64 `[jet]`.

        A share of 0.5 gives the median, a uniform random number a draw.
        """
        cumulative: Tensor = self.logits(z).float().softmax(1).cumsum(1)
        return (cumulative < share.float().unsqueeze(1)).sum(1).clamp(max=self.most - 1) + 1
