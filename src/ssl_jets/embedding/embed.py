"""Files of jets in, a z file out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ssl_jets.config import DataSettings, FileSettings, Settings
from ssl_jets.data.chunks import check_request
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, JetFile, count, shared_labels, whole
from ssl_jets.data.loading.stream import Request, ordered
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.seen import Seen, check_same, copies_of, fingerprint
from ssl_jets.data.skipped import named, require_jets, skipped_files
from ssl_jets.data.split import share
from ssl_jets.embedding.encoding import _DATA, Progress, batches_of, columns_to_encode, encode, with_finite_z
from ssl_jets.embedding.rows import RowJoiner, kept_columns
from ssl_jets.errors import SslJetsError, UsageError
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


@dataclass(frozen=True)
class EmbedSummary:
    """What `embed` did.

    Attributes:
        path: the z file.
        jets: jets of the input, over all processes.
        skipped: those of them that could not be used.
        seconds: time it took.
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
    batch_size: int = 512,
    precision: PrecisionSetting = "auto",
    device: torch.device | str | None = None,
    force: bool = False,
    report: Progress | None = None,
    say: Log = to_stderr,
) -> EmbedSummary:
    """Write z of every jet of `sources`, in input order, to one z file; or the tokens of every particle.

    At level "jet" the rows are the jets of the input, one for one: with `data.bad_jets` and `data.bad_files` "skip" a
    jet that cannot be used or read has z of NaN and the label -1, and kept columns that cannot be read are NaN, -1 or
    false. At level "particle" it has no rows. A file that cannot be opened has none at either level. Started by
    torchrun, the processes share the work and one file comes out, with the rows of one process.

    Args:
        model_path: a run folder or its `model/` folder.
        sources: files, folders, patterns, lists (see `resolve_sources`); none means the bundled sample.
        out: the z file; its suffix names the format.
        level: "jet" or "particle".
        keep: jet columns to copy from the input.
        data: `workers`, `bad_jets`, `bad_files`, `format`, `labels` and `jets` are used.
        batch_size: jets of one forward pass.
        precision: number format of the forward pass.
        device: by default a GPU where there is one.
        force: overwrite `out`.
        report: told the progress.
        say: told which files are left out, what looks wrong in the others, and which particle columns they lack, or
            the encoder does not know.

    Raises:
        UsageError: an unknown suffix, an existing output, a column that an input does not have.
        SslJetsError: the model, an input or the output fails.
        Interrupted: a signal came. In no case is a half-written output left behind.
    """
    began, out = time.monotonic(), Path(out)
    format_of(out)
    check_output(out, force=force)
    model = load_model(model_path)
    dim = model.encoder.dim if level == "jet" else model.encoder.width
    lost: dict[str, str] = {}
    files = open_named(sources, data, lost)
    training = model.facts.get("training", {})
    for line in (*skipped_files(lost), *copies_of(files), *find_suspicions(files), *Seen.of(training).notes(files)):
        say(line)
    encoded = columns_to_encode(model, files, say)
    request = Request.of(data, tuple(dict.fromkeys(keep)), encoded)
    _check_kept(files, request)
    labels = shared_labels(files)
    kept = kept_columns(files, request.jet_columns)
    metadata = ZMetadata(
        model_sha256=model.sha256,
        method=model.method,
        dim=dim,
        level=level,
        files=tuple(str(file.source) for file in files),
        label_names=labels,
        kept=request.jet_columns,
        collections=tuple(file.collection for file in files),
        digests=tuple(file.digest for file in files),
        trained=trained_entries(files, training),
        files_left_out=lost,
    )
    columns = (*z_columns(level, dim, labelled=bool(labels)), *kept)
    check_names(out, [column.name for column in columns])
    with Watch() as watch, launched() as ranks:
        place = device if device is not None else ranks.device()
        precise = resolve_precision(precision, place)
        job = _Job(
            model.encoder, files, request, columns, level, place, batch_size, precise, data.workers, report, watch
        )
        with explain_shortage(f"--batch-size {max(1, batch_size // 2)}"):
            skipped = _embed_ranks(job, ranks, out, metadata, force)
    return EmbedSummary(out, count(whole(files)), skipped.total(), time.monotonic() - began, _by_reason(skipped), lost)


