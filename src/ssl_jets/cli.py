"""The command line: parse, call one function of a lower floor, print.

stdout carries only results; progress and talk go to stderr. Nothing heavy is imported before a command runs, so that
`--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_jets import __version__
from ssl_jets.errors import SslJetsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="ssl-jets",
    help="Pretrain set transformers on particle jets, write their representation z to disk, finetune, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False


class Mode(StrEnum):
    """Modes of `finetune`."""

    probe = "probe"
    head = "head"
    last = "last"
    lora = "lora"
    full = "full"
    scratch = "scratch"
    distil = "distil"
    fit = "fit"


class Adapt(StrEnum):
    """What `finetune` does with unlabelled jets of another domain."""

    none = "none"
    dann = "dann"
    coral = "coral"
    mmd = "mmd"
    reweight = "reweight"


class Protocol(StrEnum):
    """Long evaluations, which train."""

    labels = "labels"
    anomaly = "anomaly"
    domain = "domain"


class Level(StrEnum):
    """What has a row in a z file."""

    jet = "jet"
    particle = "particle"


Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="File, folder, glob, @list.txt, - (names on stdin) or file.root:tree. Default: the bundled sample.",
    ),
]
Val = Annotated[
    list[str] | None, typer.Option("--val", metavar="SRC", help="Jets to validate on. Default: a part of --data.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.lr=1e-4.")
]
Schema = Annotated[
    str | None, typer.Option("--schema", metavar="FILE", help="YAML file (or name) of the format of the files.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the training jets.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Jets of one forward pass.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")]
Devices = Annotated[int | None, typer.Option("--devices", help="Devices of this machine to use.")]
Model = Annotated[Path, typer.Option("--model", metavar="RUN", help="A run folder, or its model/ folder.")]


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


@app.command()
def pretrain(
    method: Annotated[
        str | None, typer.Option("--method", help="How z is learned; `ssl-jets methods` lists them.")
    ] = None,
    data: Data = None,
    schema: Schema = None,
    val: Val = None,
    config: Config = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/METHOD.")] = None,
    resume: Resume = False,
    force: Force = False,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    size: Annotated[str | None, typer.Option("--size", help="Encoder: tiny, small, base or large.")] = None,
    seed: Seed = None,
    devices: Devices = None,
) -> None:
    """Pretrain an encoder; prints the run folder."""
    from ssl_jets.config import read_config
    from ssl_jets.pretrain import pretrain as run_pretrain
    from ssl_jets.pretrain import resolve_pretrain
    from ssl_jets.report import write_run_report

    file = read_config(config) if config is not None else {}
    flags = _flags(data, val, steps, epochs, batch_size, seed, devices) | ({"model": {"size": size}} if size else {})
    stored = _stored(out, resume)
    given = file.get("method")
    in_file = given.get("name") if isinstance(given, dict) else given
    name = method or in_file or (stored and read_config(stored)["method"]["name"])
    if not name:
        raise UsageError("no method is given", where="--method", hint="ssl-jets pretrain --method mae")
    settings = resolve_pretrain(str(name), file, _set(set_, schema), flags, stored=stored)
    folder = run_pretrain(settings, _run_folder(out, settings.method.name), resume=resume, force=force)
    _on_rank_0(lambda: write_run_report(folder))
    _print(folder)


@app.command()
def embed(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="z file: .root, .parquet, .h5 or .npz.")],
    data: Data = None,
    schema: Schema = None,
    level: Annotated[Level, typer.Option("--level", help="One row per jet, or one per particle.")] = Level.jet,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="COLUMN", help="Jet column to copy from the input.")
    ] = None,
    set_: Set = None,
    batch_size: BatchSize = None,
    force: Force = False,
) -> None:
    """Write z of every jet, in input order; prints the file."""
    from ssl_jets.allocator import keep_memory
    from ssl_jets.config import MethodSettings, RunSettings, resolve
    from ssl_jets.embed import embed as run_embed
    from ssl_jets.progress import Bar

    keep_memory()
    settings = resolve(RunSettings[MethodSettings], {"method": {}}, _set(set_, schema))
    _say_sample(data)
    with Bar("embed", None, "jets", shown=_rank() == 0) as bar:
        summary = run_embed(
            model,
            data or [],
            out,
            level=level.value,
            keep=keep or [],
            data=settings.data,
            batch_size=batch_size or 512,
            precision=settings.train.precision,
            force=force,
            report=bar.to_of,
            say=_say,
        )
    reasons = ", ".join(f"{number} {reason}" for reason, number in summary.reasons.items())
    left_out = f", {summary.skipped} of them left out: {reasons}" if summary.skipped else ""
    rate = summary.jets / max(summary.seconds, 1e-9)
    _say(f"{summary.jets:,} jets in {summary.seconds:.1f} s ({rate:.0f} jets/s){left_out}")
    _print(summary.path)


@app.command()
def finetune(
    model: Model,
    data: Data = None,
    schema: Schema = None,
    val: Val = None,
    mode: Annotated[
        Mode | None, typer.Option("--mode", help="What learns; `fit` is the most that fits into the memory.")
    ] = None,
    labels: Annotated[
        float | None, typer.Option("--labels", help="Share (at most 1.0) or number of labelled jets.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="SRC", help="Unlabelled jets of the target domain.")
    ] = None,
    adapt: Annotated[
        Adapt | None, typer.Option("--adapt", help="What is done with them: see docs/domain-shift.md.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/finetune-MODE.")
    ] = None,
    resume: Resume = False,
    force: Force = False,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    size: Annotated[str | None, typer.Option("--size", help="Student of --mode distil.")] = None,
    seed: Seed = None,
    plan: Annotated[bool, typer.Option("--plan", help="Measure what each mode takes, and train nothing.")] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", help="What it may use, such as 16GB. Default: what is free.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Train heads, or heads and encoder, from a pretrained model; prints the run folder, or a plan."""
    from ssl_jets.config import read_config
    from ssl_jets.finetune import finetune as run_finetune
    from ssl_jets.finetune import make_plan, resolve_finetune
    from ssl_jets.report import write_run_report

    if (json_ and not plan) or (memory and not plan and mode != Mode.fit):
        hint = "--plan, or --memory with --mode fit"
        raise UsageError("this option is one of the plan", where="--json" if json_ else "--memory", hint=hint)
    file = read_config(config) if config is not None else {}
    options = {"mode": mode and mode.value, "labels": labels, "adapt": adapt and adapt.value, "memory": memory}
    chosen = {key: value for key, value in options.items() if value is not None}
    flags = _flags(data, val, steps, epochs, batch_size, seed, None) | {"method": chosen}
    flags |= {"model": {"size": size}} if size else {}
    if domain is not None:
        flags["data"]["unlabelled"] = domain
    settings = resolve_finetune(model, file, _set(set_, schema), flags, stored=_stored(out, resume))
    if plan:
        found = make_plan(settings, _say)
        _print(found.as_json() if json_ else found.table())
        return
    folder = _run_folder(out, f"finetune-{settings.method.mode}")
    run_finetune(settings, folder, resume=resume, force=force)
    _on_rank_0(lambda: write_run_report(folder))
    _print(folder)


