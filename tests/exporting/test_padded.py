"""The encoder on padded jets equals the packed one up to rounding, for every shape of encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_jets.exporting.padded import PaddedEncoder
from ssl_jets.jets import COLUMNS, Jets, offsets_of
from ssl_jets.nn.attention.attend import AttentionLayout, attend, padded_attention, single_query_attention
from support.small_models import made_jets, tiny_encoder, without_columns

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
LENGTHS = [1, 2, 50, 120, 7, 7]
ENCODERS: list[dict[str, Any]] = [
    {},
    {"registers": 0},
    {"registers": 3, "pair_bias": True},
    {"z_tokens": 4, "z_width": 6},
    {"pool": "mean", "registers": 0},
    {"pool": "attention", "pair_bias": True},
    {"size": "small"},
]


@pytest.fixture(scope="module")
def jets() -> Jets:
    return made_jets(LENGTHS)


def table_of(jets: Jets, length: int | None = None) -> tuple[Tensor, Tensor]:
    """The table with all columns, NaN for those that the jets lack and for padding, and its mask."""
    values, mask = jets.to_padded(length)
    values[~mask] = torch.nan
    table = torch.full((*values.shape[:2], len(COLUMNS)), torch.nan)
    table[:, :, [COLUMNS.index(name) for name in jets.columns]] = values
    return table, mask.float()


@pytest.mark.parametrize("settings", ENCODERS, ids=str)
@torch.no_grad()
def test_z_and_tokens_equal_those_of_the_packed_encoder(settings: dict[str, Any], jets: Jets, batch: Jets) -> None:
    encoder = tiny_encoder(batch, **settings).eval()
    encoder.missing.normal_()
    table, mask = table_of(jets)
    z, tokens = PaddedEncoder(encoder, COLUMNS)(table, mask)
    packed = encoder(jets)
    torch.testing.assert_close(z, packed.z, **CLOSE)
    torch.testing.assert_close(tokens[mask.bool()], packed.tokens, **CLOSE)
    assert not tokens[~mask.bool()].any()


@pytest.mark.parametrize(
    "lacking", [("energy",), ("charge",), ("kind",), ("d0",), ("dzerr", "kind"), COLUMNS[3:]], ids=" ".join
)
@torch.no_grad()
def test_nan_is_a_missing_column(lacking: tuple[str, ...], jets: Jets, batch: Jets) -> None:
    encoder = tiny_encoder(batch, pair_bias=True).eval()
    encoder.missing.normal_()
    packed = encoder(without_columns(jets, *lacking)).z
    table, mask = table_of(without_columns(jets, *lacking))
    torch.testing.assert_close(PaddedEncoder(encoder, COLUMNS)(table, mask).z, packed, **CLOSE)
    left = [name for name in COLUMNS if name not in lacking]  # a graph of an encoder trained without the column
    table = table[:, :, [COLUMNS.index(name) for name in left]]
    torch.testing.assert_close(PaddedEncoder(encoder, left)(table, mask).z, packed, **CLOSE)
    assert (packed - encoder(jets).z).abs().max() > 1e-3


@torch.no_grad()
def test_padding_and_its_place_are_without_effect(jets: Jets, batch: Jets) -> None:
    encoder = PaddedEncoder(tiny_encoder(batch, pair_bias=True).eval(), COLUMNS)
    table, mask = table_of(jets)
    z = encoder(table, mask).z
    wider, its_mask = table_of(jets, 133)
    torch.testing.assert_close(encoder(wider.nan_to_num(-7e9), its_mask).z, z, **CLOSE)
    torch.testing.assert_close(encoder(table.flip(1), mask.flip(1)).z, z, **CLOSE)


@torch.no_grad()
def test_a_jet_without_particles_has_the_z_of_the_packed_encoder(batch: Jets) -> None:
    jets = made_jets([3, 5])
    jets = jets.keep(jets.jet_of_particle == 1)
    for pool in ("class", "mean", "attention"):
        encoder = tiny_encoder(batch, pool=pool).eval()
        table, mask = table_of(jets)
        torch.testing.assert_close(PaddedEncoder(encoder, COLUMNS)(table, mask).z, encoder(jets).z, **CLOSE)


@torch.no_grad()
def test_a_nan_in_pt_makes_z_of_its_jet_nan(jets: Jets, batch: Jets) -> None:
    table, mask = table_of(jets)
    table[2, 3, 0] = torch.nan
    finite = PaddedEncoder(tiny_encoder(batch).eval(), COLUMNS)(table, mask).z.isfinite().all(1)
    assert finite.tolist() == [True, True, False, True, True, True]


def test_padded_attention_equals_the_packed_functions() -> None:
    lengths = torch.tensor([1, 4, 9])
    q, k, v = torch.randn(3, 14, 2, 8)
    mask = torch.arange(9) < lengths.unsqueeze(1)
    jet, place = mask.nonzero(as_tuple=True)
    padded = [x.new_zeros(3, 9, 2, 8).index_put((jet, place), x) for x in (q, k, v)]
    bias = torch.randn(3, 2, 9, 9)
    biases = [bias[[number], :, :length, :length] for number, length in enumerate(lengths)]
    layout = AttentionLayout.of(offsets_of(lengths))
    torch.testing.assert_close(padded_attention(*padded, mask)[mask], attend(q, k, v, layout), **CLOSE)
    torch.testing.assert_close(padded_attention(*padded, mask, bias)[mask], attend(q, k, v, layout, biases), **CLOSE)
    one = padded_attention(padded[0][:, :1], padded[1], padded[2], mask).squeeze(1)
    torch.testing.assert_close(one, single_query_attention(padded[0][:, 0], k, v, jet), **CLOSE)
