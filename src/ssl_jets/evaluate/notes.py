"""What an evaluation says while it works, and keeps for its report."""

from __future__ import annotations

from ssl_jets.progress import Say


class Notes:
    """Says a message and keeps it."""

    def __init__(self, say: Say) -> None:
        self.say, self.said = say, list[str]()

    def __call__(self, message: str) -> None:
        self.said.append(message)
        self.say(message)
