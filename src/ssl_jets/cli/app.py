"""The application; an error of a command becomes one message and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ssl_jets import __version__
from ssl_jets.cli.command import Command
from ssl_jets.cli.console import log
from ssl_jets.cli.convert import convert
from ssl_jets.cli.embed import embed
from ssl_jets.cli.evaluate import evaluate
from ssl_jets.cli.export import export
from ssl_jets.cli.finetune import finetune
from ssl_jets.cli.generate import generate
from ssl_jets.cli.inspect import inspect
from ssl_jets.cli.merge import merge
from ssl_jets.cli.methods import methods
from ssl_jets.cli.predict import predict
from ssl_jets.cli.pretrain import pretrain
from ssl_jets.cli.runs import runs
from ssl_jets.cli.share import share
from ssl_jets.cli.simulate import simulate
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime.allocator import explain_shortage
from ssl_jets.runtime.launcher import Launch, join, rank
from ssl_jets.runtime.terminal import ReaderEndedError, guarded_streams, write

app = typer.Typer(
    name="ssl-jets",
    help="Pretrain set transformers on particle jets, write their representation z to disk, finetune, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES: dict[Callable[..., None], str] = {
    pretrain: "ssl-jets pretrain --method mae --size tiny --steps 100 --out runs/mae",
    embed: "ssl-jets embed --model runs/mae --out z.root --keep jet_sdmass",
    finetune: "ssl-jets finetune --model runs/mae --mode full --labels 0.1 --steps 100 --out runs/tagger",
    predict: "ssl-jets predict --model runs/tagger --out scores.root --score 'D_Hbb = Hbb / (Hbb + QCD)'",
    merge: "ssl-jets merge part-*.parquet --out scores.root",
    evaluate: "ssl-jets evaluate runs/tagger",
    convert: "ssl-jets convert part ParT_full.pt --out models/part",
    export: "ssl-jets export --model runs/tagger --out tagger.onnx",
    generate: "ssl-jets generate --model runs/next_particle --jets 1000 --out generated.root",
    simulate: "ssl-jets simulate --process hbb --jets 10000 --out jets.root",
    methods: "ssl-jets methods mae",
    runs: "ssl-jets runs runs/ --sort=-probe --filter method=mae",
    inspect: "ssl-jets inspect 'jets/*.root' --plot columns.png",
    share: "ssl-jets share runs/tagger hf:owner/tagger",
}
"""An example of each command, in the order of `--help`."""
for _command, _example in EXAMPLES.items():
    app.command(cls=Command, epilog=f"Example: {_example}")(_command)
_SHARED = ("pretrain", "finetune", "embed", "predict")
"""Commands that share their work among the processes of a launch."""
_LESS = "fewer jets at a time: --batch-size, --set data.buffer=..., evaluate.fit_jets, evaluate.test_jets"
_debug = False  # set by `--debug`, read by `_fail`


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug
    _debug = debug
    if version:
        print(__version__)
        raise typer.Exit
    launch = join()
    if launch is not None and launch.world > 1 and context.invoked_subcommand not in _SHARED:
        raise _alone(str(context.invoked_subcommand), launch)


def _alone(command: str, launch: Launch) -> UsageError:
    """Return the error of a command that cannot share its work among processes."""
    return UsageError(
        f"{command} runs in one process",
        found=f"process {launch.rank} of {launch.world} in a launch by torchrun or srun",
        hint=f"without torchrun, or srun --ntasks=1; several processes share the work of {', '.join(_SHARED)}",
    )


def main() -> None:
    """Run the command line; an error of the user becomes one message and an exit code."""
    from ssl_jets.runtime.signals import Interrupted, Watch
    from ssl_jets.runtime.threads import wait_passively

    wait_passively()
    with guarded_streams():
        try:
            try:
                with explain_shortage(_LESS), Watch(at_once=True):  # commands that save something first have their own
                    app(prog_name="ssl-jets")  # also when started as `python -m ssl_jets`
            finally:
                sys.stdout.flush()
        except SslJetsError as error:
            _fail(error, f"error: {error.message}", error.exit_code)
        except Interrupted as stop:
            log(stop.message)
            sys.exit(128 + stop.signal)
        except KeyboardInterrupt:
            sys.exit(130)
        except ReaderEndedError:
            sys.exit(128 + signal.SIGPIPE)  # the exit code of a program that this signal kills
        except RuntimeError as error:
            from ssl_jets.runtime.process_group import Ranks, lost_another

            if not lost_another(error):
                raise
            _fail(error, f"error: {Ranks(rank()).others_failed()}", 1)
        except OSError as error:
            where = f"\n  where:   {error.filename}" if error.filename else ""
            _fail(error, f"error: {error.strerror or error}{where}", 1)


def _fail(error: Exception, message: str, code: int) -> None:
    if _debug:
        raise error
    write(message, sys.stderr)
    sys.exit(code)
