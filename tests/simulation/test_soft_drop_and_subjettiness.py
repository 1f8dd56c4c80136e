"""Soft drop and N-subjettiness of one jet against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_jets.simulation.clustering import RADIUS, find_jets
from ssl_jets.simulation.detector import Candidates

Node = tuple[np.ndarray, tuple["Node", "Node"] | None]
"""Momentum px, py, pz, E, and the two nodes it was merged from."""


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance in rapidity and azimuth."""
    rapidity = [np.arctanh(p[2] / p[3]) for p in (a, b)]
    turn = abs(np.arctan2(a[1], a[0]) - np.arctan2(b[1], b[0]))
    return float(np.hypot(rapidity[0] - rapidity[1], min(turn, 2 * np.pi - turn)))


def pt_of(node: Node) -> float:
    return float(np.hypot(*node[0][:2]))


def soft_drop_mass(particles: np.ndarray) -> float:
    """Mass by arXiv:1402.2657 with beta = 0: recluster by Cambridge/Aachen, drop softer branches of z <= 0.1."""
    nodes: list[Node] = [(particle, None) for particle in particles]
    while len(nodes) > 1:
        pairs = [(distance(nodes[i][0], nodes[j][0]), i, j) for i in range(len(nodes)) for j in range(i)]
        _, i, j = min(pairs)
        merged: Node = (nodes[i][0] + nodes[j][0], (nodes[i], nodes[j]))
        nodes = [node for k, node in enumerate(nodes) if k not in (i, j)] + [merged]
    node = nodes[0]
    while node[1] is not None:
        soft, hard = sorted(node[1], key=pt_of)
        if pt_of(soft) > 0.1 * (pt_of(soft) + pt_of(hard)):
            break
        node = hard
    p = node[0]
    return float(np.sqrt(max(p[3] ** 2 - p[0] ** 2 - p[1] ** 2 - p[2] ** 2, 0)))


def test_soft_drop_and_n_subjettiness_are_those_of_their_definitions() -> None:
    """Two prongs with a soft halo, across phi = pi; the third particle has 8 % of the momentum."""
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(3)
    pt = np.concatenate([[300.0, 280.0, 50.0], rng.exponential(3.0, 12) + 0.5])
    radius, angle = rng.uniform(0.4, 0.7, 12), rng.uniform(0, 2 * np.pi, 12)
    eta = np.concatenate([[0.9, 1.1, 1.6], 1 + radius * np.cos(angle)])
    phi = np.pi + np.concatenate([[-0.2, 0.2, 0.0], radius * np.sin(angle)])
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    zeros = np.zeros(len(pt))
    candidates = Candidates(zeros.astype(int), momentum, zeros, zeros, np.zeros((len(pt), 4)), zeros, zeros)
    jets = find_jets(candidates, 1)
    assert np.diff(jets.offsets).tolist() == [15]
    assert jets.soft_drop_mass[0] == pytest.approx(soft_drop_mass(momentum), rel=1e-6)
    whole = momentum.sum(axis=0)
    assert jets.soft_drop_mass[0] < 0.99 * np.sqrt(whole[3] ** 2 - (whole[:3] ** 2).sum())
    # With two axes near the prongs only the others count: sum of pt_i min_k dR(i, k) / (R0 sum of pt_i).
    to_prongs = [min(distance(particle, momentum[k]) for k in (0, 1)) for particle in momentum]
    assert jets.tau[0, 1] == pytest.approx((pt * to_prongs).sum() / (RADIUS * pt.sum()), rel=0.05)
    assert jets.tau[0, 0] > 2 * jets.tau[0, 1]
