"""The verbs `embed` and `read_jets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ssl_jets.api.arguments import Names, SettingTree, check_choice, given, log, names_of, tree_of
from ssl_jets.runtime.launcher import rank

if TYPE_CHECKING:
    from ssl_jets.embedding.embed import EmbedSummary
    from ssl_jets.jets import Jets


def embed(
    model: str | Path,
    *,
    out: str | Path,
    data: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    level: Literal["jet", "particle"] = "jet",
    keep: Names = (),
    settings: SettingTree | None = None,
    batch_size: int | None = None,
    force: bool = False,
) -> EmbedSummary:
    """Write z of every jet, in input order, to a z file.

    Args:
        model: a run folder, or its `model/` folder.
        out: the z file; its suffix names the format: .root, .parquet, .h5 or .npz.
        data: the jets; by default the bundled sample.
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        level: "jet" for a row per jet with z, "particle" for a row per particle with its token.
        keep: jet columns to copy from the input.
        settings: further settings `data.*`, and `train.precision`.
        batch_size: jets of one forward pass; by default 512.
        force: replace `out`.

    Returns:
        The path, the number of jets, and the skipped jets by reason.

    Raises:
        SslJetsError: a setting, the model, an input file or the output is wrong.
        Interrupted: a signal came; no unfinished file is left.
    """
    from ssl_jets.config import resolve
    from ssl_jets.embedding.embed import EmbedSettings
    from ssl_jets.embedding.embed import embed as run_embed
    from ssl_jets.model import BATCH
    from ssl_jets.runtime.allocator import tune_memory
    from ssl_jets.runtime.console import Bar

    check_choice("--level", level, ("jet", "particle"))
    tune_memory()
    resolved = resolve(EmbedSettings, tree_of(settings, schema, where), {"data": given(sources=names_of(data))})
    sources = resolved.data.sources or tuple(resolved.data.proportions)
    log_sample(sources)
    with Bar("embed", None, "jets", shown=rank() == 0) as bar:
        return run_embed(
            model,
            sources,
            out,
            level=level,
            keep=names_of(keep),
            data=resolved.data,
            batch_size=batch_size or BATCH,
            precision=resolved.train.precision,
            force=force,
            report=bar.to_of,
            log=log,
        )


def read_jets(
    data: Names = (),
    *,
    each: int | None = None,
    schema: str | Path | None = None,
    where: str | None = None,
    keep: Names = (),
    settings: SettingTree | None = None,
) -> Jets:
    """Read jets of files into memory, in input order; about 1.7 kB each.

    Args:
        data: the jets; by default the bundled sample.
        each: most entries of each file, from its beginning; by default all.
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        keep: jet columns to read, into `Jets.jet`.
        settings: further settings `data.*`.

    Returns:
        The jets, with their labels.

    Raises:
        SslJetsError: a column that a file lacks, an unreadable file, or no usable jet.
    """
    from ssl_jets.config import FileSettings, resolve
    from ssl_jets.data.read import read_jets as read

    resolved = resolve(FileSettings, tree_of(settings, schema, where), {"data": given(sources=names_of(data))})
    sources = resolved.data.sources or tuple(resolved.data.proportions)
    return read(sources, each=each, keep=names_of(keep), data=resolved.data, log=log)


def log_sample(sources: tuple[str, ...]) -> None:
    """Log that the bundled sample is used, if no files are named."""
    if not sources:
        log("no --data: the sample that comes with ssl-jets (10 classes of simulated jets)")
