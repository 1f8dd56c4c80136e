"""The command line: parse, call one function of `ssl_jets.api`, print.

stdout carries only results; progress and messages go to stderr. Nothing heavy is imported before a command runs, so
that `--help` answers at once.
"""

import sys

from ssl_jets.runtime.signals import Interrupted, Watch

__all__ = ["main"]


def main() -> None:
    """Run the command line; a signal while it is imported is one line, as in a command."""
    try:
        with Watch(at_once=True):
            from ssl_jets.cli.app import main as run

            run()
    except Interrupted as stop:
        print(stop.message, file=sys.stderr)
        sys.exit(128 + stop.signal)
