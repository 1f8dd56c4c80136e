"""A trained model in memory, and its inference: z and predictions of jets, in batches and without gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_jets.arrays import Array
from ssl_jets.config import CollectionSettings
from ssl_jets.errors import DataError, SslJetsError, UsageError, check_count
from ssl_jets.jets import COLUMNS, USUAL_LENGTH, Jets
from ssl_jets.nn.encoder import BaseEncoder, Encoded, parameter_count
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.particles.heads import ParticleHeads
from ssl_jets.nn.regression import Regressor
from ssl_jets.records.packing import constituents, pack
from ssl_jets.runtime.console import log
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.precision import SCORES_PRECISION, Precision, PrecisionSetting, autocast, resolve_precision
from ssl_jets.runtime.short_repr import ShortRepr
from ssl_jets.runtime.threads import map_in_order

BATCH = 512
"""Jets of one forward pass."""


@dataclass(eq=False, repr=False)
class Model(ShortRepr):
    """A trained model.

    Attributes:
        encoder: particles to z.
        head: z to logits over `labels`; None for a model trained without labels.
        labels: class names.
        regressor: z to jet columns; None for a model that regresses none.
        particles: tokens to targets of particles; None for a model without any.
        facts: `method` and `training` (files, split, steps, jets seen, ...), as written to `config.json`.
        sha256: of the weights file; empty for a model that was never saved.

    Example:
        A model that is not trained yet, on two jets:

        >>> from ssl_jets.config import ModelSettings
        >>> from ssl_jets.nn.encoder import Encoder
        >>> model = Model(Encoder(ModelSettings(size="tiny")), ClassHead(64, 2), ("QCD", "Tbl"))
        >>> jets = Jets.of([[[310.0, 0.02, -0.01], [95.0, -0.11, 0.07]], [[50.0, 0.0, 0.0]]], ("pt", "deta", "dphi"))
        >>> model.embed(jets).shape
        (2, 64)
        >>> model.predict(jets).sum(axis=1).round(6)
        array([1., 1.])
    """

    encoder: BaseEncoder
    head: ClassHead | None = None
    labels: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    regressor: Regressor | None = None
    particles: ParticleHeads | None = None

    @property
    def method(self) -> str:
        """Name of the method that trained it."""
        return str(self.facts.get("method", "unknown"))

    @property
    def parameters(self) -> int:
        """Trainable numbers of encoder and heads."""
        modules = (self.encoder, self.head, self.regressor, self.particles)
        return sum(parameter_count(module) for module in modules if module is not None)

    @property
    def training(self) -> dict[str, Any]:
        """Facts of the training: files, split, steps, columns; empty for a model that is not trained."""
        return dict(self.facts.get("training", {}))

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns and features that the encoder was trained with."""
        return tuple(self.training.get("columns", COLUMNS))

    @property
    def context(self) -> tuple[str, ...]:
        """Context that the encoder was trained with."""
        return tuple(self.training.get("context", ()))

    @property
    def collections(self) -> dict[str, CollectionSettings]:
        """Further collections that the encoder was trained with, by name."""
        declared = self.encoder.cfg.collections
        return {name: declared[name] for name in self.training.get("collections", ())}

    def embed(
        self,
        jets: Jets | Any,
        *,
        batch_size: int = BATCH,
        device: torch.device | str | None = None,
        precision: PrecisionSetting = "auto",
    ) -> Array:
        """Compute z of jets in memory, as the command `embed` writes it.

        Particle columns that the encoder was not trained with are left out. Suspicious values, such as momenta in
        MeV, are logged.

        Args:
            jets: the jets, in physical units; or awkward records of jets with `constituents`, such as `events.FatJet`
                of coffea, whose kinematics are read (`Jets.from_awkward` reads further columns).
            batch_size: jets of one forward pass.
            device: by default the GPU, or the CPU of a machine without one.
            precision: number format of the forward pass.

        Returns:
            z, float32 `[jet, D]`, NaN for jets without particles; of records an awkward array `[event, jet, D]`.

        Raises:
            UsageError: a categorical feature or context is no index of its categories; a batch size below 1.
            SslJetsError: z of a jet with particles is not finite, or the encoder was trained with none of the columns.
        """
        if not isinstance(jets, Jets):
            return self._of_records(self.embed, jets, batch_size=batch_size, device=device, precision=precision)
        _log_suspicions(jets)
        jets, device = with_columns(jets, self.columns), default_device(device)
        self.encoder.require_categories(jets)
        z = embed_jets(self.encoder, jets, device=device, batch=batch_size, precision=precision).numpy()
        empty = jets.lengths.cpu().numpy() == 0
        require_finite(z[~empty])
        z[empty] = np.nan  # the encoder reads its class token alone, which is no jet
        return z

    def predict(
        self,
        jets: Jets | Any,
        *,
        batch_size: int = BATCH,
        device: torch.device | str | None = None,
        precision: PrecisionSetting = SCORES_PRECISION,
    ) -> Array:
        """Predict the class probabilities of jets in memory.

        Args:
            jets: as for `embed`.
            batch_size: jets of one forward pass.
            device: by default the GPU, or the CPU of a machine without one.
            precision: number format of the forward pass; "auto" is the native one of the device.

        Returns:
            Probabilities, float64 `[jet, class]`, in the order of `labels`, NaN and nested as for `embed`.

        Raises:
            SslJetsError: as for `embed`, or the model has no head.
        """
        if not isinstance(jets, Jets):
            return self._of_records(self.predict, jets, batch_size=batch_size, device=device, precision=precision)
        z = self.embed(jets, batch_size=batch_size, device=device, precision=precision)
        return self.probabilities(z)

    def _of_records(self, function: Callable[..., Array], records: Any, **options: Any) -> Array:
        """Apply `embed` or `predict` to awkward records of jets, in their nesting.

        A warning names the inputs of the encoder that are not among the kinematics of records.
        """
        packed = pack(constituents(records), records)
        jets = Jets.from_packed(packed, {name: packed.context[name] for name in self.context if name in packed.context})
        inputs, available = (*self.columns, *self.context, *self.collections), (*jets.columns, *jets.context)
        if lacking := [name for name in inputs if name not in available]:
            what = "the encoder reads inputs as missing that it was trained with; `Jets.from_awkward` takes them"
            warnings.warn(f"{what}: {', '.join(lacking)}", stacklevel=3)
        nested: Array = packed.nested(function(jets, **options))  # an awkward array if the records have events
        return nested

    def probabilities(self, z: Array, classes: Iterable[str] = (), *, temperature: float = 1.0) -> Array:
        """Compute class probabilities from z, float64 `[jet, class]`, in the order of `classes` or of `labels`.

        `temperature` divides the logits.
        """
        if self.head is None:
            hint = "ssl-jets finetune --model RUN --mode full trains one"
            if self.regressor is not None:
                hint = "model.regressed(z) has the columns that it regresses"
            raise UsageError("this model has no head that predicts classes", found=f"method {self.method}", hint=hint)
        order = [self.labels.index(name) for name in classes or self.labels]
        logits = _applied(self.head, z).double()
        result: Array = (logits[:, order] / temperature).softmax(dim=1).numpy()
        return result

    def regressed(self, z: Array) -> Array:
        """Compute the regressed columns from z, in the units of the files, float32 `[jet, target]`."""
        assert self.regressor is not None
        result: Array = _applied(self.regressor.physical, z).numpy()
        return result

    def regressed_quantiles(self, z: Array) -> Array:
        """Compute the quantiles of the regressed columns from z, float32 `[jet, target, level]`."""
        assert self.regressor is not None
        result: Array = _applied(self.regressor.bands, z).numpy()
        return result


