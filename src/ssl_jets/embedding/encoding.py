"""z of the jets of files: in batches that do not depend on the reading, with long jets in smaller ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_jets.data.bad_jets import BadJetError
from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.inputs import check_definitions
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.profile import glance
from ssl_jets.data.request import Request
from ssl_jets.data.shared import shared_columns
from ssl_jets.errors import DataError, in_shell
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model import BATCH, Model, encode
from ssl_jets.nn.encoder import BaseEncoder, Encoded, Encoder
from ssl_jets.nn.features import FEATURES
from ssl_jets.records.particles import wrap_azimuth
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.precision import PrecisionSetting, resolve_precision

FAR = 0.5
"""Standard deviations: classes of jets differ by less from each other."""
_NO_Z = "its z is not finite"

Progress = Callable[[int, int], None]
"""Called with the number of jets done and the number of all jets of this process."""


def embed_parts(
    encoder: BaseEncoder,
    files: Sequence[JetFile],
    parts: Sequence[EntryRange],
    request: Request = Request(),
    *,
    device: torch.device | str = "cpu",
    batch: int = BATCH,
    precision: PrecisionSetting = "auto",
    progress: Progress | None = None,
    workers: int = 1,
    skipped: Counter[str] | None = None,
) -> Iterator[tuple[Jets, Tensor]]:
    """Compute z of the jets of `parts`, in that order and in bounded memory.

    The encoder is moved to `device` and put into evaluation mode. Skipped jets are missing from `Jets.source`.

    Yields:
        Jets on the CPU, and their z as float32 `[jet, D]` on the CPU.
    """
    skipped = Counter() if skipped is None else skipped
    chunks = ordered(files, parts, request, workers=workers, skipped=skipped)
    batches = batches_of(files, chunks, batch)
    pairs = encode(encoder, batches, device, resolve_precision(precision, device), batch=batch)
    done, total = 0, count(parts)
    for jets, encoded in with_finite_z(files, pairs, request, skipped):
        yield jets, encoded.z
        done += len(jets)
        if progress is not None:
            progress(done, total)


def columns_to_encode(model: Model, files: Sequence[JetFile], log: Log) -> tuple[str, ...]:
    """Return the columns and features of the files that the encoder was trained with, and log the differences.

    A column that the encoder was not trained with has untrained weights, so it is left out.

    Raises:
        DataError: the files have different columns.
        UsageError: the files define a feature otherwise than the model.
    """
    available = shared_columns(files)
    declared = model.encoder.cfg.features
    context = {name: model.encoder.cfg.context[name] for name in model.context}
    for line in check_definitions(declared, context, files, model.collections):
        log(line)
    for line in (*column_differences(model, available), *schema_of_training(model, files)):
        log(line)
    columns = trained_columns(model, available)
    return (*columns, *(name for name in declared if any(name in file.features for file in files)))


def trained_columns(model: Model, available: Sequence[str]) -> tuple[str, ...]:
    """Return the columns among `available` that the encoder was trained with; for others it has untrained weights.

    Raises:
        DataError: there are none.
    """
    columns = tuple(name for name in available if name in model.columns)
    if not columns:
        message = "the files have no column that the encoder was trained with"
        raise DataError(message, found=available, allowed=_trained(model))
    return columns


def column_differences(model: Model, available: Sequence[str]) -> Iterator[str]:
    """Yield a line about trained columns that are not `available`, and one about available ones without training."""
    trained = _trained(model)
    if lacking := [name for name in trained if name not in available]:
        names = ", ".join(lacking)
        yield f"the files lack columns that the encoder was trained with; it reads them as missing: {names}"
    if new := [name for name in available if name not in trained]:
        yield f"the encoder was trained without columns that the files have; they are not used: {', '.join(new)}"


def schema_of_training(model: Model, files: Sequence[JetFile]) -> Iterator[str]:
    """Yield a line with the schema of the training, if files that are read with others lack inputs of the encoder."""
    schema, inputs = model.training.get("schema"), {*model.columns, *model.context, *model.collections}
    if schema is None:
        return
    others = [file for file in files if file.schema.name != Path(schema).stem]
    if any(inputs - {*file.columns, *file.features, *file.context, *file.collections} for file in others):
        option = in_shell("--schema", schema)
        yield f"the model was trained with {option}: with it, the files may have the missing inputs"


def _trained(model: Model) -> tuple[str, ...]:
    """Return the columns that the encoder was trained with, without declared features."""
    return tuple(name for name in model.columns if name not in model.encoder.cfg.features)


def log_far_from_training(models: Sequence[Model], files: Sequence[JetFile], where: str | None, log: Log) -> None:
    """Log the inputs of each model that are far from its training."""
    for model in models:
        for line in far_from_training(model, files, where):
            log(line)


def far_from_training(model: Model, files: Sequence[JetFile], where: str | None) -> Iterator[str]:
    """Yield a line if the mean of an input is more than `FAR` standard deviations from its mean in the training.

    Jets of another pt or radius are such inputs, and impact parameters from another point than the primary vertex. Only
    jets that `where` selects are looked at.
    """
    encoder = model.encoder
    if not isinstance(encoder, Encoder) or not files:  # the inputs of others have no statistics
        return
    columns = tuple(name for name in shared_columns(files) if name in model.columns)
    seen = (_inputs_of(encoder, jets, columns) for _, jets in glance(files, where, columns))
    means = [inputs[:, : len(FEATURES)].mean(0).numpy() for inputs in seen]  # standardized; a missing column has 0
    mean = dict(zip((feature.name for feature in FEATURES), np.mean(means, axis=0).tolist())) if means else {}
    far = sorted((name for name in mean if abs(mean[name]) > FAR), key=lambda name: -abs(mean[name]))
    if far:
        found = ", ".join(f"{name} {mean[name]:+.1f}" for name in far)
        yield f"particles unlike those of the training, in standard deviations: {found}; evaluate z on such jets first"


def _inputs_of(encoder: Encoder, jets: Jets, columns: Collection[str]) -> Tensor:
    """Compute the inputs of an encoder from some columns of jets with dphi unwrapped, `[particle, input]`."""
    jets = jets.without(set(jets.columns) - set(columns))
    jets = replace(jets, particles=jets.particles.clone())  # other models look at them, too
    wrap_azimuth(jets.column("dphi").numpy())
    inputs: Tensor = encoder.features(jets)[0].detach()
    return inputs


def batches_of(files: Sequence[JetFile], chunks: Iterator[Jets], size: int) -> Iterator[Jets]:
    """Regroup chunks into batches by file and `number // size`, independently of the chunks of the reading.

    With `size` 512 the jets 0 to 511 of a file are one batch, 512 to 1023 the next, although a chunk ends at 700:
    a batch is held until the first jet of the next one arrives.
    """
    held: Jets | None = None
    for chunk in chunks:
        if held is not None and _file(held) == _file(chunk):
            chunk = concatenate([held, chunk])
        elif held is not None:
            yield held
        blocks = torch.from_numpy(files[_file(chunk)].numbers(_source(chunk).numpy()) // size)
        lengths = torch.unique_consecutive(blocks, return_counts=True)[1].tolist()
        *complete, last = torch.split(torch.arange(len(chunk)), lengths)
        yield from (chunk.select(index) for index in complete)
        held = chunk.select(last)
    if held is not None:
        yield held


def with_finite_z(
    files: Sequence[JetFile], pairs: Iterator[tuple[Jets, Encoded]], request: Request, skipped: Counter[str]
) -> Iterator[tuple[Jets, Encoded]]:
    """Yield the batches without the jets of non-finite z, which count as bad jets.

    Raises:
        BadJetError: z is not finite, and `request.bad_jets` is "error".
    """
    for jets, (z, tokens) in pairs:
        finite = z.isfinite().all(1)  # [jet]
        if not bool(finite.all()):
            bad = (~finite).nonzero()[:, 0]
            if request.bad_jets == "error":
                file, entry, number = _source(jets)[bad[0]].tolist()
                raise BadJetError(
                    f"a jet cannot be used: {_NO_Z}",
                    where=f"{files[file].place}, entry {entry}, jet {number}",
                    found=f"{len(bad)} of the {len(jets)} jets of a batch",
                    hint="--set data.bad_jets=skip leaves such jets out and counts them",
                )
            skipped[_NO_Z] += len(bad)
            tokens = tokens[finite[jets.jet_of_particle]] if len(tokens) else tokens
            jets, z = jets.select(finite.nonzero()[:, 0]), z[finite]
        if len(jets):
            yield jets, Encoded(z, tokens)


def _source(jets: Jets) -> Tensor:
    assert jets.source is not None  # jets read from files have it
    return jets.source


def _file(jets: Jets) -> int:
    return int(_source(jets)[0, 0])
