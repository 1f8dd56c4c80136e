"""Mode `probe`: z is computed once, then only a head is trained on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_jets.nn.heads import ClassHead


def fit_head(
    z: Tensor,
    labels: Tensor,
    head: ClassHead,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Train `head` on z by cross-entropy with Adam and a cosine schedule.

    The head is trained on standardised z; the standardisation is then folded into its first layer, so that it reads z
    as the encoder gives it.

    Args:
        z: float `[jet, dim]`.
        labels: int64 `[jet]`.
        head: trained in place.
        steps: optimizer steps.
        batch_size: jets of a step.
        lr: peak learning rate.
        seed: of the batches.
        progress: called with the step and its loss.

    Returns:
        The loss of the last step.
    """
    mean, std = z.mean(0), z.std(0, correction=0).clamp(min=1e-6)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(z), generator=generator)
    loss = torch.zeros(())
    for step in range(steps):
        if len(order) < min(batch_size, len(z)):
            order = torch.cat([order, torch.randperm(len(z), generator=generator)])
        rows, order = order[:batch_size], order[batch_size:]
        loss = nn.functional.cross_entropy(head((z[rows] - mean) / std), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, float(loss.detach()))
    with torch.no_grad():
        first = head.layers[0]
        assert isinstance(first, nn.Linear)
        first.weight.copy_(first.weight / std)
        first.bias.copy_(first.bias - first.weight @ mean)
    return float(loss.detach())
