"""One output file: written by one process, by several, or in finished parts from which a killed run is resumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ssl_jets.data.files import EntryRange, count
from ssl_jets.data.inputs import unlisted
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import NOT_SELECTED, Request
from ssl_jets.data.seen import check_same, fingerprint
from ssl_jets.data.skipped import file_names, require_jets
from ssl_jets.data.split import share
from ssl_jets.embedding.encoding import Progress, batches_of, with_finite_z
from ssl_jets.embedding.finished import is_finished
from ssl_jets.embedding.inputs import Inputs
from ssl_jets.embedding.options import OutputOptions
from ssl_jets.embedding.outputs import Output
from ssl_jets.embedding.rows import RowJoiner
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime.atomic import WorkFolder, clear_left_behind, real, write_text
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.kept_folder import KeptFolder, kept_path
from ssl_jets.runtime.precision import Precision
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.runtime.reading import read_json
from ssl_jets.runtime.signals import Interrupted, Watch
from ssl_jets.zfile import Column, ZMetadata, ZWriter, iterate_z, read_metadata

PLAN = "plan.json"


@dataclass(frozen=True)
class Work:
    """The work of every process on its share of the entries.

    Attributes:
        unlisted: values of categories that an encoder does not list, by feature.
    """

    output: Output
    request: Request
    columns: tuple[Column, ...]
    options: OutputOptions
    device: torch.device | str
    precision: Precision
    watch: Watch
    report: Progress | None
    unlisted: Counter[str] = field(default_factory=Counter)

    def writer(self, out: Path, metadata: ZMetadata) -> ZWriter:
        """Return the writer of an output."""
        options = self.options
        return ZWriter(out, self.columns, metadata, force=options.force, rntuple=options.out_settings.rntuple)

    def write_rows(
        self, inputs: Inputs, parts: Sequence[EntryRange], writer: ZWriter, done: int = 0, total: int | None = None
    ) -> Counter[str]:
        """Write the rows of `parts`; return the number of skipped jets by reason.

        `done` of `total` entries were written before, for the progress.
        """
        skipped: Counter[str] = Counter()
        files, options = inputs.files, self.options
        # The share of one process may have no usable jet: `_require_some` checks the input as a whole.
        chunks = ordered(files, parts, self.request, workers=options.data.workers, skipped=skipped, may_be_empty=True)
        batches = batches_of(files, chunks, options.batch_size)
        pairs = self.output.encode(batches, self.device, self.precision, batch=options.batch_size)
        joiner = RowJoiner(files, inputs.numbers, parts, self.columns, self.output, request=self.request)
        entries = count(parts)
        for jets, encoded in with_finite_z(files, pairs, self.request, skipped):
            self.unlisted.update(unlisted(jets, *(model.encoder.cfg for model in self.output.models)))
            for rows in joiner.add(jets, encoded):
                writer.write(rows)
            self._show(done + joiner.entries, total or entries)
            self.stop_at_signal()
        for rows in joiner.finish():
            writer.write(rows)
        self._show(done + entries, total or entries)
        return skipped

    def _show(self, done: int, total: int) -> None:
        if self.report is not None:
            self.report(done, total)

    def stop_at_signal(self) -> None:
        """Leave by an exception after a signal, so that the unfinished output is removed."""
        if self.watch.received:
            kept = self.options.resume_jets is not None
            raise Interrupted(self.watch.received, "the same call goes on from the finished parts" if kept else "")


def write_file(work: Work, inputs: Inputs, out: Path, metadata: ZMetadata, ranks: Ranks) -> Counter[str]:
    """Write one output file; return the number of skipped jets by reason."""
    if work.options.resume_jets is None and ranks.world == 1:
        if kept_path(out).is_dir():
            work.options.log(f"finished parts of a killed run are not used without --resume: {kept_path(out)}")
        with work.writer(out, metadata) as writer:
            skipped = work.write_rows(inputs, inputs.ranges, writer)
            _require_some(inputs, skipped, work.options.log)
            writer.metadata = replace(metadata, left_out=_by_reason(skipped))
        return skipped
    return _write_pieces(work, inputs, out, metadata, ranks)


def _write_pieces(work: Work, inputs: Inputs, out: Path, metadata: ZMetadata, ranks: Ranks) -> Counter[str]:
    """Write contiguous pieces of the rows to a hidden folder next to `out`; rank 0 then joins them in order."""
    check_same(ranks.gather(fingerprint(inputs.files)))
    options = work.options
    resumes = options.resume_jets is not None and not options.force
    if resumes and ranks.from_first(lambda: is_finished(out, metadata, work.columns)):
        options.log(f"finished before: {out}")
        if ranks.rank == 0 and kept_path(out).is_dir():  # killed after the output was complete
            KeptFolder(out).remove()
        return Counter(read_metadata(out)["left_out"])
    pieces = _pieces(work, inputs, ranks)
    with _folder(work, inputs, out, metadata, ranks) as folder:
        try:
            numbers = range(len(pieces))
            todo = ranks.from_first(lambda: [number for number in numbers if not _piece(folder, number).exists()])
            if ranks.rank == 0 and options.resume_jets is not None and len(todo) < len(pieces):
                options.log(f"resumed: {len(pieces) - len(todo)} of {len(pieces)} parts were finished before")
            _write_own(work, inputs, pieces, folder, todo, ranks)
            ranks.gather(None)
            skipped = ranks.from_first(lambda: _skipped(folder, len(pieces)))
            _require_some(inputs, skipped, options.log)
            if ranks.rank == 0:
                described = replace(metadata, left_out=_by_reason(skipped))
                _join(work, folder, len(pieces), out, described)
            ranks.gather(None)  # no rank leaves before the file is complete
        except SslJetsError:
            if not folder.exists():  # rank 0 failed first and removed it
                raise ranks.others_failed() from None
            raise
    return skipped


def _write_own(
    work: Work, inputs: Inputs, pieces: Sequence[Sequence[EntryRange]], folder: Path, todo: list[int], ranks: Ranks
) -> None:
    """Write the pieces of this rank."""
    own = todo[len(todo) * ranks.rank // ranks.world : len(todo) * (ranks.rank + 1) // ranks.world]
    total = sum(count(pieces[index]) for index in own)
    done = 0
    if ranks.world == 1:  # those that were finished before
        total = count(inputs.ranges)
        done = total - sum(count(pieces[index]) for index in own)
    for index in own:
        with ZWriter(_piece(folder, index), work.columns, {}) as writer:
            skipped = work.write_rows(inputs, pieces[index], writer, done, total)
            writer.metadata = {"left_out": dict(skipped)}
        done += count(pieces[index])


def _join(work: Work, folder: Path, pieces: int, out: Path, metadata: ZMetadata) -> None:
    """Join the pieces to the output."""
    with work.writer(out, metadata) as writer:
        for index in range(pieces):
            for rows in iterate_z(_piece(folder, index)):
                writer.write(rows)
                work.stop_at_signal()
            if work.options.resume_jets is None:
                _piece(folder, index).unlink()


@contextmanager
def _folder(work: Work, inputs: Inputs, out: Path, metadata: ZMetadata, ranks: Ranks) -> Iterator[Path]:
    """Yield the folder of the pieces; it is kept if `--resume` may go on from it."""
    own: WorkFolder | KeptFolder | None = None
    if ranks.rank == 0 and work.options.resume_jets is None:
        clear_left_behind(real(out))
        own = WorkFolder(real(out))
    elif ranks.rank == 0:
        own = _kept(KeptFolder(out), _plan(work, inputs, metadata), force=work.options.force)
    folder = Path(ranks.from_first(lambda: str(own and own.path)))
    finished = False
    try:
        yield folder
        finished = True
    finally:
        if isinstance(own, KeptFolder) and not finished:
            own.release()
        elif own is not None:
            own.remove()


def _kept(folder: KeptFolder, plan: dict[str, Any], *, force: bool) -> KeptFolder:
    """Check that the finished parts in a folder are of this plan, or begin a new one.

    Raises:
        UsageError: they are of another model, other files or settings, and `force` is not set.
    """
    path = folder.path / PLAN
    found = read_json(path, "the plan of the finished parts cannot be read") if path.exists() else None
    if found != plan:
        differing = [name for name in plan if (found or {}).get(name) != plan[name]]
        if found is not None and not force:
            folder.release()
            raise UsageError(
                "the finished parts are of another run",
                where=folder.path,
                found=f"differs in {', '.join(differing)}",
                hint="--force to begin anew, or another --out",
            )
        folder.clear()
        write_text(path, json.dumps(plan) + "\n")
    return folder


def _plan(work: Work, inputs: Inputs, metadata: ZMetadata) -> dict[str, Any]:
    """Return everything that the rows of the pieces depend on."""
    plan = {name: value for name, value in metadata.to_dict().items() if name != "left_out"}  # known at the end only
    plan |= {
        "columns": [[column.name, column.dtype, column.width] for column in work.columns],
        "entries": [[one.file, one.start, one.stop] for one in inputs.ranges],
        "read": [*(work.request.columns or ()), *work.request.jet_columns],
        "where": work.request.where,
        "bad": [work.request.bad_jets, work.request.bad_files],
        "batch_size": work.options.batch_size,
        "precision": work.precision,
        "resume_jets": work.options.resume_jets,
    }
    return dict(json.loads(json.dumps(plan)))


def _pieces(work: Work, inputs: Inputs, ranks: Ranks) -> list[list[EntryRange]]:
    """Cut the entries into the pieces of the output, at multiples of the batch size in each file.

    Batches are then the same for any number of ranks and of resumptions.
    """
    batch, resume_jets = work.options.batch_size, work.options.resume_jets
    if resume_jets is None:
        return [share(inputs.ranges, rank, ranks.world, batch) for rank in range(ranks.world)]
    size = max(resume_jets // batch, 1) * batch
    pieces: list[list[EntryRange]] = []
    left = 0
    for part in inputs.ranges:
        start = part.start
        while start < part.stop:
            if not left:
                pieces.append([])
                left = size
            stop = min(part.stop, (start + left) // batch * batch if start + left < part.stop else part.stop)
            if stop <= start:  # less than a batch is left in this piece
                left = 0
                continue
            pieces[-1].append(EntryRange(part.file, start, stop))
            left -= stop - start
            start = stop
    return [piece for piece in pieces if piece]


def _require_some(inputs: Inputs, skipped: Counter[str], log: Log) -> None:
    """Check that some jet can be used, once the shares of all processes are done; of a part, log that none can."""
    jets, unselected = count(inputs.ranges) - skipped.total(), set(+skipped) == {NOT_SELECTED}
    if inputs.part is None:
        where = file_names(inputs.files, inputs.ranges)
        purpose = "that is selected" if unselected else "that can be embedded"
        require_jets(jets, purpose, where=where, left_out=skipped)
    elif not inputs.ranges and not inputs.left_out:  # one basket cannot be shared out
        log(f"note: part {inputs.part.number} of {inputs.part.of} has no entries; the other parts have all")
    elif not jets:
        what = "is selected" if unselected else "can be used"
        log(f"WARNING: no jet of part {inputs.part.number} of {inputs.part.of} {what}")


def _skipped(folder: Path, pieces: int) -> Counter[str]:
    """Add up the skipped jets of all pieces."""
    each = (Counter(read_metadata(_piece(folder, index))["left_out"]) for index in range(pieces))
    return sum(each, Counter[str]())


def _by_reason(skipped: Counter[str]) -> dict[str, int]:
    return {reason: number for reason, number in sorted(skipped.items()) if number}


def _piece(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.parquet"  # the format that keeps every column name
