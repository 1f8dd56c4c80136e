"""Formulas equal numpy, combine numbers of jets and particles, and never run code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas import pdg
from ssl_jets.data.schemas.formula import MOST_LEVELS, Formula
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import KINDS

X, Y = np.array([1.0, -2.0, 3.0, 4.0]), np.array([0.5, 0.25, 2.0, 8.0])
JET = np.array([10.0, 20.0])
ROWS = Rows(
    offsets=np.array([0, 1, 4]),
    particle={"x": X, "a.b[2]": Y},
    jet={"j": JET},
    entry=np.array([0, 1]),
    number=np.array([0, 0]),
)
OF = np.array([10.0, 20.0, 20.0, 20.0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x + 2 * a.b[2] ** 2 - x / 4", X + 2 * Y**2 - X / 4),
        ("-x % 3 // 2", -X % 3 // 2),
        ("sqrt(abs(x)) * hypot(x, a.b[2], 1)", np.sqrt(abs(X)) * np.sqrt(X**2 + Y**2 + 1)),
        ("where(x < 0 or x >= 4, j, clip(x, 0, 2))", np.where((X < 0) | (X >= 4), OF, np.clip(X, 0, 2))),
        ("0 < x < 4 and not a.b[2] == 2", (X > 0) & (X < 4) & (Y != 2)),
        ("x / j", X / OF),
        ("x > 0 && !(x >= 4) || `a.b[2]` == .25", ((X > 0) & ~(X >= 4)) | (Y == 0.25)),
        ("!x == 0 && x != 1", (~(X != 0) == 0) & (X != 1)),
        ("`a.b`[2] * `x`", Y * X),
        ("x - sum(x)", X - np.array([1.0, 5.0, 5.0, 5.0])),
        ("j", OF),
        ("7", np.full(4, 7)),
        ("eta(x, a.b[2], 1)", np.arcsinh(1 / np.hypot(X, Y))),
        ("wrap(x + 6.283185307179586)", np.array([1.0, -2.0, 3.0, 4 - 2 * np.pi])),
        ("(x > 0) + (x > 2) + (a.b[2] < 1)", np.array([2, 1, 2, 2])),
        ("(x > 0) + (x > 2) == 2", np.array([0, 0, 1, 1])),
        ("-(x > 0) - (x > 2)", np.array([-1, 0, -2, -2])),
        ("(x > 0) * (x > 2) // (x > 4)", np.array([np.nan, np.nan, np.inf, np.inf])),
        ("exp(x > 0)", np.where(X > 0, np.e, 1)),
        ("where(x > 2, x < 4, x < 0)", np.array([0, 1, 1, 0])),
    ],
)
def test_a_formula_of_particles_equals_numpy(text: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(Formula(text).of_particles(ROWS), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("sum(x)", [1, 5]), ("sum(1)", [1, 3]), ("sum(x * j) / j", [1, 5]), ("j > 15", [0, 1]), ("3", [3, 3])],
)
def test_a_formula_of_jets_sums_over_their_particles(text: str, expected: list[float]) -> None:
    assert Formula(text).of_jets(ROWS).tolist() == expected


@pytest.mark.parametrize("text", ["(j > 5) * (j > 15)", "where(j > 15, j > 5, j < 5)", "minimum(j > 5, j > 15)"])
def test_products_and_choices_of_conditions_are_conditions(text: str) -> None:
    selected = Formula(text).of_jets(ROWS)
    assert selected.dtype == np.bool_
    assert selected.tolist() == [False, True]


def test_a_missing_number_stays_missing() -> None:
    rows = replace(ROWS, jet={"j": np.array([np.nan, -0.5])})
    for function, of_known in {"sign": -1, "kind": KINDS.index("other"), "charge": 0, "mass": 0}.items():
        np.testing.assert_equal(Formula(f"{function}(j)").of_jets(rows), [np.nan, of_known])


def test_sums_over_no_particles_are_floating_numbers() -> None:
    rows = replace(ROWS, offsets=np.zeros(3, np.int64), particle={"x": np.empty(0, np.float32)})
    np.testing.assert_equal(Formula("(j + sum(x)) // sum(x)").of_jets(rows), [np.inf, np.inf])
    np.testing.assert_equal(Formula("sum(1) % sum(x)").of_jets(rows), [np.nan, np.nan])


@pytest.mark.parametrize(("kind", "sentinel"), [(np.int64, -(2**63)), (np.int64, 2**63 - 1), (np.uint64, 2**64 - 1)])
def test_whole_numbers_that_double_precision_would_round_are_refused(kind: type, sentinel: int) -> None:
    def odd(event: int) -> list[bool]:
        rows = replace(ROWS, jet={"event": np.array([event, sentinel], dtype=kind)})
        return Formula(f"event == {sentinel} || event % 2 == 1").of_jets(rows).tolist()

    assert odd(2**53 - 1) == [True, True]
    assert odd(2**53) == [False, True]
    with pytest.raises(DataError, match="event = 9007199254740993\n"):
        odd(2**53 + 1)


def test_numbers_of_particles_are_no_number_of_a_jet() -> None:
    with pytest.raises(UsageError, match="for each particle"):
        Formula("x + j").of_jets(ROWS)


def test_the_names_of_a_formula_are_the_branches_it_reads() -> None:
    assert Formula("hypot(a.b[2], c_d) * x + sum(a.b[2])").names == ("a.b[2]", "c_d", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x +* y", "at character 4"),
        ("sqrt(x", "not a formula"),
        ("sqrtt(x)", "no such function.*known are sqrt"),
        ("hypot(x)", "hypot takes 2 or more arguments, not 1"),
        ("where(x, y)", "where takes 3 arguments, not 2"),
        ("__import__('os')", "no such function"),
        ("x.__class__()", "not allowed in a formula"),
        ("[x for x in y]", "not allowed in a formula"),
        ("(lambda: x)()", "not allowed in a formula"),
        ("x if y else z", "not allowed in a formula: 'x if y else z' at character 1"),
        ("x & y", "not allowed in a formula"),
        ("a['b']", "not allowed in a formula"),
        ("'text'", "not allowed in a formula"),
        ("~x", "not allowed in a formula: '~' at character 1"),
        ("`é b` && `x +* y` +* z", "at character 20"),
        ("x && sqrtt(`é`)", r"no such function: 'sqrtt\(`é`\)' at character 6"),
        ("``", "not a formula"),
        ("", "not a formula"),
    ],
)
def test_a_forbidden_expression_is_an_error_with_its_position(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Formula(text)


def test_pdg_numbers_have_kind_charge_and_mass_and_antiparticles_the_opposite_charge() -> None:
    numbers = np.array([211, -211, 2212, -3112, 130, 2112, 22, 11, -11, 13, 1, 2, 0, 12, 999999])
    kinds = [KINDS[int(kind)] for kind in pdg.kind(numbers)]
    expected = ["charged hadron"] * 4 + ["neutral hadron"] * 2 + ["photon", "electron", "electron", "muon"]
    assert kinds == [*expected, "neutral hadron", "photon", "other", "other", "other"]
    assert pdg.charge(numbers).tolist() == [1, -1, 1, 1, 0, 0, 0, -1, 1, -1, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(pdg.mass(numbers)[[0, 2, 6]], [0.13957, 0.93827, 0], rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_no_pdg_numbers_are_other_and_missing_ones_missing() -> None:
    kinds = pdg.kind(np.array([np.inf, -np.inf, 1e300, 211.5, np.nan]))
    np.testing.assert_array_equal(kinds, [KINDS.index("other")] * 4 + [np.nan])


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "x" + ")" * 5000,
        "-" * 5000 + "x",
        "+".join(["x"] * 4000),
        "x" + ".y" * 20_000,
        "abs(" * 90 + "x",
        "**".join(["9"] * 2000),
        "x if " * 2000,
    ],
)
def test_a_formula_without_end_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"formula") as caught:
        Formula(text)
    assert len(str(caught.value)) < 25_000


def test_a_formula_of_the_deepest_nesting_is_computed() -> None:
    deep = Formula("+".join(["1"] * MOST_LEVELS))
    assert deep.of_jets(ROWS).tolist() == [MOST_LEVELS] * 2