@app.command()
def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders; several are compared on the same jets."),
    ] = None,
    model: Annotated[list[Path] | None, typer.Option("--model", metavar="RUN", help="The same as RUN.")] = None,
    z: Annotated[Path | None, typer.Option("--z", metavar="FILE", help="A z file, of this or any other tool.")] = None,
    generated: Annotated[
        list[str] | None, typer.Option("--generated", metavar="SRC", help="Generated jets, to compare with --data.")
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the mean of the runs' predictions, too.")
    ] = False,
    protocol: Annotated[
        Protocol | None, typer.Option("--protocol", help="Curves of many trainings; go on where they were stopped.")
    ] = None,
    data: Data = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="SRC", help="Of a domain protocol: the unlabelled data.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="SRC", help="Its labelled data, only to test on.")
    ] = None,
    schema: Schema = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: beside what is measured.")] = None,
    set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON instead of a table.")] = False,
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Measure models, z alone, or generated jets: numbers beside baselines, figures, a report."""
    from ssl_jets.cli_evaluate import Asked, answer

    if protocol is not None and protocol.value == "domain":
        models = [*(runs or []), *(model or [])]
        _domain_protocol(models, data, domain, target, out, _set(set_, schema), json_)
        return
    assignments = [*(set_ or []), *([] if seed is None else [f"evaluate.seed={seed}"])]
    asked = Asked(
        models=(*(runs or []), *(model or [])),
        z=z,
        generated=tuple(generated or ()),
        ensemble=ensemble,
        protocol=protocol and protocol.value,
        data=tuple(data or ()),
        out=out,
        settings=_set(assignments, schema),
        json=json_,
        force=force,
    )
    _print(answer(asked, _say))


def _domain_protocol(
    models: list[Path],
    data: list[str] | None,
    domain: list[str] | None,
    target: list[str] | None,
    out: Path | None,
    tree: dict[str, Any],
    json_: bool,
) -> None:
    from ssl_jets.config import resolve
    from ssl_jets.protocols import DomainRun, domain_protocol, domain_table
    from ssl_jets.report import write_domain_report

    files = {"data": {"sources": data or [], "unlabelled": domain or []}, "protocol": {"target": target or []}}
    folder = out or Path("runs/domain")
    found = domain_protocol(resolve(DomainRun, tree, files), folder, models=models, say=_say)
    _say(f"report: {write_domain_report(folder)}")
    _print((folder / "domain.json").read_text(encoding="utf-8").rstrip() if json_ else domain_table(found))


@app.command()
def generate(
    model: Model,
    jets: Annotated[int, typer.Option("--jets", metavar="N", help="How many.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="ROOT file in the JetClass layout.")],
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Write new jets of a model that can generate; prints the file."""
    from ssl_jets.allocator import keep_memory
    from ssl_jets.generate import generate as run_generate
    from ssl_jets.progress import Bar

    keep_memory()
    with Bar("generate", jets, "jets") as bar:
        summary = run_generate(model, jets, out, seed=seed or 0, force=force, report=bar.to_of)
    again = "".join(f"; {count:,} drawn again: {reason}" for reason, count in summary.redrawn.items())
    _say(f"{summary.jets:,} jets in {summary.seconds:.1f} s{again}")
    _print(summary.path)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show the formula and the settings of one.")] = None,
) -> None:
    """List the pretraining methods, or describe one."""
    from ssl_jets.describe import describe_method, list_methods

    _print(list_methods() if name is None else describe_method(name))


