"""The command line: parse, call one function of `ssl_jets.api`, print.

stdout carries only results; progress and messages go to stderr. Nothing heavy is imported before a command runs, so
that `--help` answers at once.
"""

from ssl_jets.cli.app import main

__all__ = ["main"]
