"""The application, and what an error of a command becomes: one message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from ssl_jets import __version__
from ssl_jets.allocator import explain_shortage
from ssl_jets.cli.evaluate import evaluate
from ssl_jets.cli.look import inspect, methods
from ssl_jets.cli.talk import rank
from ssl_jets.cli.train import finetune, pretrain
from ssl_jets.cli.write import embed, generate
from ssl_jets.errors import SslJetsError

app = typer.Typer(
    name="ssl-jets",
    help="Pretrain set transformers on particle jets, write their representation z to disk, finetune, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order of `--help`.
for _command in (pretrain, embed, finetune, evaluate, generate, methods, inspect):
    app.command()(_command)
_LESS = "fewer jets at a time: --batch-size, --set data.buffer=..., evaluate.fit_jets, evaluate.test_jets"
_debug = False  # what `--debug` says, for `_fail`


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug
    _debug = debug
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: run a command; an error of the user's is one message and an exit code."""
    from ssl_jets.signals import Interrupted

    try:
        with explain_shortage(_LESS):
            app(prog_name="ssl-jets")  # also where it was started as `python -m ssl_jets`
    except SslJetsError as error:
        _fail(error, f"error: {error}", error.exit_code)
    except Interrupted as stop:
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)  # as of a program that this signal ends
    except RuntimeError as error:
        from ssl_jets.ranks import Ranks, lost_another

        if not lost_another(error):
            raise
        _fail(error, f"error: {Ranks(rank()).others_failed()}", 1)
    except OSError as error:
        where = f"\n  where:   {error.filename}" if error.filename else ""
        _fail(error, f"error: {error.strerror or error}{where}", 1)


def _fail(error: Exception, message: str, code: int) -> None:
    if _debug:
        raise error
    print(message, file=sys.stderr)
    sys.exit(code)
