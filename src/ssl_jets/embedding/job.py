"""Files of jets in, columns of each jet out: the work that `embed` and `predict` share."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssl_jets.config import FileSettings, Settings
from ssl_jets.data.files import count
from ssl_jets.data.inputs import joint_requests
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Seen, joint_training
from ssl_jets.data.shared import shared_labels
from ssl_jets.embedding.encoding import Progress, log_far_from_training
from ssl_jets.embedding.inputs import Inputs, open_inputs
from ssl_jets.embedding.options import OutputOptions, OutSettings
from ssl_jets.embedding.outputs import Output
from ssl_jets.embedding.rows import check_kept, kept_columns
from ssl_jets.embedding.targets import per_file_paths
from ssl_jets.embedding.writing import Work, write_file
from ssl_jets.errors import UsageError
from ssl_jets.runtime.allocator import explain_shortage
from ssl_jets.runtime.atomic import check_output
from ssl_jets.runtime.overwriting import check_apart
from ssl_jets.runtime.precision import PrecisionSetting, resolve_precision
from ssl_jets.runtime.process_group import launched
from ssl_jets.runtime.signals import Watch
from ssl_jets.zfile import Column, ZMetadata, key_columns
from ssl_jets.zfile.formats import check_names, format_of


class ComputingSettings(Settings):
    """Settings of `train.*` for commands that do not train."""

    precision: PrecisionSetting = "auto"
    """As in `TrainSettings`."""


class EmbedSettings(FileSettings):
    """All settings of `embed` and `predict`."""

    train: ComputingSettings = ComputingSettings()
    out: OutSettings = OutSettings()


@dataclass(frozen=True)
class OutputSummary:
    """The outcome of `embed` or `predict`.

    Attributes:
        paths: the files; one, or one for each input.
        jets: jets of the input, over all processes.
        skipped: jets among them that could not be used.
        seconds: wall time.
        reasons: `skipped` by reason.
        files_left_out: files that could not be opened, with the reason.
    """

    paths: tuple[Path, ...]
    jets: int
    skipped: int
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)
    files_left_out: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file, or the first of several."""
        return self.paths[0]


def check_options(out: Path, options: OutputOptions) -> None:
    """Check the output before anything is loaded.

    Raises:
        UsageError: an unknown suffix, or an output that exists.
    """
    format_of(out, rntuple=options.out_settings.rntuple)
    if not options.per_file:
        check_output(out, force=options.force or (options.resume and not out.is_dir()))


def write_output(output: Output, sources: Sequence[str], out: Path, options: OutputOptions) -> OutputSummary:
    """Encode every jet of `sources`, in input order, and write the columns of `output`.

    Raises:
        UsageError: an unknown suffix, an existing output, a column that an input does not have.
        SslJetsError: an input or the output fails.
        Interrupted: a signal came. In no case is a half-written output left behind.
    """
    began = time.monotonic()
    inputs, request, columns, metadata = _open(output, sources, out, options)
    targets = _targets(inputs, out, options)
    skipped: Counter[str] = Counter()
    with Watch() as watch, launched() as ranks:
        device = options.device if options.device is not None else ranks.device()
        precision = resolve_precision(options.precision, device)
        work = Work(output, request, columns, options, device, precision, watch, options.report)
        with explain_shortage(f"--batch-size {max(1, options.batch_size // 2)}"):
            done, total = 0, count(inputs.ranges)
            for path, own in targets.items():
                part = replace(work, report=_after(done, total, options.report)) if options.per_file else work
                skipped += write_file(part, own, path, own.describe(metadata, columns), ranks)
                done += count(own.ranges)
        for name, number in work.unlisted.items():
            options.log(f"feature {name}: {number:,} values of a category that the model does not list")
    return OutputSummary(
        paths=tuple(targets),
        jets=total,
        skipped=skipped.total(),
        seconds=time.monotonic() - began,
        reasons={reason: skipped[reason] for reason in sorted(skipped)},
        files_left_out=inputs.left_out,
    )


def _open(
    output: Output, sources: Sequence[str], out: Path, options: OutputOptions
) -> tuple[Inputs, Request, tuple[Column, ...], ZMetadata]:
    """Open the inputs, and return them with the columns to read and to write, and the metadata without input files."""
    models = output.models
    seen = Seen.of(joint_training([model.training for model in models]))
    inputs = open_inputs(
        sources,
        options.data,
        options.part,
        seen,
        per_file=options.per_file,
        batch=options.batch_size,
        log=options.log,
    )
    read = tuple(dict.fromkeys((*options.keep, *output.jet_columns)))
    to_encode = output.prepare(inputs.files, options.log) if inputs.files else ()
    context = tuple(dict.fromkeys(name for model in models for name in model.context))
    collections = joint_requests(model.collections for model in models)
    request = Request.of(options.data, read, to_encode, context=context, collections=collections)
    request = replace(request, particle_labels=output.particle_labels)
    log_far_from_training(models, inputs.files, options.data.where, options.log)
    keep = tuple(dict.fromkeys(options.keep))
    check_kept(inputs.files, request, keep, output)
    labels = shared_labels(inputs.files)
    key = key_columns(output.level, labelled=bool(labels))
    columns = (*output.columns, *key, *kept_columns(inputs.files, keep, request))
    check_names(out, [column.name for column in columns], rntuple=options.out_settings.rntuple)
    encoder = models[0].encoder
    metadata = ZMetadata(
        model_sha256=models[0].sha256 if len(models) == 1 else "",
        method=" + ".join(dict.fromkeys(model.method for model in models)),
        dim=encoder.dim if output.level == "jet" else encoder.width,
        level=output.level,
        files=(),
        label_names=labels,
        kept=keep,
        scores=output.metadata,
        where=options.data.where,
    )
    return inputs, request, columns, metadata


def _after(before: int, total: int, report: Progress | None) -> Progress | None:
    """Return the report of the progress of one of several files."""
    return None if report is None else lambda done, _: report(before + done, total)


def _targets(inputs: Inputs, out: Path, options: OutputOptions) -> dict[Path, Inputs]:
    """Return the output files with the inputs of each."""
    sources = [source.path for source in inputs.sources]
    if not options.per_file:
        check_apart([out], sources)
        return {out: inputs}
    if options.part is not None and options.part.of > len(inputs.sources):
        found = f"{options.part.of} parts of {len(inputs.sources)} files"
        raise UsageError("a part has no file of its own", where="--part with --per-file", found=found)
    paths = per_file_paths(out, sources)
    check_apart(paths, sources)
    targets = {paths[own.first]: own for own in inputs.each()}
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_output(path, force=options.force or options.resume)
    return targets