def _log_suspicions(jets: Jets) -> None:
    """Log possible errors of units, unless the jets are of files, which were looked at when they were read."""
    if jets.source is None:
        from ssl_jets.data.profile import suspicions_in_memory  # imports readers of files

        for line in suspicions_in_memory(jets):
            log(line)


def embed_jets(
    encoder: BaseEncoder,
    jets: Jets,
    *,
    device: torch.device | str = "cpu",
    batch: int = BATCH,
    precision: PrecisionSetting = "auto",
) -> Tensor:
    """Compute z of jets in memory. The encoder is moved to `device` and put into evaluation mode.

    A forward pass has at most `batch` jets; batches of long jets are cut (`within_memory`).

    Returns:
        z, float32 `[jet, D]` on the CPU.
    """
    if not len(jets):
        return torch.empty(0, encoder.dim)
    batches = (jets.select(index) for index in torch.arange(len(jets)).split(check_count(batch, "batch_size")))
    encoded = encode(encoder, batches, device, resolve_precision(precision, device), batch=batch)
    return torch.cat([entry.z for _, entry in encoded])


def encode(
    encoder: BaseEncoder,
    batches: Iterable[Jets],
    device: torch.device | str,
    precision: Precision,
    *,
    batch: int,
    tokens: bool = False,
) -> Iterator[tuple[Jets, Encoded]]:
    """Yield each batch of jets with its z and, if asked for, its tokens (otherwise none), float32 on the CPU."""
    compute = batch_encoder(encoder, device, precision, batch=batch, tokens=tokens)
    return map_in_order(lambda jets: (jets, compute(jets)), batches, device)


