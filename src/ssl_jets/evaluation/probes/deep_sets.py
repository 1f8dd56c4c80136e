"""Deep Sets network, trained from scratch on labelled jets: the baseline that reads particles without pretraining.

    p(class | jet) = softmax F(mean_i phi(x_i), sum_i w_i phi(x_i), ln n),      w_i = pt_i / sum pt

with small networks phi and F, and the features x_i of the n particles of a jet (Zaheer et al., arXiv:1703.06114; of
jets Komiske et al., arXiv:1810.05165). A tenth of the jets is held out to stop early; the best weights are kept. The
number of optimizer steps is bounded. It runs on the CPU, so that its result does not depend on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from ssl_jets.arrays import Array
from ssl_jets.evaluation.probes.classes import Labelled, scored
from ssl_jets.evaluation.probes.results import DEEP_SETS, PARTICLES, ProbeResult
from ssl_jets.jets import Jets
from ssl_jets.nn.features import Features

WIDTH = 64
"""Width of the hidden layers."""

MAX_STEPS, MAX_EPOCHS = 1000, 40
"""Most optimizer steps, and most passes over the jets."""

BATCH = (16, 128)
"""Fewest and most jets of an optimizer step."""

VALIDATE_EVERY, PATIENCE = 100, 8
"""Most steps between two validations, and validations without an improvement after which the training stops."""

HELD_OUT = 0.1
"""Fraction of the jets that is held out for the validations."""

LEARNING_RATE, WEIGHT_DECAY = 6e-3, 1e-2

PREDICT_JETS = 1000
"""Jets of one forward pass without gradients."""


class DeepSets(nn.Module):
    """Deep Sets classifier of jets."""

    def __init__(self, features: Features, classes: int) -> None:
        super().__init__()
        self.features = features
        hidden = (nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.phi = nn.Sequential(nn.Linear(features.width, WIDTH), nn.ReLU(), *hidden, nn.Linear(WIDTH, WIDTH))
        self.classify = nn.Sequential(
            nn.Linear(2 * WIDTH + 1, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, classes)
        )

    def forward(self, jets: Jets) -> Tensor:
        """Return the logits, `[jet, class]`."""
        values, pt = self.phi(self.features(jets)[0]), jets.column("pt")  # [particle, WIDTH], [particle]
        weights = (pt / jets.sum(pt)[jets.jet_of_particle]).unsqueeze(1)
        pooled = (jets.mean(values), jets.sum(weights * values), jets.lengths.float().log().unsqueeze(1))
        logits: Tensor = self.classify(torch.cat(pooled, dim=1))
        return logits


def deep_sets_probe(jets: tuple[Jets, Jets], fit: Labelled, test: Labelled, *, seed: int = 0) -> ProbeResult:
    """Train Deep Sets from scratch and score it."""
    classes = int(max(fit.y.max(), test.y.max())) + 1
    probabilities = trained_deep_sets(jets[0], fit, classes, seed)(jets[1])
    shape = (len(jets[0]), Features().width)
    return scored(DEEP_SETS, PARTICLES, shape, test, probabilities, seed)


def trained_deep_sets(jets: Jets, fit: Labelled, classes: int, seed: int) -> Callable[[Jets], Array]:
    """Train Deep Sets: from jets to probabilities `[jet, class]`; labels and weights are of `fit`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _train(jets, torch.from_numpy(fit.y), torch.from_numpy(fit.weights).float(), classes)

    @torch.no_grad()
    def predict(tested: Jets) -> Array:
        rows = torch.arange(len(tested)).split(PREDICT_JETS)
        logits = torch.cat([network(tested.select(some)) for some in rows])
        probabilities: Array = logits.double().softmax(dim=1).numpy()
        return probabilities

    return predict


def _train(jets: Jets, labels: Tensor, weights: Tensor, classes: int) -> DeepSets:
    """Train until the held-out loss stops falling, and return the network with its best weights."""
    held, rows = torch.randperm(len(jets)).tensor_split([max(1, int(HELD_OUT * len(jets)))])
    features = Features()
    features.fit_statistics([jets.select(rows)])
    network = DeepSets(features, classes)
    batch = int(np.clip(len(rows) // 32, *BATCH))  # 900 jets: 28, 9,000 jets: 128
    epoch = -(-len(rows) // batch)
    steps = min(MAX_STEPS, MAX_EPOCHS * epoch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)

    def loss_of(some: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(network(jets.select(some)), labels[some], reduction="none")
        return (weights[some] * losses).mean()

    order, best, since = rows[:0], (float("inf"), network.state_dict()), 0
    for step in range(1, steps + 1):
        if not len(order):
            order = rows[torch.randperm(len(rows))]
        some, order = order[:batch], order[batch:]
        loss: Tensor = loss_of(some)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % min(VALIDATE_EVERY, epoch) and step < steps:
            continue
        network.eval()
        with torch.no_grad():
            held_loss = loss_of(held).item()
        network.train()
        since = since + 1
        if held_loss < best[0]:
            best, since = (held_loss, deepcopy(network.state_dict())), 0
        if since == PATIENCE:
            break
    network.load_state_dict(best[1])
    return network.eval()
