"""Adapter of a foreign network to the interface of the encoder."""

from __future__ import annotations

from typing import cast

from ssl_jets.config import ModelSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import NEEDED, Jets
from ssl_jets.nn.encoder import AttentionPool, BaseEncoder, Encoded, Encoder, MeanPool, Pool
from ssl_jets.nn.foreign.registry import Network, find


class ForeignEncoder(BaseEncoder):
    """Adapter of a foreign network.

    With `pool` "class" z is the z of the network; otherwise it is pooled from the tokens, and "attention" starts from
    z of the network, or from the mean of the tokens if z has another dimension. A frozen network stays in evaluation
    mode, so its batch norms do not change.

    Args:
        cfg: settings with `architecture` and `options`.

    Attributes:
        network: the foreign network.

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
            self.network = cls(**cfg.options)
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
        """Return z `[jet, dim]` and tokens `[particle, width]`; tokens `[0, width]` with `z_only`."""
        seen = jets if self.reads_context else jets.without(jets.context)
        z, tokens = self.network(seen)
        if self.pool is not None:
            start = z if self._own_dim == self.width else jets.mean(tokens)
            z = self.pool(start, tokens, jets)
        return Encoded(z.float(), tokens[:0] if z_only else tokens)

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