@app.command()
def inspect(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="As for --data.")],
    schema: Schema = None,
    set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw histograms into a PNG.")] = None,
    force: Force = False,
) -> None:
    """Say what files hold: format, classes, columns with their ranges, what is missing and what looks wrong."""
    from ssl_jets.config import MethodSettings, RunSettings, resolve
    from ssl_jets.describe import files_as_json, files_as_text, look_at

    settings = resolve(RunSettings[MethodSettings], {"method": {}}, _set(set_, schema))
    looked = look_at(sources, settings.data)
    if plot is not None:
        from ssl_jets.report.columns import draw_columns

        draw_columns({one.file.name: one.seen for one in looked}, plot, force=force)
        _say(f"figure: {plot}")
    _print(files_as_json(looked) if json_ else files_as_text(looked))


def main() -> None:
    """Entry point: run a command; an error of the user's is one message and an exit code."""
    from ssl_jets.signals import Interrupted

    try:
        app()
    except SslJetsError as error:
        _fail(error, f"error: {error}", error.exit_code)
    except Interrupted as stop:
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"\n  where:   {error.filename}" if error.filename else ""
        _fail(error, f"error: {error.strerror or error}{where}", 1)


def _fail(error: Exception, message: str, code: int) -> None:
    if _debug:
        raise error
    print(message, file=sys.stderr)
    sys.exit(code)


def _flags(
    data: list[str] | None,
    val: list[str] | None,
    steps: int | None,
    epochs: float | None,
    batch_size: int | None,
    seed: int | None,
    devices: int | None,
) -> dict[str, Any]:
    """The settings that options name, without those that were not given."""
    train = {"steps": steps, "epochs": epochs, "batch_size": batch_size, "seed": seed, "devices": devices}
    files = {"sources": data, "validation": val}
    return {
        "data": {key: value for key, value in files.items() if value is not None},
        "train": {key: value for key, value in train.items() if value is not None},
    }


def _set(assignments: list[str] | None, schema: str | None) -> dict[str, Any]:
    """The settings of `--set`, and the format of `--schema`."""
    from ssl_jets.config import parse_set

    return parse_set([*(assignments or []), *([f"data.format={json.dumps(schema)}"] if schema else [])])


def _stored(out: Path | None, resume: bool) -> Path | None:
    """The settings file of the run to go on with; None where there is no such run yet."""
    if not resume:
        return None
    if out is None:
        raise UsageError("--resume needs the run to go on with", where="--out", hint="--out RUN --resume")
    return out / "config.yaml" if (out / "config.yaml").is_file() else None


def _run_folder(out: Path | None, name: str) -> Path:
    from ssl_jets.run import free_folder

    return out if out is not None else free_folder(Path("runs"), name)


def _rank() -> int:
    """Number of this process: by torchrun, SLURM, or Fabric (which sets LOCAL_RANK in the processes it starts)."""
    return int(next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), 0))


def _on_rank_0(action: Callable[[], object]) -> None:
    if _rank() == 0:
        action()


def _print(result: object) -> None:
    _on_rank_0(lambda: print(result, flush=True))


def _say(message: str) -> None:
    _on_rank_0(lambda: print(message, file=sys.stderr, flush=True))


def _say_sample(data: list[str] | None) -> None:
    if not data:
        _say("no --data: the sample that comes with ssl-jets (10 classes of simulated jets)")
