"""Names of the columns of a scores file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def column_of(target: str) -> str:
    """Return the column of a regressed target.

    Example:
        >>> column_of("jet_tau2/jet_tau1")
        'pred_jet_tau2_over_jet_tau1'
    """
    return "pred_" + target.replace("/", "_over_")


def regressed_columns(targets: Iterable[str], levels: Sequence[float]) -> list[str]:
    """Return the columns of regressed targets, each followed by its quantiles.

    Example:
        >>> regressed_columns(["jet_pt", "Jet.Mass"], [0.975])
        ['pred_jet_pt', 'pred_jet_pt_q97p5', 'pred_Jet.Mass', 'pred_Jet.Mass_q97p5']
    """
    quantiles = [f"_q{100 * level:g}".replace(".", "p") for level in levels]
    return [column_of(target) + quantile for target in targets for quantile in ("", *quantiles)]
