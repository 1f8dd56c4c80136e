"""Operations on packed jets against plain Python lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_jets.config import FeatureSettings, ModelSettings
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate, offsets_of
from ssl_jets.model import Model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from support.small_models import made_jets

Rows = list[list[float]]
lengths_of_jets = st.lists(st.integers(0, 6), min_size=1, max_size=6)
quick = settings(max_examples=25, deadline=None)


def numbered(lengths: list[int], start: int = 0) -> Jets:
    """Jets whose particles and jet columns are numbered through, with every optional part."""
    particles = torch.arange(start, start + sum(lengths)).float()
    jets = torch.arange(len(lengths)) + start
    return Jets(
        torch.stack([particles, -particles], dim=1),
        torch.tensor([0, *lengths]).cumsum(0),
        columns=("pt", "deta"),
        jet={"mass": jets * 10.0},
        labels=jets % 3,
        source=torch.stack([jets, jets + 1, jets + 2], dim=1),
    )


def lists(jets: Jets) -> list[Rows]:
    """Particles of each jet."""
    return [rows.tolist() for rows in jets.particles.split(jets.lengths.tolist())]


def test_own_arrays_become_jets_in_the_order_of_the_columns() -> None:
    first, second = np.array([[0.1, 5.0, -0.2], [0.3, 4.0, 0.0]]), [[0.0, 1, 2]]
    jets = Jets.of([first, second], columns=("deta", "pt", "dphi"))
    assert jets.columns == ("pt", "deta", "dphi")
    assert jets.offsets.tolist() == [0, 2, 3]
    torch.testing.assert_close(jets.particles, torch.tensor([[5, 0.1, -0.2], [4, 0.3, 0], [1, 0, 2]]))


@pytest.mark.parametrize(
    ("particles", "columns", "message"),
    [
        ([[[1.0, 2, 3]]], ("pt", "eta", "dphi"), "unknown: eta"),
        ([[[1.0, 2]]], ("pt", "deta"), "missing: dphi"),
        ([[[1.0, 2, 3, 99]]], ("pt", "deta", "dphi", "pt"), "twice: pt"),
        ([[[1.0, 2, 3]], [[1.0, 2]]], ("pt", "deta", "dphi"), "jet 1"),
        ([np.empty((0, 3))], ("pt", "deta", "dphi"), "jet 0"),
        ([[[1.0, np.nan, 3]]], ("pt", "deta", "dphi"), "1 values not finite"),
        ({"pt": [1.0], "deta": [2.0]}, ("pt", "deta", "dphi"), "jet 0(.|\n)*could not convert string"),
        ([{"pt": [1.0], "eta": [2.0], "dphi": [0.1]}], ("pt", "deta", "dphi"), "lack a column: deta"),
        ([{"pt": [1.0], "deta": [2.0, 3.0], "dphi": [0.1]}], ("pt", "deta", "dphi"), "jet 0"),
        ([None], ("pt", "deta", "dphi"), "jet 0"),
    ],
)
def test_arrays_that_are_no_jets_are_told(particles: list[Any], columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Jets.of(particles, columns)


def test_columns_with_names_are_read_by_name() -> None:
    columns, others = ("pt", "deta", "dphi"), {"energy": [320.0, 96.0], "dphi": [0.1, 0.2], "deta": [0.3, 0.4]}
    jet = {**others, "pt": [310.0, 95.0]}  # in another order, with a column that is not asked for
    structured = np.zeros(2, [(name, "f8") for name in jet])
    for name, values in jet.items():
        structured[name] = values
    tables = [jet, structured, pa.table(jet), ak.zip(jet)]
    expected = Jets.of([list(zip(*(jet[name] for name in columns)))], columns).particles
    for table in tables:
        assert torch.equal(Jets.of([table], columns).particles, expected)
    assert torch.equal(Jets.of(ak.Array([ak.to_list(ak.zip(jet))]), columns).particles, expected)


@quick
@given(lengths_of_jets, st.data())
def test_keep_drops_particles_and_never_jets(lengths: list[int], data: st.DataObject) -> None:
    jets = numbered(lengths)
    mask = data.draw(st.lists(st.booleans(), min_size=sum(lengths), max_size=sum(lengths)))
    kept = jets.keep(torch.tensor(mask, dtype=torch.bool))
    flags = iter(mask)
    assert lists(kept) == [[row for row in jet if next(flags)] for jet in lists(jets)]
    assert kept.offsets.dtype == torch.int64
    assert kept.labels is jets.labels


@quick
@given(lengths_of_jets, st.data())
def test_select_gathers_jets_in_any_order_with_all_that_belongs_to_them(
    lengths: list[int], data: st.DataObject
) -> None:
    jets = numbered(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    picked = jets.select(torch.tensor(chosen, dtype=torch.int64))
    assert picked.labels is not None
    assert picked.source is not None
    assert jets.labels is not None
    assert jets.source is not None
    assert len(picked) == len(chosen)
    assert lists(picked) == [lists(jets)[index] for index in chosen]
    assert picked.jet["mass"].tolist() == [jets.jet["mass"].tolist()[index] for index in chosen]
    assert picked.labels.tolist() == [jets.labels.tolist()[index] for index in chosen]
    assert picked.source.tolist() == [jets.source.tolist()[index] for index in chosen]
    assert picked.columns == jets.columns


@quick
@given(st.lists(lengths_of_jets, min_size=1, max_size=4))
def test_concatenate_joins_and_select_cuts_again(batches: list[list[int]]) -> None:
    pieces = [numbered(lengths, start=100 * index) for index, lengths in enumerate(batches)]
    joined = concatenate(pieces)
    assert lists(joined) == [jet for piece in pieces for jet in lists(piece)]
    start = 0
    for piece in pieces:
        again = joined.select(torch.arange(start, start + len(piece)))
        for name in ("particles", "offsets", "labels", "source"):
            assert torch.equal(getattr(again, name), getattr(piece, name)), name
        assert torch.equal(again.jet["mass"], piece.jet["mass"])
        start += len(piece)


def test_concatenate_has_labels_only_where_all_batches_have_them() -> None:
    with_labels, without = numbered([2, 1]), numbered([3])
    without.labels = None
    assert concatenate([with_labels, without]).labels is None
    assert concatenate([with_labels, without]).source is not None


@quick
@given(lengths_of_jets, st.data())
def test_rank_by_pt_is_the_place_in_a_sorted_list(lengths: list[int], data: st.DataObject) -> None:
    jets = numbered(lengths)
    total = sum(lengths)
    pts = data.draw(st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.0]), min_size=total, max_size=total))
    jets.particles[:, 0] = torch.tensor(pts)
    expected = []
    for jet in lists(jets):
        order = sorted(range(len(jet)), key=lambda place, jet=jet: -jet[place][0])  # type: ignore[misc]
        expected += [order.index(place) for place in range(len(jet))]
    assert jets.rank_by_pt().tolist() == expected


@quick
@given(lengths_of_jets)
def test_mean_is_the_mean_of_each_jet_and_zero_for_an_empty_one(lengths: list[int]) -> None:
    jets = numbered(lengths)
    expected = [[sum(column) / len(jet) for column in zip(*jet)] if jet else [0.0, 0.0] for jet in lists(jets)]
    torch.testing.assert_close(jets.mean(jets.particles), torch.tensor(expected))
    torch.testing.assert_close(jets.mean(jets.column("pt")), torch.tensor(expected)[:, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_values_of_16_bits_are_those_of_float32(dtype: torch.dtype) -> None:
    jets = numbered([1000, 3])
    for values in (torch.rand(1003, 4).to(dtype), torch.rand(1003).to(dtype)):
        torch.testing.assert_close(jets.mean(values), jets.mean(values.float()))


@quick
@given(lengths_of_jets, st.sampled_from([None, 1, 3, 9]))
def test_to_padded_shows_real_particles_where_its_mask_is_true(lengths: list[int], length: int | None) -> None:
    jets = numbered(lengths, start=1)
    padded, mask = jets.to_padded(length)
    cut = max(lengths) if length is None else length
    assert padded.shape == (len(lengths), cut, 2)
    for jet, rows in enumerate(lists(jets)):
        assert padded[jet][mask[jet]].tolist() == rows[:cut]
        assert mask[jet].tolist() == [place < len(rows) for place in range(cut)]
    assert not padded[~mask].any()


@quick
@given(lengths_of_jets)
def test_lengths_offsets_and_owners_agree(lengths: list[int]) -> None:
    jets = numbered(lengths)
    assert len(jets) == len(lengths)
    assert jets.lengths.tolist() == lengths
    assert torch.equal(offsets_of(torch.tensor(lengths)), jets.offsets)
    assert jets.jet_of_particle.tolist() == [jet for jet, length in enumerate(lengths) for _ in range(length)]


def test_a_column_is_found_by_its_name_and_a_missing_one_is_an_error() -> None:
    jets = numbered([2])
    assert jets.column("deta").tolist() == [0.0, -1.0]
    with pytest.raises(UsageError, match=r"no such column(.|\n)*energy(.|\n)*deta"):
        jets.column("energy")


def test_moving_to_a_device_takes_everything_along() -> None:
    moved = numbered([2, 3]).to("meta")
    assert {moved.particles.device.type, moved.offsets.device.type, moved.jet["mass"].device.type} == {"meta"}
    assert moved.labels is not None
    assert moved.source is not None
    assert {moved.labels.device.type, moved.source.device.type} == {"meta"}
    bare = made_jets([2])
    bare.labels = bare.source = None
    assert bare.to("meta").labels is None


def test_jets_of_arrays_have_their_dphi_wrapped_and_no_other_value_changed() -> None:
    values = np.array([[5.0, 0.1, 6.2], [4.0, 0.2, -0.1], [3.0, 0.3, -4.0]])
    jets = Jets.of([values], columns=("pt", "deta", "dphi"))
    torch.testing.assert_close(jets.column("dphi"), torch.tensor([6.2 - 2 * np.pi, -0.1, 2 * np.pi - 4.0]).float())
    assert torch.equal(jets.particles[:, :2], torch.tensor(values[:, :2]).float())
    assert values[0, 2] == 6.2  # the caller's array stays as it is
    given = values.astype(np.float32)
    Jets.of([given], columns=("pt", "deta", "dphi"))
    assert given[0, 2] == np.float32(6.2)


JET = np.array([[310.0, 0.02, -0.01, 311.5, 0], [95.0, -0.11, 0.07, 96.0, 1], [30.0, 0.2, 0.1, 31.0, 2]])
IMPOSSIBLE = {
    "padding": (np.vstack([JET, np.zeros((2, 5))]), "pt is zero(.|\n)*jet 1(.|\n)*2 particles(.|\n)*> 0. leaves"),
    "padding alone": (np.zeros((3, 5)), "pt is zero"),
    "negative pt": (JET * [-1, 1, 1, 1, 1], "pt is negative"),
    "MeV": (JET * [1e7, 1, 1, 1e7, 1], "pt is beyond 1,000,000(.|\n)*GeV"),
    "far forward": (np.add(JET, [0, 20, 0, 0, 0]), "its momentum"),
    "kind": (np.add(JET, [0, 0, 0, 0, 4]), "kind is not an integer from 0 to 5"),
}


@pytest.mark.parametrize(("jet", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_particles_in_memory_follow_the_rules_of_files(jet: np.ndarray[Any, Any], message: str) -> None:
    columns = ("pt", "deta", "dphi", "energy", "kind")
    assert Jets.of([JET], columns).lengths.tolist() == [3]
    with pytest.raises(UsageError, match=message):
        Jets.of([JET, jet], columns)


def test_a_mask_of_numpy_or_torch_selects_as_the_indices_of_its_jets() -> None:
    jets = made_jets([3, 1, 2])
    for mask in (np.array([True, False, True]), torch.tensor([True, False, True]), [True, False, True], [0, 2]):
        assert torch.equal(jets.select(mask).particles, jets.select(torch.tensor([0, 2])).particles)
    assert len(jets.select([])) == len(jets.select(np.zeros(3, bool))) == 0
    with pytest.raises(UsageError, match="not one value a jet"):
        jets.select([True, False])
    assert jets.keep(np.array([True, False, True, True, False, False])).lengths.tolist() == [2, 1, 0]


def test_negative_indices_count_from_the_end_in_all_that_belongs_to_the_jets() -> None:
    jets = made_jets([3, 1, 2])
    for negative, positive in ([-1], [2]), ([-2, 0], [1, 0]), ([-3, -1, 1], [0, 2, 1]):
        one, other = jets.select(negative), jets.select(positive)
        assert torch.equal(one.particles, other.particles)
        assert torch.equal(one.offsets, other.offsets)
        assert one.labels is not None
        assert other.labels is not None
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([3], r"no jet of this index(.|\n)*found: +3(.|\n)*-3 to 2"),
        ([0, -4], r"no jet of this index(.|\n)*found: +-4"),
        ([1.0], r"no indices of jets(.|\n)*float32 \[1\]"),
        ([[0, 1]], r"no indices of jets(.|\n)*int64 \[1, 2\]"),
        (1, "no indices of jets"),
        (slice(2.5), "no indices of jets"),
        (["QCD"], "no indices of jets"),
    ],
)
def test_what_is_no_index_of_a_jet_is_one_message(wrong: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made_jets([3, 1, 2]).select(wrong)


@pytest.mark.parametrize(
    ("key", "chosen"),
    [
        (slice(2), [0, 1]),
        (slice(None, None, -2), [2, 0]),
        (slice(5, 9), []),
        (1, [1]),
        (np.int64(-1), [2]),
        (torch.tensor(0), [0]),
        ([2, 0], [2, 0]),
        (np.array([False, True, True]), [1, 2]),
    ],
)
def test_brackets_select_jets_with_all_that_belongs_to_them(key: Any, chosen: list[int]) -> None:
    jets = numbered([3, 0, 2])
    one, other = jets[key], jets.select(torch.tensor(chosen, dtype=torch.int64))
    assert lists(one) == lists(other)
    assert one.labels is not None
    assert one.labels.tolist() == [chosen_jet % 3 for chosen_jet in chosen]
    assert one.jet["mass"].tolist() == [10.0 * chosen_jet for chosen_jet in chosen]


def test_a_number_beyond_the_jets_and_a_bool_are_no_jet_and_a_loop_ends() -> None:
    jets = numbered([3, 0, 2])
    assert [len(jet.particles) for jet in jets] == [3, 0, 2]
    with pytest.raises(UsageError, match=r"no jet of this index(.|\n)*found: +3"):
        jets[3]
    with pytest.raises(UsageError, match="not one value a jet"):
        jets[True]


def test_particles_are_kept_by_a_mask_and_not_by_indices() -> None:
    jets = made_jets([3, 1, 2])
    for wrong in (np.array([1, 0, 1, 1, 0, 0]), torch.tensor([0, 2]), [True, False], [1.0] * 6):
        with pytest.raises(UsageError, match=r"no mask of the particles(.|\n)*bool \[6\]"):
            jets.keep(wrong)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_a_jet_without_particles_has_nan_and_no_score(pool: Literal["class", "mean"]) -> None:
    model = Model(Encoder(ModelSettings(size="tiny", blocks=1, pool=pool)), ClassHead(64, 2), ("QCD", "Tbl"))
    jets = made_jets([3, 1, 2])
    mask = jets.jet_of_particle != 1
    z, p = model.embed(jets.keep(mask)), model.predict(jets.keep(mask))
    assert np.isnan(z).all(axis=1).tolist() == np.isnan(p).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(p[[0, 2]], model.predict(jets)[[0, 2]], rtol=1e-5)


@pytest.mark.parametrize("wrong", [4.0, -1.0, 0.5])
def test_categories_in_memory_are_indices_or_one_message(wrong: float) -> None:
    definition = FeatureSettings(categories=(0, 1, 4))
    settings = ModelSettings(size="tiny", blocks=1, features={"hits": definition}, context={"run": definition})
    columns = ("pt", "deta", "dphi", "hits")
    model = Model(Encoder(settings), facts={"training": {"columns": columns, "context": ["run"]}})
    message = r"category is given by its index(.|\n)*0 for 0, 1 for 1, 2 for 4, 3 for any other"
    good = [[5.0, 0, 0, float("nan")], [4.0, 0, 0, 3.0], [3.0, 0, 0, 0.0]]
    jets = replace(Jets.of([good], columns, features=["hits"]), context={"run": torch.tensor([3.0])})
    assert model.embed(jets).shape == (1, 64)
    with pytest.raises(UsageError, match=message):
        model.embed(Jets.of([[*good, [1.0, 0, 0, wrong]]], columns, features=["hits"]))
    with pytest.raises(UsageError, match=message):
        model.embed(replace(jets, context={"run": torch.tensor([wrong])}))


def test_no_jets_have_no_rows_of_any_result() -> None:
    model = Model(Encoder(ModelSettings(size="tiny")), ClassHead(64, 2), ("QCD", "Tbl"))
    jets = Jets.of([], columns=("pt", "deta", "dphi"))
    assert model.embed(jets).shape == (0, 64)
    assert model.predict(jets).shape == (0, 2)
    padded, mask = jets.to_padded()
    assert (padded.shape, mask.shape) == ((0, 0, 3), (0, 0))
