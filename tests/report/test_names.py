"""Names, colours and numbers as they are shown."""

from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.mathtext import MathTextParser

from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.probes.results import OBSERVABLES, PARTICLES, RANDOM, ProbeResult
from ssl_jets.evaluation.probes.robustness import STRESSES
from ssl_jets.jets import COLUMNS
from ssl_jets.report import page
from ssl_jets.report.figures import style
from ssl_jets.report.figures.evaluation import ReaderRow
from ssl_jets.report.sections.comparison import paint, probes


def test_every_class_of_jetclass_has_a_name_that_matplotlib_can_draw() -> None:
    jetclass = next(schema for schema in known_schemas() if schema.name == "jetclass")
    for name in jetclass.labels:
        assert style.in_text(name) != name
        MathTextParser("agg").parse(style.in_figure(name))


def test_axes_have_titles_and_units_in_the_symbols_of_physics() -> None:
    for stress in STRESSES:
        assert "pt" not in style.axis_label(stress.unit)
    assert set(style.PARTICLE_LABELS) == set(COLUMNS)
    columns = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_nparticles", "jet_tau3", "jet_tau4/jet_tau3")
    for label in [*map(style.axis_label, columns), *style.PARTICLE_LABELS.values()]:
        assert "_" not in label.split("$")[0]
        MathTextParser("agg").parse(label)


def test_ten_classes_have_ten_colours() -> None:
    classes = [f"class {i}" for i in range(10)]
    assert len({style.colour(name, classes) for name in classes}) == 10
    pairs = {(style.colour(name, classes), style.line_style(name, classes)) for name in classes}
    assert len(pairs) == 10


def test_no_model_of_a_comparison_has_the_colour_of_a_baseline() -> None:
    names = [f"run {i}" for i in range(8)]
    colours = [paint(name, names) for name in names]
    assert len(set(colours)) == 8
    half = Estimate(0.5, 0.4, 0.6, 0.3, 0.7)
    baselines = [ReaderRow("linear", half, half, 0.5, 2, 9, of) for of in (OBSERVABLES, PARTICLES, RANDOM)]
    assert not set(colours) & {row.colour for row in baselines}


def test_random_weights_of_models_of_other_shapes_have_the_names_of_their_models() -> None:
    def probe(of: str, accuracy: float) -> ProbeResult:
        half = Estimate(accuracy, 0.4, 0.6, 0.3, 0.7)
        return ProbeResult("linear", of, 2, 9, 5, half, half, 0.5)

    shapes = {"small": 0.5, "large": 0.55, "other": 0.5}
    models: Any = {
        name: SimpleNamespace(task=None, probes=[probe("z", 0.58), probe(RANDOM, value), probe(OBSERVABLES, 0.45)])
        for name, value in shapes.items()
    }
    figure = probes(models)
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][3:] == [
        "small, other: linear, random weights (9 jets)",
        "large: linear, random weights (9 jets)",
        "linear, observables (9 jets)",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (5479.4, "5,480"),
        (33.3333, "33.3"),
        (1.5, "1.50"),
        (4, "4.00"),
        (0, "0.00"),
        (100, "100"),
        (10638, "10,600"),
        (0.00123, "0.00123"),
        (1.234e-5, "0.0000123"),
        (99.96, "100"),
    ],
)
def test_significant_digits(value: float | None, text: str) -> None:
    assert page.significant(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(None, 1.0, "–"), (2.0, None, "–"), (3.44, 2.0, "3.4 ± 2.0"), (2230.5, 51.2, "2,230 ± 51"), (0.5, 0.0, "0.500")],
)
def test_a_value_has_the_decimals_of_its_error(value: float | None, error: float | None, text: str) -> None:
    assert page.with_error(value, error) == text


def test_the_index_of_an_efficiency_stands_below_the_line_and_other_text_is_escaped() -> None:
    assert "<th>ε<sub>S</sub>/√ε<sub>B</sub></th>" in page.table(("ε_S/√ε_B",), [])
    assert page.paragraph("<b> a_S") == "<p>&lt;b&gt; a_S</p>"


def test_nested_settings_are_flat_and_lists_readable() -> None:
    rows = page.flatten({"a": {"b": 1, "c": None}, "d": [1, 2], "e": []})
    assert rows == [("a.b", "1"), ("a.c", "not set"), ("d", "1, 2"), ("e", "none")]
