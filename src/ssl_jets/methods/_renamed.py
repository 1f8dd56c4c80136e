"""Settings and weights under their names in run and model folders of earlier versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssl_jets.config import read_config

SETTINGS = {"ranks": "mask_tokens", "summary_weight": "observables_weight"}
WEIGHTS = {
    "names.": "mask_tokens.",
    "quantiser.": "quantizer.",
    "summary.": "observables.",
    "places.": "positions.",
    "decoder.trunk.": "decoder.transformer.",
}
"""By the beginnings of their names within the method."""


def rename_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored settings of a method under today's names."""
    return {SETTINGS.get(name, name): value for name, value in stored.items()}


def read_run_config(config: Path) -> dict[str, Any]:
    """Read `config.yaml` of a run, with the settings of its method under today's names."""
    stored = read_config(config)
    if isinstance(stored.get("method"), dict):
        stored["method"] = rename_settings(stored["method"])
    return stored


def rename_weights(method: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give the weights of `method` in `state` today's names, in place: a hook that runs before they are loaded."""
    for old, new in WEIGHTS.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)
