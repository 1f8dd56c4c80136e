"""The verbs `embed`, `predict`, `merge` and `read_jets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssl_jets.api.arguments import Names, SettingTree, check_choice, given, model_of, names_of, tree_of
from ssl_jets.api.early import check_read, check_where
from ssl_jets.errors import check_count
from ssl_jets.runtime.atomic import check_output
from ssl_jets.runtime.console import log
from ssl_jets.runtime.launcher import rank
from ssl_jets.runtime.package_files import DEFAULT_MODEL

if TYPE_CHECKING:
    from ssl_jets.embedding.job import EmbedSettings, OutputSummary
    from ssl_jets.jets import Jets
    from ssl_jets.zfile import Merged


def embed(
    model: str | Path = DEFAULT_MODEL,
    *,
    out: str | Path,
    data: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    level: Literal["jet", "particle"] = "jet",
    keep: Names = (),
    part: str | None = None,
    per_file: bool = False,
    settings: SettingTree | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    force: bool = False,
) -> OutputSummary:
    """Write z of every jet, in input order, to a z file.

    Args:
        model: a run folder, its `model/` folder, or the name of a bundled model; by default `small-ssl`.
        out: the z file; its suffix names the format: .root, .parquet, .h5 or .npz.
        data: the jets; by default the bundled sample.
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        level: "jet" for a row per jet with z, "particle" for a row per particle with its token.
        keep: jet columns to copy from the input.
        part: "I/N" writes part I (from 1) of N, for an array job; `merge` joins the parts.
        per_file: write a file for each input; `out` then has `{name}` or `{index}` in its name.
        settings: further settings `data.*`, `out.*`, and `train.precision`.
        batch_size: jets of one forward pass; by default 512.
        resume: keep finished parts, and go on from the parts of a killed run.
        force: replace `out`.

    Returns:
        `paths` (`path` is the first), `jets`, `skipped` jets and their `reasons`, and `files_left_out`.

    Raises:
        SslJetsError: a setting, the model, an input file or the output is wrong.
        Interrupted: a signal came; no unfinished file is left.
    """
    check_choice("--level", level, ("jet", "particle"))
    tree = _checked(out, tree_of(settings, schema, where), new=not (per_file or resume or force))

    from ssl_jets.embedding.embed import embed as run_embed
    from ssl_jets.runtime.console import Bar

    resolved = _resolved(data, tree)
    options = _options(resolved, keep, part, per_file=per_file, batch_size=batch_size, resume=resume, force=force)
    with Bar("embed", None, "jets", shown=rank() == 0) as bar:
        return run_embed(model, _sources(resolved), out, level=level, report=bar.to_of, **options)


def predict(
    model: Names,
    *,
    out: str | Path,
    data: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    score: str | Sequence[str] = (),
    keep: Names = (),
    with_z: bool = False,
    temperature: str | float | None = None,
    level: Literal["jet", "particle"] = "jet",
    part: str | None = None,
    per_file: bool = False,
    settings: SettingTree | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    force: bool = False,
) -> OutputSummary:
    """Write class probabilities, regressed columns and discriminants of every jet, in input order, to a scores file.

    Args:
        model: a run folder, or its `model/` folder; of several the mean is written.
        out: the scores file; its suffix names the format: .root, .parquet, .h5 or .npz.
        data: the jets; by default the bundled sample.
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        score: discriminants `NAME = FORMULA` of classes and columns, such as "D_Hbb = Hbb / (Hbb + QCD)".
        keep: jet columns to copy from the input.
        with_z: write z, too.
        temperature: number that divides the logits; "fit" fits it on held-out labelled jets of each model.
        level: "jet" for a row per jet, "particle" for a row per particle with the predictions of particles.
        part: "I/N" writes part I (from 1) of N, for an array job; `merge` joins the parts.
        per_file: write a file for each input; `out` then has `{name}` or `{index}` in its name.
        settings: further settings `data.*`, `out.*`, and `train.precision`.
        batch_size: jets of one forward pass; by default 512.
        resume: keep finished parts, and go on from the parts of a killed run.
        force: replace `out`.

    Returns:
        `paths` (`path` is the first), `jets`, `skipped` jets and their `reasons`, and `files_left_out`.

    Raises:
        SslJetsError: a setting, a model without head, a formula, an input file or the output is wrong.
        Interrupted: a signal came; no unfinished file is left.
    """
    tree = _checked(out, tree_of(settings, schema, where), new=not (per_file or resume or force))

    from ssl_jets.api.temperatures import temperatures_of
    from ssl_jets.embedding.predictions import predict as run_predict
    from ssl_jets.runtime.console import Bar
    from ssl_jets.runtime.precision import SCORES_PRECISION

    check_choice("--level", level, ("jet", "particle"))
    resolved = _resolved(data, {"train": {"precision": SCORES_PRECISION}}, tree)
    models = [model_of(name) for name in names_of(model)]
    options = _options(resolved, keep, part, per_file=per_file, batch_size=batch_size, resume=resume, force=force)
    with Bar("predict", None, "jets", shown=rank() == 0) as bar:
        return run_predict(
            models,
            _sources(resolved),
            out,
            scores=names_of(score),
            with_z=with_z,
            temperatures=None if temperature is None else lambda: temperatures_of(temperature, models),
            level=level,
            report=bar.to_of,
            **options,
        )


def merge(parts: Names, *, out: str | Path, partial: bool = False, force: bool = False) -> Merged:
    """Join the parts of an array job, in order, into the file that one run would have written, or write an index.

    Args:
        parts: files of `embed` or `predict` with `part` or `per_file`, in any order.
        out: the output; its suffix names the format, which may be another than of the parts. `.json` writes an index,
            with which `read_z` and `read_scores` read the parts as one file.
        partial: accept missing parts.
        force: replace `out`.

    Returns:
        `path`, the numbers of `parts` and `rows`, and the numbers of `missing` parts.

    Raises:
        SslJetsError: parts of different models or inputs, a missing part, or the output is wrong.
    """
    from ssl_jets.zfile import merge_parts

    return merge_parts(names_of(parts), out, partial=partial, force=force)


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

    tree = tree_of(settings, schema, where)
    check_read(tree, "weights")
    resolved = resolve(FileSettings, tree, {"data": given(sources=names_of(data))})
    sources = resolved.data.named
    return read(sources, each=each, keep=names_of(keep), data=resolved.data, log=log)


def log_sample(sources: tuple[str, ...]) -> None:
    """Log that the bundled sample is used, if no files are named."""
    if not sources:
        log("no --data: the sample that comes with ssl-jets (10 classes of simulated jets)")


def _checked(out: str | Path, tree: dict[str, Any], *, new: bool) -> dict[str, Any]:
    """Check the selection and, if it must be new, the output, before any library is imported; return the settings."""
    if new:
        check_output(Path(out), force=False)
    check_where(tree)
    check_read(tree)
    return tree


def _resolved(data: Names, *layers: dict[str, Any]) -> EmbedSettings:
    """Check the settings of `embed` or `predict`, before anything is read; later layers win."""
    from ssl_jets.config import resolve
    from ssl_jets.embedding.job import EmbedSettings
    from ssl_jets.runtime.allocator import tune_memory

    tune_memory()
    return resolve(EmbedSettings, *layers, {"data": given(sources=names_of(data))})


def _sources(resolved: EmbedSettings) -> tuple[str, ...]:
    """Return the names of the input files, and log that the bundled sample is used if there are none."""
    sources = resolved.data.named
    log_sample(sources)
    return sources


def _options(
    resolved: EmbedSettings, keep: Names, part: str | None, *, batch_size: int | None, **flags: bool
) -> dict[str, Any]:
    """Return the fields of `OutputOptions`."""
    from ssl_jets.embedding.inputs import PartOf
    from ssl_jets.model import BATCH

    return {
        "keep": names_of(keep),
        "data": resolved.data,
        "batch_size": BATCH if batch_size is None else check_count(batch_size, "--batch-size"),
        "precision": resolved.train.precision,
        "part": None if part is None else PartOf.parse(part),
        "out_settings": resolved.out,
        "log": log,
        **flags,
    }
