"""Encoder g(x): a set of particles in, a set of tokens and z out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ssl_jets.config import FeatureSettings, ModelSettings
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn.attention.attend import padded_attention, single_query_attention
from ssl_jets.nn.attention.pair_bias import PairBias
from ssl_jets.nn.collections.tokens import Collections
from ssl_jets.nn.features import DeclaredInputs, Features
from ssl_jets.nn.transformer import Transformer, init_weights

Pool = Literal["class", "mean", "attention"]


class Encoded(NamedTuple):
    """Output of the encoder: z `[jet, dim]` and tokens `[particle, width]`, in the order of the input."""

    z: Tensor
    tokens: Tensor


class BaseEncoder(nn.Module):
    """Interface of encoders: our set transformer, or a network of another architecture (`nn/foreign`).

    Attributes:
        cfg: settings from which an equal encoder can be built.
        width: dimension of a token.
        dim: dimension of z.
        pool: pool of tokens to z; None for z of the encoder itself.
        reads_context: read the context of jets; false for a trained encoder that never saw any.
        reads_collections: the same for further collections.
    """

    cfg: ModelSettings
    width: int
    dim: int
    pool: MeanPool | AttentionPool | None
    reads_context: bool = True
    reads_collections: bool = True

    def __init__(self, cfg: ModelSettings) -> None:
        super().__init__()
        self.cfg = cfg

    def forward(self, jets: Jets, *, z_only: bool = False) -> Encoded:
        """Return z `[jet, dim]` and tokens `[particle, width]`, or tokens `[0, width]` with `z_only`."""
        raise NotImplementedError

    def require_categories(self, jets: Jets) -> None:
        """Check that categorical features and context of jets in memory are indices of their categories, or NaN.

        Raises:
            UsageError: another number.
        """
        of_particles = {name: jets.column(name) for name in self.cfg.features if name in jets.columns}
        for name, definition in (self.cfg.features | self.cfg.context).items():
            values = of_particles.get(name, jets.context.get(name))
            if not definition.categories or values is None:
                continue
            values, last = values[values.isfinite()], len(definition.categories)
            if len(wrong := values[(values < 0) | (values > last) | (values % 1 != 0)]):
                listed = ", ".join(f"{index} for {one}" for index, one in enumerate(definition.categories))
                found, allowed = f"{wrong[0].item():g}", [f"{listed}, {last} for any other, or NaN"]
                raise UsageError("a category is given by its index", where=name, found=found, allowed=allowed)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the inputs on `batches` of the training stream, if there are any to fit."""

    def copy_statistics(self, other: BaseEncoder) -> None:
        """Take the statistics of the inputs from another encoder of the same inputs, but no weights."""

    def set_pool(self, pool: Pool) -> None:
        """Pool z by another rule from now on; its weights, if any, are newly initialized."""
        raise NotImplementedError