def trained_entries(files: Sequence[JetFile], training: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    """Entries that a model was trained on, as (index of the file, start, stop): all but those it held out."""
    seen = Seen.of(training)
    found = []
    for index, file in enumerate(files):
        if seen.trained(file.identity):
            held = seen.ranges(file.identity)
            last = file.tree_entries(0, file.entries)[1]
            edges = [0, *(edge for block in held for edge in block), last]
            found += [(index, start, stop) for start, stop in zip(edges[::2], edges[1::2]) if start < stop]
    return tuple(found)


class ComputingSettings(Settings):
    """Of `train.*`, what counts where nothing is trained."""

    precision: PrecisionSetting = "auto"
    """As in `TrainSettings`."""


class EmbedSettings(FileSettings):
    """Everything that can be set of `embed`."""

    train: ComputingSettings = ComputingSettings()


@dataclass(frozen=True)
class _Job:
    """What every process does with its share."""

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

    def run(self, parts: Sequence[EntryRange], writer: ZWriter) -> Counter[str]:
        """Write the rows of `parts`; the number of jets left out, by reason."""
        skipped: Counter[str] = Counter()
        more: Any = {"workers": self.workers, "skipped": skipped, "may_be_empty": True}  # the whole is checked
        chunks = ordered(self.files, parts, self.request, **more)
        table = RowJoiner(self.files, parts, self.columns, self.level, self.request.bad_files)
        tokens = self.level == "particle"
        total = count(parts)
        batches = batches_of(self.files, chunks, self.batch)
        pairs = encode(self.encoder, batches, self.device, self.precision, batch=self.batch, tokens=tokens)
        for jets, encoded in with_finite_z(self.files, pairs, self.request, skipped):
            for rows in table.add(jets, encoded):
                writer.write(rows)
            if self.report is not None:
                self.report(table.entries, total)
            self.stop_at_signal()
        for rows in table.finish():
            writer.write(rows)
        if self.report is not None:
            self.report(total, total)
        return skipped

    def require_some(self, skipped: Counter[str]) -> None:
        """Refuse an input of which no jet has a z, once the shares of all processes are known."""
        parts = whole(self.files)
        where = named(self.files, parts)
        require_jets(count(parts) - skipped.total(), "that can be embedded", where=where, left_out=skipped)

    def stop_at_signal(self) -> None:
        """Leave by an exception, so that what was written so far is cleared up."""
        if self.watch.received:
            raise Interrupted(self.watch.received)


def _embed_ranks(job: _Job, ranks: Ranks, out: Path, metadata: ZMetadata, force: bool) -> Counter[str]:
    """Every rank writes a contiguous share to a hidden folder beside `out`, then rank 0 joins them in order."""
    # Batches begin at multiples of the batch size in each file, so that those of any number of ranks are the same.
    parts = share(whole(job.files), ranks.rank, ranks.world, job.batch)
    if ranks.world == 1:
        with ZWriter(out, job.columns, metadata, force=force) as writer:
            skipped = job.run(parts, writer)
            job.require_some(skipped)
            writer.metadata = replace(metadata, left_out=_by_reason(skipped))
            return skipped
    check_same(ranks.gather(fingerprint(job.files)))
    work: WorkFolder | None = None
    if ranks.rank == 0:
        clear_left_behind(real(out))
        work = WorkFolder(real(out))
    folder = Path(ranks.from_first(lambda: str(work and work.path)))
    try:
        with ZWriter(folder / _part(ranks.rank), job.columns, {}) as writer:
            mine = job.run(parts, writer)
        skipped = sum(ranks.gather(mine), Counter())
        job.require_some(skipped)
        if ranks.rank == 0:
            metadata = replace(metadata, left_out=_by_reason(skipped))
            with ZWriter(out, job.columns, metadata, force=force) as writer:
                for rank in range(ranks.world):
                    for rows in iterate_z(folder / _part(rank)):
                        writer.write(rows)
                        job.stop_at_signal()
                    (folder / _part(rank)).unlink()
        ranks.gather(None)  # nobody leaves before the file is there
    except SslJetsError:
        if not folder.exists():  # rank 0 failed first and cleared up
            raise ranks.others_failed() from None
        raise
    finally:
        if work is not None:
            work.remove()
    return skipped


def _by_reason(skipped: Counter[str]) -> dict[str, int]:
    return {reason: number for reason, number in sorted(skipped.items()) if number}


def _part(rank: int) -> str:
    return f"rank{rank:05d}.parquet"  # which keeps every name of a column


def _check_kept(files: Sequence[JetFile], request: Request) -> None:
    written = {column.name for level in ("jet", "particle") for column in z_columns(level, 1, labelled=True)}
    for name in request.jet_columns:
        if any(name in file.label_branches for file in files):
            hint = "the label is always written, as the column `label`; the metadata has the names of its values"
            raise UsageError("a label column is not kept by itself", where="--keep", found=name, hint=hint)
        if name in written:
            raise UsageError("a z file has a column of that name of its own", where="--keep", found=name)
    check_request(files, request)
