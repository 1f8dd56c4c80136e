"""The command `methods`."""

from __future__ import annotations

from typing import Annotated

import typer

from ssl_jets.cli.console import print_result


def methods(
    name: Annotated[str | None, typer.Argument(help="Show the formula and the settings of one.")] = None,
) -> None:
    """List the pretraining methods, or describe one."""
    from ssl_jets.methods._describe import describe_method, list_methods
    from ssl_jets.runtime.terminal import folded

    print_result(folded(list_methods()) if name is None else folded(describe_method(name), prose=True))
