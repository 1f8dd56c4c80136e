"""Settings of the encoder (`model.*`)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ssl_jets.config.base import Settings

SIZES = {"tiny": (64, 4), "small": (128, 8), "base": (256, 8), "large": (512, 12), "giant": (1024, 32)}
"""Width and blocks of each size."""
SHAPE = ("width", "blocks", "heads")
"""Settings that replace the numbers of a size."""
HEAD_WIDTH = 32
"""Width of an attention head, unless the number of heads is set."""


Transform = Literal["none", "log", "log1p", "signed_log", "tanh", "sqrt"]
"""Transforms of a continuous feature; `signed_log` is sign(x) ln(1 + |x|)."""


class FeatureSettings(Settings):
    """Definition of a feature of particles, or of a number of the context of jets, beyond the canonical columns."""

    unit: str = "1"
    """Unit of its values in `Jets`."""
    transform: Transform = "none"
    """Transform before the values are standardized; a value for which it is not defined counts as missing."""
    categories: tuple[int | str, ...] = ()
    """Values of a categorical feature, in the order of their indices; any other value has the index behind the last."""
    target: bool = False
    """Whether decoders of particles predict it."""

    @model_validator(mode="after")
    def _one_type(self) -> FeatureSettings:
        if self.categories and self.transform != "none":
            raise ValueError("categories have no transform")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is named twice")
        return self


class CollectionSettings(Settings):
    """Definition of a further collection of a jet, such as its secondary vertices."""

    features: dict[str, FeatureSettings] = Field(min_length=1)
    """Definitions of the numbers of an element."""
    most: int = Field(ge=1)
    """Elements of a jet that are read: the first ones of the file."""


INPUT_GROUPS = ("columns", "features", "context", "collections")
"""Words in `model.inputs` that stand for all canonical columns, features, context and collections of the files."""


class ModelSettings(Settings):
    """The encoder (`model.*`)."""

    inputs: tuple[str, ...] | None = None
    """Columns, features, context and collections that the encoder reads, by name; `columns`, `features`, `context` and
    `collections` stand for all of a group. By default the canonical columns of the files."""
    features: dict[str, FeatureSettings] = Field(default={})
    """Definitions of the features among `inputs`; taken from the schemas of the files."""
    context: dict[str, FeatureSettings] = Field(default={})
    """Definitions of the context among `inputs`; taken from the schemas of the files."""
    collections: dict[str, CollectionSettings] = Field(default={})
    """Definitions of the collections among `inputs`; taken from the schemas of the files."""
    size: Literal["tiny", "small", "base", "large", "giant"] = "small"
    """Width x blocks: tiny 64x4, small 128x8, base 256x8, large 512x12, giant 1024x32."""
    width: int | None = Field(default=None, ge=1)
    """Numbers of a token; by default set by `size`."""
    blocks: int | None = Field(default=None, ge=1)
    """Transformer blocks; by default set by `size`."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads, a divisor of the width; by default a head for 32 numbers of the width."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the updates of attention and MLP in training."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Share of jets that skip an update of the last block during training (stochastic depth); 0 in the first block."""
    registers: int = Field(default=8, ge=0)
    """Register tokens: sinks of attention, which are discarded."""
    z_tokens: int = Field(default=1, ge=1)
    """Class tokens; z is their concatenation."""
    z_width: int = Field(default=0, ge=0)
    """Numbers of z from each class token, by a linear map: a bottleneck. 0 keeps the width of the encoder."""
    pool: Literal["class", "mean", "attention"] = "class"
    """Source of z: the class token, the mean of the particle tokens, or a block of attention over them."""
    pair_bias: bool = False
    """Add a learned bias from ln dR, ln kT, ln z, ln m^2 of each pair of particles to the attention."""
    architecture: str | None = None
    """Name of a foreign encoder, which `convert` sets; None for the set transformer of these settings."""
    options: dict[str, Any] = Field(default={})
    """Arguments of the constructor of the foreign encoder, as JSON values."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        width, _, heads = self.shape
        if width % heads:
            raise ValueError(f"a width of {width} is not divisible by {heads} heads; set model.heads")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Width, blocks and heads: from `size`, unless they are set."""
        width, blocks = self.width or SIZES[self.size][0], self.blocks or SIZES[self.size][1]
        return width, blocks, self.heads or max(1, width // HEAD_WIDTH)

    def title(self) -> str:
        """Return the size, and its changed numbers: `tiny`, or `tiny with width 96`; or the name of another encoder."""
        if self.architecture is not None:
            return self.architecture
        changed = [f"{key} {value}" for key in SHAPE if (value := getattr(self, key)) is not None]
        return self.size + (f" with {', '.join(changed)}" if changed else "")
