"""Adapter of a foreign network to the interface of the encoder."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ssl_jets.config import ModelSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import NEEDED, Jets
from ssl_jets.nn.encoder import AttentionPool, BaseEncoder, Encoded, Encoder, MeanPool, Pool
from ssl_jets.nn.foreign.registry import Network, find, with_tuples

MOST_OFF = 1e-3
"""Largest relative difference between z of a jet alone and among others: rounding."""


class ForeignEncoder(BaseEncoder):
    """Adapter of a foreign network.

    With `pool` "class" z is the z of the network; otherwise it is pooled from the tokens, and "attention" starts from
    z of the network, or from the mean of the tokens if z has another dimension. A frozen network stays in evaluation
    mode, so its batch norms do not change.

    Raises:
        SslJetsError: the network cannot be built, or an option is missing that every model folder must have.
    """

    def __init__(self, cfg: ModelSettings) -> None:
        super().__init__(cfg)
        cls = find(cfg.architecture or "")
        if absent := [name for name in getattr(cls, "recorded", ()) if name not in cfg.options]:
            raise SslJetsError(
                "the model is of an earlier version, whose encoder computed something else",
                where=f"options of {cfg.architecture}",
                found=f"no {', '.join(absent)}",
                hint="convert and finetune it again; see docs/own-encoder.md",
            )
        try:
            self.network = cls(**with_tuples(cls, cfg.options))
            network = cast(Network, self.network)
            self.width, self._own_dim = int(network.width), int(network.dim)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise SslJetsError("the encoder cannot be built", where=cls.__qualname__, found=error) from None
        self.set_pool(cfg.pool)

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns that the network reads."""
        return tuple(getattr(self.network, "columns", NEEDED))

    @property
    def context(self) -> tuple[str, ...]:
        """Context of jets that the network reads."""
        return tuple(getattr(self.network, "context", ()))

    def forward(self, jets: Jets, *, z_only: bool = False) -> Encoded:
        """Return z `[jet, dim]` and tokens `[particle, width]`; tokens `[0, width]` with `z_only`.

        Raises:
            SslJetsError: the network returns anything else, or fails on jets without inputs that it names.
        """
        seen = jets if self.reads_context else jets.without(jets.context)
        try:
            returned = self.network(seen)
        except (LookupError, ValueError, AttributeError, SslJetsError) as error:
            lacking = [name for name in (*self.columns, *self.context) if name not in (*seen.columns, *seen.context)]
            if not lacking:
                raise
            what, where = "the encoder fails on jets that lack inputs which it names", type(self.network).__qualname__
            found = f"no {', '.join(lacking)}; {type(error).__name__}: {error}"
            hint = "files that have them, or a network that reads `jets.columns` and `jets.context`"
            raise SslJetsError(what, where=where, found=found, hint=hint) from error
        z, tokens = self._checked(returned, jets)
        if self.pool is not None:
            start = z if self._own_dim == self.width else jets.mean(tokens)
            z = self.pool(start, tokens, jets)
        return Encoded(z.float(), tokens[:0] if z_only else tokens)

    def _checked(self, returned: object, jets: Jets) -> tuple[Tensor, Tensor]:
        """Return what a network returned, if it is z and tokens in their shapes."""
        expected = [(len(jets), self._own_dim), (len(jets.particles), self.width)]
        values = returned if isinstance(returned, tuple | list) else (returned,)
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in values]
        if shapes != expected:
            jets_and_particles = f"of {len(jets)} jets with {len(jets.particles)} particles"
            raise SslJetsError(
                "an encoder returns z [jet, dim] and tokens [particle, width], two tensors",
                where=type(self.network).__qualname__,
                found=f"{', '.join(map(str, shapes))} {jets_and_particles}",
                allowed=[f"{expected[0]}, {expected[1]}"],
            )
        z, tokens = values
        return z, tokens

    def try_out(self) -> None:
        """Encode two jets, of three particles and of one, together and each alone.

        Raises:
            SslJetsError: the network fails, does not return finite z and tokens in their shapes, or gives a jet another
                z among other jets than alone.
        """
        columns, name = self.columns, type(self.network).__qualname__
        values = {"pt": (90.0, 40.0, 5.0, 60.0), "deta": (0.1, -0.2, 0.3, 0.0), "dphi": (0.0, 0.2, -0.1, 0.1)}
        values["energy"] = (95.0, 44.0, 7.0, 61.0)
        particles = torch.tensor([values.get(column, (0.0,) * 4) for column in columns]).T
        context = {number: torch.ones(2) for number in self.context}
        jets = Jets(particles.contiguous(), torch.tensor([0, 3, 4]), columns, context=context)
        try:
            with torch.inference_mode():
                encoded = self.eval()(jets)
                alone = torch.cat([self(jets.select(torch.tensor([jet]))).z for jet in range(2)])
        except SslJetsError:
            raise
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            raise SslJetsError("the encoder fails on two jets", where=name, found=found) from error
        if not (encoded.z.isfinite().all() and encoded.tokens.isfinite().all()):
            raise SslJetsError("the encoder gives values of two jets that are not finite", where=name)
        off = float((encoded.z - alone).abs().max() / alone.abs().max().clamp(min=torch.finfo(alone.dtype).tiny))
        if not off < MOST_OFF:
            hint = "no sums, norms or attention over particles of several jets; `Jets.mean` averages over each jet"
            raise SslJetsError("z of a jet depends on the other jets of its batch", where=name, found=off, hint=hint)

    def set_pool(self, pool: Pool) -> None:
        """Pool z by another rule from now on; its weights, if any, are newly initialized."""
        self.cfg = self.cfg.model_copy(update={"pool": pool})
        self.dim = self._own_dim if pool == "class" else self.width
        heads = next(heads for heads in (8, 4, 2, 1) if self.width % heads == 0)
        attention = AttentionPool(self.width, heads) if pool == "attention" else None
        self.pool = MeanPool() if pool == "mean" else attention

    def train(self, mode: bool = True) -> ForeignEncoder:
        """Set training or evaluation mode; a frozen network stays in evaluation mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            self.network.eval()
        return self


def build_encoder(cfg: ModelSettings) -> BaseEncoder:
    """Build the set transformer, or the foreign encoder, of the settings, with random weights."""
    return Encoder(cfg) if cfg.architecture is None else ForeignEncoder(cfg)


def require_own(encoder: BaseEncoder, purpose: str, hint: str) -> Encoder:
    """Return the encoder, if it is the set transformer of this package.

    Raises:
        UsageError: it is foreign, and the purpose needs blocks or inputs that only the set transformer has.
    """
    if not isinstance(encoder, Encoder):
        raise UsageError(
            f"{purpose} needs the set transformer of ssl-jets",
            where="model.architecture",
            found=encoder.cfg.architecture,
            hint=hint,
        )
    return encoder
