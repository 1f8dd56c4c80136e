"""Batches of jets of files, encoded: the batches do not depend on how the reading is cut, and long jets fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ssl_jets.config import DataSettings
from ssl_jets.data.chunks import BadJetError
from ssl_jets.data.files import EntryRange, JetFile, count, shared_columns
from ssl_jets.data.loading.stream import Request, ordered
from ssl_jets.errors import DataError
from ssl_jets.jets import COLUMNS, Jets, concatenate, within_memory
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.precision import Precision, PrecisionSetting, autocast, resolve_precision

_DATA, _REQUEST = DataSettings(), Request()


Progress = Callable[[int, int], None]
"""Told the jets done and the jets in all, of this process."""


def embed_parts(
    encoder: Encoder,
    files: Sequence[JetFile],
    parts: Sequence[EntryRange],
    request: Request = _REQUEST,
    *,
    device: torch.device | str = "cpu",
    batch: int = 512,
    precision: PrecisionSetting = "auto",
    progress: Progress | None = None,
    workers: int = 1,
    skipped: Counter[str] | None = None,
) -> Iterator[tuple[Jets, Tensor]]:
    """z of the jets of `parts`, in that order and in bounded memory.

    The encoder is moved to `device` and put into evaluation mode.

    Args:
        encoder: the encoder.
        files: the files.
        parts: entries of them.
        request: jet columns to read, and what to do with bad jets; jets left out are missing from `Jets.source`.
        device: where the encoder runs.
        batch: most jets of one forward pass.
        precision: number format of the forward pass; "auto" is the native one of the device.
        progress: called after each batch.
        workers: threads that read ahead.
        skipped: the number of jets left out is added here, by reason.

    Yields:
        jets on the CPU, and their z as float32 `[jet, D]` on the CPU.
    """
    chunks = ordered(files, parts, request, workers=workers, skipped=skipped)
    total, before = count(parts), 0
    batches = batches_of(files, chunks, batch)
    pairs = encode(encoder, batches, device, resolve_precision(precision, device), batch=batch, tokens=False)
    for jets, encoded in with_finite_z(files, pairs, request, Counter() if skipped is None else skipped):
        yield jets, encoded.z
        before += len(jets)
        if progress is not None:
            progress(before, total)


def embed_jets(
    encoder: Encoder,
    jets: Jets,
    *,
    device: torch.device | str = "cpu",
    batch: int = 512,
    precision: PrecisionSetting = "auto",
) -> Tensor:
    """z of jets in memory, float32 `[jet, D]` on the CPU. The encoder is moved to `device`, in evaluation mode."""
    batches = (jets.select(index) for index in torch.arange(len(jets)).split(batch))
    encoded = encode(encoder, batches, device, resolve_precision(precision, device), batch=batch, tokens=False)
    return torch.cat([entry.z for _, entry in encoded])


def columns_to_encode(model: Model, files: Sequence[JetFile], say: Log) -> tuple[str, ...]:
    """The particle columns of the files that the encoder knows; what it lacks, or never saw, is said.

    A column that the encoder was not trained on has weights that nothing was learned for, so it is left out.

    Raises:
        DataError: the files have different columns.
    """
    there = shared_columns(files)
    known = tuple(model.facts.get("training", {}).get("columns", COLUMNS))
    if lacking := [name for name in known if name not in there]:
        say(f"the files lack columns that the encoder was trained with; it is told so: {', '.join(lacking)}")
    if new := [name for name in there if name not in known]:
        say(f"the encoder was trained without columns that the files have; they are not used: {', '.join(new)}")
    columns = tuple(name for name in there if name in known)
    if not columns:
        raise DataError("the files have no column that the encoder was trained with", found=there, allowed=known)
    return columns


_NO_Z = "its z is not finite"


def encode(
    encoder: Encoder,
    batches: Iterable[Jets],
    device: torch.device | str,
    precision: Precision,
    *,
    batch: int,
    tokens: bool,
) -> Iterator[tuple[Jets, Encoded]]:
    """Batches of jets with z (and tokens, otherwise none), all on the CPU, float32."""
    encoder = encoder.to(device).eval()
    for jets in batches:
        encoded = []
        for some in within_memory(jets, batch):
            with torch.inference_mode(), autocast(device, precision):
                z, particles = encoder(some.to(device))
            # Copied outside of inference mode: to the CPU, and as tensors that others may compute gradients with.
            z = z.to("cpu", torch.float32, copy=True)
            particles = particles.to("cpu", torch.float32, copy=True) if tokens else torch.empty(0, encoder.width)
            encoded.append((z, particles))
        yield jets, Encoded(*(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*encoded)))


def with_finite_z(
    files: Sequence[JetFile], pairs: Iterator[tuple[Jets, Encoded]], request: Request, skipped: Counter[str]
) -> Iterator[tuple[Jets, Encoded]]:
    """Batches without the jets whose z is not finite: bad jets, as those that cannot be read."""
    for jets, (z, tokens) in pairs:
        finite = z.isfinite().all(1)
        if not bool(finite.all()):
            lost = (~finite).nonzero()[:, 0]
            if request.bad_jets == "error":
                file, entry, number = _source(jets)[lost[0]].tolist()
                raise BadJetError(
                    f"a jet cannot be used: {_NO_Z}",
                    where=f"{files[file].place}, entry {entry}, jet {number}",
                    found=f"{len(lost)} of the {len(jets)} jets of a batch",
                    hint="--set data.bad_jets=skip leaves such jets out and counts them",
                )
            skipped[_NO_Z] += len(lost)
            tokens = tokens[finite[jets.jet_of_particle]] if len(tokens) else tokens
            jets, z = jets.select(finite.nonzero()[:, 0]), z[finite]
        if len(jets):
            yield jets, Encoded(z, tokens)


def batches_of(files: Sequence[JetFile], chunks: Iterator[Jets], size: int) -> Iterator[Jets]:
    """Jets regrouped by file and `number // size`, so that batches do not depend on how the reading is cut."""
    held: Jets | None = None
    for chunk in chunks:
        if held is not None and _file(held) == _file(chunk):
            chunk = concatenate([held, chunk])
        elif held is not None:
            yield held
        blocks = torch.from_numpy(files[_file(chunk)].numbers(_source(chunk).numpy()) // size)
        lengths = torch.unique_consecutive(blocks, return_counts=True)[1].tolist()
        *complete, held = (chunk.select(index) for index in torch.split(torch.arange(len(chunk)), lengths))
        yield from complete
    if held is not None:
        yield held


def _source(jets: Jets) -> Tensor:
    assert jets.source is not None  # everything read from files has it
    return jets.source


def _file(jets: Jets) -> int:
    return int(_source(jets)[0, 0])
