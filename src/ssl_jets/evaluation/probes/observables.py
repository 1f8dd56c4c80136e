"""Observables of jets by name: mass, pt, multiplicity, N-subjettiness. Baselines read those of `nn.observables`.

N-subjettiness (Thaler, Van Tilburg, arXiv:1011.2268) with beta = 1 about N axes,

    tau_N = sum_i pt_i min_k dR(i, axis k) / (R0 sum_i pt_i),

the axes from exclusive kT clustering with winner-take-all recombination: of all pairs, the one with the smallest
min(pt_i, pt_j) dR(i, j) is merged until N are left, and the merged one keeps the direction of the harder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.jets import KINDS, Jets
from ssl_jets.nn.features import Features
from ssl_jets.nn.observables import jet_observables

R0 = 0.8
"""Radius that N-subjettiness is divided by, as in JetClass."""

AXES = (1, 2, 3)
"""N of the tau_N that are computed."""

_PAIRS = 200_000
"""Pairs of particles held at one time: fastest if they fit into the cache of a core."""

BATCH = 2000
"""Jets whose inputs of baselines are computed at one time."""


def observable_inputs(fit: Jets, test: Jets) -> tuple[Array, Array]:
    """Compute the inputs of baselines of both sets of jets, float64 `[jet, OBSERVABLES]` each.

    Features of particles are standardized with the statistics of `fit`, as an encoder does with the statistics
    of its training. Without track columns or kinds, the observables of these are constant.
    """
    features = Features()
    features.fit_statistics([fit])
    return _inputs(fit, features), _inputs(test, features)


def _inputs(jets: Jets, features: Features) -> Array:
    parts = [jets.select(rows) for rows in torch.arange(len(jets)).split(BATCH)]
    observed: Array = torch.cat([jet_observables(part, features) for part in parts]).double().numpy()
    return observed


def observables(jets: Jets) -> dict[str, Array]:
    """Compute observables by name, float64 `[jet]` each, in GeV if they have a unit.

    `mass` and `pt` of the sum of the particles, with the masses assumed of each kind; `particles`; `tau1` to `tau3`
    and their ratios `tau21` and `tau32`, NaN for a jet with too few particles; the number of particles of each kind,
    where kinds are known.
    """
    jet_of = jets.jet_of_particle.numpy()
    pt, deta, dphi = (jets.column(name).numpy().astype(np.float64) for name in ("pt", "deta", "dphi"))
    # In the frame where the jet's axis is at eta = 0, to which a boost along the beam leads: pt and mass are the same.
    energy = np.sqrt((pt * np.cosh(deta)) ** 2 + jets.masses().numpy().astype(np.float64) ** 2)
    px, py, pz, total = (
        np.bincount(jet_of, values, len(jets))
        for values in (pt * np.cos(dphi), pt * np.sin(dphi), pt * np.sinh(deta), energy)
    )
    values_by_name = {
        "mass": np.sqrt(np.maximum(total**2 - px**2 - py**2 - pz**2, 0)),
        "pt": np.hypot(px, py),
        "particles": jets.lengths.numpy().astype(np.float64),
    }
    taus = subjettiness(jets, AXES)
    values_by_name |= {f"tau{n}": values for n, values in taus.items()}
    for n in AXES[1:]:
        values_by_name[f"tau{n}{n - 1}"] = _ratio(taus[n], taus[n - 1])
    return values_by_name | kind_counts(jets)


def kind_counts(jets: Jets) -> dict[str, Array]:
    """Count the particles of each kind, float64 `[jet]` by the name of the kind; empty without kinds."""
    if "kind" not in jets.columns:
        return {}
    kinds, jet_of = jets.column("kind").numpy().astype(np.int64), jets.jet_of_particle.numpy()
    table = np.bincount(jet_of * len(KINDS) + kinds, minlength=len(jets) * len(KINDS)).reshape(len(jets), len(KINDS))
    return {name: table[:, index].astype(np.float64) for index, name in enumerate(KINDS)}


def subjettiness(jets: Jets, axes: tuple[int, ...] = AXES) -> Mapping[int, Array]:
    """Compute tau_N by N, float64 `[jet]` each; zero for a jet of at most N particles."""
    taus = {n: np.zeros(len(jets)) for n in axes}
    for rows, pt, deta, dphi, real in _padded_parts(jets):
        for n, values in _batch(pt, deta, dphi, real, axes).items():
            taus[n][rows] = values
    return taus


def _padded_parts(jets: Jets) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
    """Yield parts of jets of similar length, as many as fit: their indices; pt, deta, dphi, real `[jet, particle]`."""
    lengths = jets.lengths.numpy()
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] ** 2 <= _PAIRS:
            stop += 1
        rows = order[start:stop]
        padded, real = jets.select(torch.from_numpy(rows)).to_padded()
        pt, deta, dphi = (
            padded[:, :, jets.columns.index(name)].numpy().astype(np.float64) for name in ("pt", "deta", "dphi")
        )
        yield rows, pt, deta, dphi, real.numpy()
        start = stop


def _distances(deta: Array, dphi: Array) -> Array:
    """Return the distances of all pairs, `[jet, particle, particle]`, from `[jet, particle]`."""
    turn = np.abs(dphi[:, :, None] - dphi[:, None, :])
    distance: Array = np.hypot(deta[:, :, None] - deta[:, None, :], np.minimum(turn, 2 * np.pi - turn))
    return distance


def _batch(pt: Array, deta: Array, dphi: Array, real: Array, axes: tuple[int, ...]) -> dict[int, Array]:
    """Compute tau_N of padded jets, `[jet]` each; all arguments `[jet, particle]`.

    A winner keeps its direction, so distances never change: merging only ends the softer particle and adds its pt to
    the harder. The smallest distance of a pair belongs to some particle and its nearest (Cacciari, Salam,
    hep-ph/0512210), so only the nearest of each is kept, and renewed where it ended.
    """
    distance = _distances(deta, dphi)
    jet = np.arange(len(pt))
    reach = np.where(real[:, None, :], distance, np.inf)  # to those that are left, without itself
    reach[:, range(pt.shape[1]), range(pt.shape[1])] = np.inf
    momentum, left = np.where(real, pt, 1), real.copy()
    nearest = reach.argmin(axis=2)
    gap = np.where(real, np.take_along_axis(reach, nearest[:, :, None], axis=2)[:, :, 0], np.inf)
    taus = {n: np.zeros(len(pt)) for n in axes}
    remaining = real.sum(axis=1)
    while True:
        for n in axes:
            reached = np.flatnonzero((remaining == n) & (real.sum(axis=1) > n))
            if len(reached):
                to_axes = np.where(left[reached, None, :], distance[reached], np.inf).min(axis=2)
                weight = np.where(real[reached], pt[reached], 0)
                taus[n][reached] = (weight * to_axes).sum(axis=1) / (R0 * weight.sum(axis=1))
        if remaining.max() <= min(axes):
            return taus
        first = np.where(left, momentum * gap, np.inf).argmin(axis=1)
        second = nearest[jet, first]
        open_ = remaining > min(axes)
        winner = np.where(momentum[jet, first] > momentum[jet, second], first, second)
        loser = first + second - winner
        rows = jet[open_]
        momentum[rows, winner[open_]] += momentum[rows, loser[open_]]
        left[rows, loser[open_]] = False
        reach[rows, :, loser[open_]] = np.inf
        remaining = remaining - open_
        stale = left & (nearest == loser[:, None]) & open_[:, None]
        which, particle = np.nonzero(stale)
        nearest[which, particle] = reach[which, particle].argmin(axis=1)
        gap[which, particle] = reach[which, particle, nearest[which, particle]]


def _ratio(above: Array, below: Array) -> Array:
    ratio: Array = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return ratio
