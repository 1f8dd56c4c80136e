"""Batches of jets of files, encoded: the batches do not depend on how the reading is cut, and long jets fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ssl_jets.data.chunks import BadJetError, Request
from ssl_jets.data.files import JetFile
from ssl_jets.jets import Jets, concatenate, within_memory
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.precision import Precision, autocast

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