class Encoder(BaseEncoder):
    """Set transformer with a class token and registers (registers: arXiv:2309.16588).

    Each jet becomes the sequence class tokens, registers, particles; there is no positional encoding. z is the class
    token after the last norm; with a bottleneck, z concatenates several class tokens, each projected to `z_width`
    dimensions. Registers absorb surplus attention and are discarded. With `pool` "mean" or "attention" z is pooled from
    the particle tokens instead.

    Context of the jet is a token of its own, if the settings declare any; jets without it have it missing. Elements of
    further collections are tokens in the same set as the particles; z is not pooled from them.

    Attributes:
        width: dimension of a token.
        dim: dimension of z.
    """

    def __init__(self, cfg: ModelSettings) -> None:
        super().__init__(cfg)
        width, blocks, heads = cfg.shape
        self.width = width
        self.features = Features(cfg.features)
        self.embed = nn.Sequential(nn.Linear(self.features.width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.missing = nn.Parameter(torch.zeros(self.features.count, width))
        self.extra_tokens = nn.Parameter(0.02 * torch.randn(cfg.z_tokens + cfg.registers, width))
        self.set_pool(cfg.pool)
        self.pair_bias = PairBias(heads) if cfg.pair_bias else None
        self.transformer = Transformer(width, blocks, heads, dropout=cfg.dropout, drop_path=cfg.drop_path)
        self.context = ContextToken(cfg.context, width) if cfg.context else None
        self.collections = Collections(cfg.collections, width) if cfg.collections else None
        self.register_load_state_dict_pre_hook(_rename_trunk)

    def forward(self, jets: Jets, *, z_only: bool = False) -> Encoded:
        """Return z `[jet, dim]` and tokens `[particle, width]`; a jet may have no particles (all of them hidden).

        With `z_only` the tokens are `[0, width]`, and the last block computes no more than z needs: the same z to
        rounding, for less time.
        """
        particles = self.embedded(jets)
        extra = self.extra_tokens.expand(len(jets), -1, -1)
        if self.context is not None:
            seen = jets if self.reads_context else jets.without(jets.context)
            extra = torch.cat([extra, self.context(seen).unsqueeze(1)], dim=1)
        tokens, paired, places = particles, jets, None
        if self.collections is not None:
            seen = jets if self.reads_collections else jets.without(jets.collections)
            tokens, offsets, places = self.collections(particles, seen)
            table = jets.particles.new_zeros(len(tokens), len(jets.columns)).index_copy(0, places, jets.particles)
            paired = Jets(table, offsets, jets.columns)  # elements of collections have pt 0
        count, module = extra.shape[1], self.pair_bias
        pair_bias = None if module is None else lambda order, layout: module(paired.select(order), layout, count)
        only = self.cfg.z_tokens if z_only and self.pool is None else None
        extra, tokens = self.transformer(tokens, paired.offsets, extra, pair_bias, only=only)
        if places is not None and only is None:
            tokens = tokens[places]
        if self.pool is not None:
            return Encoded(self.pool(extra[:, 0], tokens, jets).float(), tokens)
        return Encoded(self.z_out(extra[:, : self.cfg.z_tokens]).float().flatten(1), tokens)

    def embedded(self, jets: Jets) -> Tensor:
        """Return the particles as the transformer reads them, each embedded alone, `[particle, width]`."""
        inputs, missing = self.features(jets)
        embedded: Tensor = self.embed(inputs) + missing @ self.missing
        return embedded

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of all inputs on `batches` of the training stream."""
        once = self.context is None and self.collections is None
        batches = batches if once else list(batches)
        self.features.fit_statistics(batches)
        if self.context is not None:
            self.context.inputs.fit_statistics(self.context.rows(jets) for jets in batches)
        if self.collections is not None:
            self.collections.fit_statistics(batches)

    def copy_statistics(self, other: BaseEncoder) -> None:
        """Take the statistics of all inputs from another encoder of the same inputs, but no weights."""
        own, others = dict(self.named_buffers()), dict(other.named_buffers())
        for name, values in own.items():
            values.copy_(others[name])

    def set_pool(self, pool: Pool) -> None:
        """Pool z by another rule from now on; its weights, if any, are newly initialized."""
        cfg = self.cfg = self.cfg.model_copy(update={"pool": pool})
        by_class = pool == "class"
        self.dim = cfg.z_tokens * (cfg.z_width or self.width) if by_class else self.width
        self.z_out = nn.Linear(self.width, cfg.z_width) if cfg.z_width and by_class else nn.Identity()
        init_weights(self.z_out)
        attention = AttentionPool(self.width, cfg.shape[2]) if pool == "attention" else None
        self.pool = MeanPool() if pool == "mean" else attention


class ContextToken(nn.Module):
    """Token from the context of a jet: a linear map of its inputs, zero at first, and vectors of missing ones."""

    def __init__(self, definitions: Mapping[str, FeatureSettings], width: int) -> None:
        super().__init__()
        self.inputs = DeclaredInputs(definitions)
        self.embed = nn.Linear(self.inputs.width, width)
        self.missing = nn.Parameter(0.02 * torch.randn(len(definitions), width))
        nn.init.zeros_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, jets: Jets) -> Tensor:
        """Return the token of each jet, `[jet, width]`."""
        inputs, missing = self.inputs(self.rows(jets))
        token: Tensor = self.embed(inputs).float() + missing @ self.missing
        return token

    def rows(self, jets: Jets) -> Tensor:
        """Return the context of each jet, `[jet, number]`; NaN for a number that the jets lack."""
        absent = jets.particles.new_full((len(jets),), torch.nan)
        return torch.stack([jets.context.get(name, absent) for name in self.inputs.names], dim=1)


_AnyEncoder = TypeVar("_AnyEncoder", bound=BaseEncoder)


def random_like(encoder: _AnyEncoder, seed: int) -> _AnyEncoder:
    """Return an encoder of the same shape and feature statistics with random weights: the baseline of every probe."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(encoder)(encoder.cfg)
    fresh.copy_statistics(encoder)
    fresh.reads_context, fresh.reads_collections = encoder.reads_context, encoder.reads_collections
    return fresh.to(next(encoder.parameters()).device).eval()


def parameter_count(module: nn.Module) -> int:
    """Count the trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


class MeanPool(nn.Module):
    """Mean of the particle tokens; zero for a jet without particles."""

    def forward(self, class_token: Tensor, tokens: Tensor, jets: Jets) -> Tensor:
        """Pool `[particle, width]` to `[jet, width]`."""
        return jets.mean(tokens)

    def padded(self, class_token: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool `[jet, particle, width]` with a mask of real particles `[jet, particle]` to `[jet, width]`."""
        total = torch.where(mask.unsqueeze(2), tokens, 0.0).sum(1)
        return total / mask.float().sum(1, keepdim=True).clamp(min=1)


class AttentionPool(nn.Module):
    """Block of class attention (CaiT, arXiv:2103.17239; for frozen tokens the attentive probe of arXiv:2404.08471).

        c <- c + W attention(query W_q norm(c), keys and values W_kv norm(tokens))
        c <- c + MLP(norm(c)),      z = norm(c)

    with the class token c. At initialization z is close to norm(c), since the last layers are small. A jet without
    particles keeps its class token.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_class, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for layer in (self.proj, self.mlp[-1]):
            assert isinstance(layer, nn.Linear)
            layer.weight.data.mul_(0.1)

    def forward(self, class_token: Tensor, tokens: Tensor, jets: Jets) -> Tensor:
        """Pool class tokens `[jet, width]` and particle tokens `[particle, width]` to `[jet, width]`."""
        query, keys, values = self._attention_inputs(class_token, tokens)
        return self._output(class_token, single_query_attention(query, keys, values, jets.jet_of_particle))

    def padded(self, class_token: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool `[jet, particle, width]` with a mask of real particles `[jet, particle]` to `[jet, width]`."""
        query, keys, values = self._attention_inputs(class_token, tokens)
        return self._output(class_token, padded_attention(query.unsqueeze(1), keys, values, mask).squeeze(1))

    def _attention_inputs(self, class_token: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query `[jet, head, d]`, keys and values `[..., head, d]` of tokens `[..., width]`."""
        query = self.query(self.norm_class(class_token)).unflatten(1, (self.heads, -1))
        keys, values = self.key_value(self.norm_tokens(tokens)).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return query, keys, values

    def _output(self, class_token: Tensor, mixed: Tensor) -> Tensor:
        """Return the pooled `[jet, width]` of the attention's output `[jet, head, d]`."""
        z = class_token + self.proj(mixed.flatten(1))
        pooled: Tensor = self.norm(z + self.mlp(z))
        return pooled


def _rename_trunk(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Give the weights of models saved before `trunk` became `transformer` today's names, in place."""
    for name in [name for name in state if name.startswith(f"{prefix}trunk.")]:
        state[f"{prefix}transformer.{name.removeprefix(prefix + 'trunk.')}"] = state.pop(name)
