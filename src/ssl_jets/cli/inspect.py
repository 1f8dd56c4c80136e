"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force, Schema, Set, Where


def inspect(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SRC...", help="Files as for --data, or models.")
    ] = None,
    schema: Schema = None,
    where: Where = None,
    set_: Set = None,
    columns: Annotated[bool, typer.Option("--columns", help="Show all columns of all files.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    schema_from: Annotated[
        Path | None,
        typer.Option("--schema-from", metavar="FILE", help="Print a schema made from a YAML file of weaver or salt."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw histograms into a PNG.")] = None,
    force: Force = False,
) -> None:
    """Show the contents of files of jets, z and scores files, and models."""
    if schema_from is not None or not sources:
        _print_schema(schema_from, sources)
        return
    from json import dumps

    from ssl_jets.api.arguments import tree_of
    from ssl_jets.api.early import check_read
    from ssl_jets.config import FileSettings, resolve
    from ssl_jets.data.inspection import MOST_WHOLE, files_as_objects, files_as_text, inspect_files
    from ssl_jets.data.skipped import skipped_files
    from ssl_jets.errors import UsageError
    from ssl_jets.runtime.terminal import folded
    from ssl_jets.setting_tree import parse_set

    if plot is not None:
        _check_plot(plot, force=force)
    tree = tree_of(parse_set(set_ or []), schema, where)
    check_read(tree)
    settings = resolve(FileSettings, tree)
    outputs, jets, unopened = _outputs(sources, skip=settings.data.bad_files == "skip", json_=json_)
    if plot is not None and not jets:
        raise UsageError("no jets are named to draw", where="--plot", found=", ".join(sources))
    whole = None if columns or json_ else MOST_WHOLE
    inspected = inspect_files(jets, unopened, settings.data, whole=whole) if jets else []
    for line in skipped_files(unopened):
        log(line)
    if plot is not None:
        from ssl_jets.report.figures.columns import draw_columns

        some = draw_columns({str(one.file.source): one.seen for one in inspected}, plot, force=force)
        log(f"figure: {plot}" + (f", of {some}" if some else ""))
    if json_:
        print_result(dumps([*outputs, *files_as_objects(inspected, unopened)], indent=1))
        return
    texts = [*outputs, *([files_as_text(inspected, columns=columns)] if jets else [])]
    print_result(folded("\n\n".join(texts)))


def _outputs(sources: list[str], *, skip: bool, json_: bool) -> tuple[list[Any], list[str], dict[str, str]]:
    """Return the contents of models, and of z and scores files, the other sources, and skipped files with the reason.

    Raises:
        DataError: a z or scores file is damaged; with `skip`, if all sources are.
    """
    from ssl_jets.errors import DataError
    from ssl_jets.runtime.reading import read_json
    from ssl_jets.sharing.location import CONFIG, check_weights, locate, model_folder, names_model
    from ssl_jets.sharing.model_card import read_card
    from ssl_jets.zfile.description import described_zfile, zfile_as_text

    outputs: list[Any] = []
    jets, damaged = list[str](), dict[str, DataError]()
    for source in sources:
        if names_model(source):
            folder = model_folder(locate(source))
            check_weights(folder)
            outputs.append(read_json(folder / CONFIG, "the model cannot be read") if json_ else read_card(folder))
            continue
        try:
            facts = described_zfile(Path(source))
        except DataError as error:
            damaged[source] = error
            continue
        if facts is None:
            jets.append(source)
        else:
            outputs.append(facts if json_ else zfile_as_text(facts))
    if damaged and not (skip and (outputs or jets)):
        raise next(iter(damaged.values()))
    return outputs, jets, {name: error.what for name, error in damaged.items()}


def _check_plot(path: Path, *, force: bool) -> None:
    """Check that a figure may be written, before files are read."""
    from ssl_jets.runtime.atomic import check_output, check_suffix

    check_suffix(path, ".png", "columns are drawn as PNG", option="--plot")
    check_output(path, force=force, option="--plot")


def _print_schema(path: Path | None, sources: list[str] | None) -> None:
    """Print the schema of `--schema-from`; files and this option exclude each other, and one of them is needed."""
    from ssl_jets.data.schemas.starting.reader import starting_point
    from ssl_jets.errors import UsageError

    if path is None or sources:
        hint = "ssl-jets inspect FILE, or ssl-jets inspect --schema-from weaver.yaml"
        raise UsageError("inspect takes files, or --schema-from", found=" ".join(sources or ["neither"]), hint=hint)
    started = starting_point(path)
    for line in started.left_out:
        log(f"left out: {line}")
    print_result(started.text())
