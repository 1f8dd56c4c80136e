"""Files of jets in, a z file out: in one process, or in several whose shares are joined in input order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ssl_jets.config import DataSettings, FileSettings, Settings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, JetFile, count, whole
from ssl_jets.data.inputs import unlisted
from ssl_jets.data.loading.stream import Request, ordered
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.seen import Seen, check_same, copies_of, fingerprint
from ssl_jets.data.shared import shared_labels
from ssl_jets.data.skipped import file_names, require_jets, skipped_files
from ssl_jets.data.split import share
from ssl_jets.embedding.encoding import Progress, batches_of, columns_to_encode, with_finite_z
from ssl_jets.embedding.rows import RowJoiner, check_kept, kept_columns
from ssl_jets.errors import SslJetsError
from ssl_jets.model import BATCH, Model, encode
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import explain_shortage
from ssl_jets.runtime.atomic import WorkFolder, check_output, clear_left_behind, real
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.precision import Precision, PrecisionSetting, resolve_precision
from ssl_jets.runtime.process_group import Ranks, launched
from ssl_jets.runtime.signals import Interrupted, Watch
from ssl_jets.zfile import Column, Level, ZMetadata, ZWriter, iterate_z, z_columns
from ssl_jets.zfile.formats import check_names, format_of

_DATA = DataSettings()


class ComputingSettings(Settings):
    """Settings of `train.*` for commands that do not train."""

    precision: PrecisionSetting = "auto"
    """As in `TrainSettings`."""


class EmbedSettings(FileSettings):
    """All settings of `embed`."""

    train: ComputingSettings = ComputingSettings()


@dataclass(frozen=True)
class EmbedSummary:
    """The outcome of `embed`.

    Attributes:
        path: the z file.
        jets: jets of the input, over all processes.
        skipped: jets among them that could not be used.
        seconds: wall time.
        reasons: `skipped` by reason.
        files_left_out: files that could not be opened, with the reason.
    """

    path: Path
    jets: int
    skipped: int
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)
    files_left_out: dict[str, str] = field(default_factory=dict)


def embed(
    model_path: str | Path,
    sources: Sequence[str],
    out: str | Path,
    *,
    level: Level = "jet",
    keep: Sequence[str] = (),
    data: DataSettings = _DATA,
    batch_size: int = BATCH,
    precision: PrecisionSetting = "auto",
    device: torch.device | str | None = None,
    force: bool = False,
    report: Progress | None = None,
    log: Log = to_stderr,
) -> EmbedSummary:
    """Write z of every jet of `sources`, in input order, to one z file; or the tokens of every particle.

    At level "jet" the rows are the jets of the input, one for one. With `data.bad_jets` and `data.bad_files` "skip" a
    bad jet has z of NaN and the label -1 (unreadable kept columns: NaN, -1 or false); at level "particle" it has no
    rows. A file that cannot be opened has none at either level. Processes started by torchrun share the work and write
    one file, with the rows of one process.

    Args:
        model_path: a run folder or its `model/` folder.
        sources: files, folders, patterns, lists (`resolve_sources`); none for the bundled sample.
        out: the z file; its suffix names the format.
        level: "jet" or "particle".
        keep: jet columns to copy from the input.
        data: `workers`, `bad_jets`, `bad_files`, `format`, `labels` and `jets` are used.
        batch_size: jets of one forward pass.
        precision: number format of the forward pass.
        device: by default a GPU, or the CPU of a machine without one.
        force: overwrite `out`.
        report: called with the progress.
        log: called with each message about files and columns.

    Raises:
        UsageError: an unknown suffix, an existing output, a column that an input does not have.
        SslJetsError: the model, an input or the output fails.
        Interrupted: a signal came. In no case is a half-written output left behind.
    """
    began, out = time.monotonic(), Path(out)
    format_of(out)
    check_output(out, force=force)
    model = load_model(model_path)
    unopened: dict[str, str] = {}
    files = open_named(sources, data, unopened)
    seen = Seen.of(model.facts.get("training", {}))
    for line in (*skipped_files(unopened), *copies_of(files), *find_suspicions(files), *seen.notes(files)):
        log(line)
    inputs = columns_to_encode(model, files, log)
    request = Request.of(data, tuple(dict.fromkeys(keep)), inputs, context=model.context)
    check_kept(files, request)
    metadata = _metadata(model, files, request, level, unopened)
    own_columns = z_columns(level, metadata.dim, labelled=bool(metadata.label_names))
    columns = (*own_columns, *kept_columns(files, request.jet_columns))
    check_names(out, [column.name for column in columns])
    with Watch() as watch, launched() as ranks:
        device = device if device is not None else ranks.device()
        job = _EmbedJob(
            encoder=model.encoder,
            files=files,
            request=request,
            columns=columns,
            level=level,
            device=device,
            batch=batch_size,
            precision=resolve_precision(precision, device),
            workers=data.workers,
            report=report,
            watch=watch,
        )
        run = _run if ranks.world == 1 else _run_ranks
        with explain_shortage(f"--batch-size {max(1, batch_size // 2)}"):
            skipped = run(job, ranks, out, metadata, force)
        for name, number in job.unlisted.items():
            log(f"feature {name}: {number:,} values of a category that the model does not list")
    return EmbedSummary(
        path=out,
        jets=count(whole(files)),
        skipped=skipped.total(),
        seconds=time.monotonic() - began,
        reasons=_by_reason(skipped),
        files_left_out=unopened,
    )


def _metadata(
    model: Model, files: Sequence[JetFile], request: Request, level: Level, unopened: Mapping[str, str]
) -> ZMetadata:
    return ZMetadata(
        model_sha256=model.sha256,
        method=model.method,
        dim=model.encoder.dim if level == "jet" else model.encoder.width,
        level=level,
        files=tuple(str(file.source) for file in files),
        label_names=shared_labels(files),
        kept=request.jet_columns,
        collections=tuple(file.collection for file in files),
        digests=tuple(file.digest for file in files),
        trained=trained_entries(files, model.facts.get("training", {})),
        files_left_out=unopened,
    )


def trained_entries(files: Sequence[JetFile], training: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    """Return the entries that a model was trained on, as (index of the file, start, stop): all but the held-out ones.

    Of a file of 100 entries with 20 to 30 held out these are (0, 0, 20) and (0, 30, 100).
    """
    seen = Seen.of(training)
    trained = []
    for index, file in enumerate(files):
        if seen.trained(file.identity):
            held_out = seen.ranges(file.identity)
            last = file.tree_entries(0, file.entries)[1]
            edges = [0, *(edge for block in held_out for edge in block), last]  # [0, 20, 30, 100]
            trained += [(index, start, stop) for start, stop in zip(edges[::2], edges[1::2]) if start < stop]
    return tuple(trained)


@dataclass(frozen=True, kw_only=True)
class _EmbedJob:
    """The work of every process on its share of the entries."""

    encoder: Encoder
    files: Sequence[JetFile]
    request: Request
    columns: tuple[Column, ...]
    level: Level
    device: torch.device | str
    batch: int
    precision: Precision
    workers: int
    report: Progress | None
    watch: Watch
    unlisted: Counter[str] = field(default_factory=Counter)

    def write_rows(self, parts: Sequence[EntryRange], writer: ZWriter) -> Counter[str]:
        """Write the rows of `parts`; return the number of skipped jets by reason."""
        skipped: Counter[str] = Counter()
        # The share of one process may have no usable jet: `require_some` checks the input as a whole.
        chunks = ordered(self.files, parts, self.request, workers=self.workers, skipped=skipped, may_be_empty=True)
        batches = batches_of(self.files, chunks, self.batch)
        tokens = self.level == "particle"
        pairs = encode(self.encoder, batches, self.device, self.precision, batch=self.batch, tokens=tokens)
        joiner = RowJoiner(self.files, parts, self.columns, self.level, self.request.bad_files)
        total = count(parts)
        for jets, encoded in with_finite_z(self.files, pairs, self.request, skipped):
            self.unlisted.update(unlisted(jets, self.encoder.cfg))
            for rows in joiner.add(jets, encoded):
                writer.write(rows)
            if self.report is not None:
                self.report(joiner.entries, total)
            self.stop_at_signal()
        for rows in joiner.finish():
            writer.write(rows)
        if self.report is not None:
            self.report(total, total)
        return skipped

    def require_some(self, skipped: Counter[str]) -> None:
        """Check that some jet has a z, once the shares of all processes are done."""
        parts = whole(self.files)
        jets = count(parts) - skipped.total()
        require_jets(jets, "that can be embedded", where=file_names(self.files, parts), left_out=skipped)

    def stop_at_signal(self) -> None:
        """Leave by an exception after a signal, so that the unfinished output is removed."""
        if self.watch.received:
            raise Interrupted(self.watch.received)


def _run(job: _EmbedJob, ranks: Ranks, out: Path, metadata: ZMetadata, force: bool) -> Counter[str]:
    """Write the z file in one process; return the number of skipped jets by reason."""
    with ZWriter(out, job.columns, metadata, force=force) as writer:
        skipped = job.write_rows(share(whole(job.files), ranks.rank, ranks.world, job.batch), writer)
        job.require_some(skipped)
        writer.metadata = replace(metadata, left_out=_by_reason(skipped))
    return skipped


def _run_ranks(job: _EmbedJob, ranks: Ranks, out: Path, metadata: ZMetadata, force: bool) -> Counter[str]:
    """Write a contiguous share per rank to a hidden folder next to `out`; rank 0 then joins them in order."""
    # Batches begin at multiples of the batch size in each file, so that they are the same for any number of ranks.
    parts = share(whole(job.files), ranks.rank, ranks.world, job.batch)
    check_same(ranks.gather(fingerprint(job.files)))
    work: WorkFolder | None = None
    if ranks.rank == 0:
        clear_left_behind(real(out))
        work = WorkFolder(real(out))
    folder = Path(ranks.from_first(lambda: str(work and work.path)))
    try:
        with ZWriter(folder / _share_file(ranks.rank), job.columns, {}) as writer:
            skipped_here = job.write_rows(parts, writer)
        skipped = sum(ranks.gather(skipped_here), Counter())
        job.require_some(skipped)
        if ranks.rank == 0:
            with ZWriter(out, job.columns, replace(metadata, left_out=_by_reason(skipped)), force=force) as writer:
                for rank in range(ranks.world):
                    for rows in iterate_z(folder / _share_file(rank)):
                        writer.write(rows)
                        job.stop_at_signal()
                    (folder / _share_file(rank)).unlink()
        ranks.gather(None)  # no rank leaves before the file is complete
    except SslJetsError:
        if not folder.exists():  # rank 0 failed first and removed it
            raise ranks.others_failed() from None
        raise
    finally:
        if work is not None:
            work.remove()
    return skipped


def _by_reason(skipped: Counter[str]) -> dict[str, int]:
    return {reason: number for reason, number in sorted(skipped.items()) if number}


def _share_file(rank: int) -> str:
    return f"rank{rank:05d}.parquet"  # the format that keeps every column name
