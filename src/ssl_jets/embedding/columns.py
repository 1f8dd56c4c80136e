"""Names of the columns of a scores file."""

from __future__ import annotations


def column_of(target: str) -> str:
    """Return the column of a regressed target.

    Example:
        >>> column_of("jet_tau2/jet_tau1")
        'pred_jet_tau2_over_jet_tau1'
    """
    return "pred_" + target.replace("/", "_over_")


def quantile_of(column: str, level: float) -> str:
    """Return the column of a quantile.

    Example:
        >>> quantile_of("pred_jet_sdmass", 0.16), quantile_of("pred_jet_sdmass", 0.975)
        ('pred_jet_sdmass_q16', 'pred_jet_sdmass_q97p5')
    """
    return f"{column}_q{100 * level:g}".replace(".", "p")
