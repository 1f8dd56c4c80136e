"""The command `share`."""

from __future__ import annotations

from typing import Annotated

import typer

from ssl_jets.cli.console import log, print_result


def share(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its model/ folder.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="hf:OWNER/NAME on the Hugging Face Hub.")],
    upload: Annotated[bool, typer.Option("--upload", help="Send the files; otherwise they are only listed.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
) -> None:
    """Upload a model with its card to the Hugging Face Hub; a dry run by default. Prints the files, or the address."""
    from ssl_jets import api

    shared = api.share(run, target, upload=upload, private=private)
    if shared.url is not None:
        print_result(shared.url)
        return
    for name, size in shared.files.items():
        print_result(f"{size:>12,}  {name}")
    log(f"nothing was sent; --upload sends these {len(shared.files)} files to {target}")
