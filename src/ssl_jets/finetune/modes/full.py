"""Mode `full`: encoder and heads are trained."""

from __future__ import annotations

from ssl_jets.finetune.modes._mode import Mode


class Full(Mode):
    """Everything learns."""