def batch_encoder(
    encoder: BaseEncoder, device: torch.device | str, precision: Precision, *, batch: int, tokens: bool = False
) -> Callable[[Jets], Encoded]:
    """Move an encoder to a device, and return the function that computes a batch as `encode` does."""
    encoder, device = encoder.to(device).eval(), torch.device(device)

    def encode_batch(jets: Jets) -> Encoded:
        z, particles = list[Tensor](), list[Tensor]()
        for piece in within_memory(jets, batch):
            with torch.inference_mode(), autocast(device, precision):
                encoded = encoder(piece.to(device), z_only=not tokens)
            # Copied outside of inference mode: to the CPU, and as tensors from which gradients may be computed.
            z.append(encoded.z.to("cpu", torch.float32, copy=True))  # [jet, D]
            if tokens:
                particles.append(encoded.tokens.to("cpu", torch.float32, copy=True))  # [particle, width]
        return Encoded(_joined(z), _joined(particles) if tokens else torch.empty(0, encoder.width))

    return encode_batch


def within_memory(jets: Jets, size: int) -> Iterator[Jets]:
    """Split a batch of long jets into pieces that need no more memory than `size` usual jets.

    Args:
        jets: at most `size` jets. They are cut only if their mean length, or its root mean square, is above
            `USUAL_LENGTH`.
        size: jets of a batch of usual jets.

    Yields:
        Consecutive jets, in order: as many as have no more particles, nor pairs, than `size` jets of `USUAL_LENGTH`
        particles; a single jet however long.

    Example:
        With `size` 1 the limit is 256 particles and 256² pairs:

        >>> long = Jets.of([np.ones((length, 3)) for length in (100, 200, 20)], ("pt", "deta", "dphi"))
        >>> [piece.lengths.tolist() for piece in within_memory(long, size=1)]
        [[100], [200, 20]]
    """
    budgets = torch.tensor([size * USUAL_LENGTH, size * USUAL_LENGTH**2])
    costs = torch.stack([jets.lengths, jets.lengths.square()], dim=1).cpu()
    if not len(jets) or bool((costs.sum(0) <= budgets).all()):
        yield jets
        return
    first, spent = 0, torch.zeros_like(budgets)
    for number, cost in enumerate(costs):
        if number > first and bool((spent + cost > budgets).any()):
            yield jets.select(torch.arange(first, number))
            first, spent = number, torch.zeros_like(budgets)
        spent = spent + cost
    yield jets.select(torch.arange(first, len(jets)))


def _joined(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def require_finite(z: Array) -> Array:
    """Return z `[jet, D]`, if all of it is finite.

    Raises:
        SslJetsError: z of a jet is NaN or infinite.
    """
    if bad := int((~np.isfinite(z).all(axis=1)).sum()):
        raise SslJetsError("the model gives z that is not finite", found=f"{bad:,} of {len(z):,} jets")
    return z


def _applied(head: Callable[[Tensor], Tensor], z: Array) -> Tensor:
    """Apply a head to z `[jet, D]` in batches, without gradients."""
    with torch.inference_mode():
        return torch.cat([head(rows) for rows in torch.split(torch.from_numpy(z), BATCH)])


def with_columns(jets: Jets, names: tuple[str, ...]) -> Jets:
    """Return the jets with only the particle columns of `names`.

    Raises:
        DataError: the jets have none of them.
    """
    columns = tuple(name for name in jets.columns if name in names)
    if not columns:
        raise DataError(
            "the jets have no column that the encoder was trained with", found=", ".join(jets.columns), allowed=names
        )
    if columns == jets.columns:
        return jets
    return replace(jets, particles=jets.particles[:, [jets.columns.index(name) for name in columns]], columns=columns)
