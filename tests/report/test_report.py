"""Reports: complete, self-contained, and with the numbers of the folder."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from ssl_jets.errors import DataError
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result import ZMap
from ssl_jets.evaluation.result_base import plain
from ssl_jets.protocols.domain_result import DomainResult
from ssl_jets.report import album, write_evaluation_report, write_result_report, write_run_report
from ssl_jets.report.figures.evaluation import MAP_PANELS, mapped_classes
from ssl_jets.report.page import picture
from support.report_folders import write_domain, write_evaluation, write_run

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and gathers what a page refers to and says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.cells: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "srcset") and value]
        self.links += [value for name, value in attrs if name == "href" and value]
        self.anchors += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] == "td":
            self.cells.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def run_page(run_report: Path) -> Page:
    return read(run_report)


def test_a_class_with_too_few_jets_after_some_finetunings_has_the_gap_of_the_others(tmp_path: Path) -> None:
    write_domain(tmp_path)
    content = json.loads((tmp_path / "domain.json").read_text())
    gap = content["before"]["mae"]["gap"]
    gap["by_class"] = {"QCD": gap["all"], "Hbb": gap["all"]}
    content["rows"][0]["gap"]["by_class"] = {"QCD": gap["all"] | {"a_distance": Estimate(0.1, 0, 0.2, 0, 0.3)}}
    (tmp_path / "domain.json").write_text(json.dumps(plain(content)))
    text = write_result_report(tmp_path, DomainResult).read_text()
    assert "<td>none</td><td>q/g (QCD)</td><td>0.3000</td><td>0.1000</td>" in text
    assert "<td>dann</td><td>H → bb̄</td><td>0.3000</td><td>–</td>" in text


def test_the_page_refers_to_nothing_outside(run: Path, run_page: Page) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert run_page.sources
    assert all(source.startswith("data:image/png;base64,") for source in run_page.sources)
    inside = [link for link in run_page.links if link.startswith("#")]
    assert [link[1:] for link in inside] == run_page.anchors
    assert len(inside) > 3
    for link in set(run_page.links) - set(inside):
        assert link.startswith(("data:application/pdf;base64,", "data:text/csv;base64,")), link[:60]
    assert not re.search(r"https?://|url\(|@import", re.sub(r"base64,[^\"]*", "", html))


def test_every_figure_is_embedded_and_lies_in_the_folder(run: Path, run_page: Page) -> None:
    saved = [link for link in run_page.links if link.startswith("data:")]
    embedded = [base64.b64decode(source.split(",", 1)[1]) for source in [*run_page.sources, *saved]]
    files = sorted((run / "figures").iterdir())
    assert sorted(file.read_bytes() for file in files) == sorted(embedded)
    names = {
        "evaluation-roc",
        "evaluation-confusion",
        "evaluation-probes",
        "evaluation-reliability",
        "evaluation-z_map",
    }
    names |= {f"evaluation-{name}" for name in ("regression", "physics", "robustness")}
    names |= {"training", "collapse"}
    assert {file.stem for file in files} == names
    assert len(files) == 3 * len(names)


def test_only_a_figure_too_wide_to_be_scaled_scrolls_on_a_phone_and_says_so() -> None:
    narrow, wide = (picture(b"png", width, "alt", "caption", {}) for width in (515, 700))
    assert [text in narrow for text in ("scroll", "swipe")] == [False, False]
    assert [text in wide for text in ("scroll", "swipe")] == [True, True]


def test_figures_are_not_blank(run: Path, run_page: Page) -> None:
    for file in (run / "figures").glob("*.png"):
        image = matplotlib.image.imread(file)[..., :3]
        dark = np.mean(image.min(axis=-1) < 0.6)
        assert 0.005 < dark < 0.6, file.name
        colours = (image[::2, ::2] * 15).astype(int) @ [256, 16, 1]
        assert len(np.unique(colours)) > 10, file.name


def test_the_numbers_shown_are_those_of_the_metrics(run: Path, run_page: Page) -> None:
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    task = metrics["task"]
    for found in (task["accuracy"], task["auc"], task["log_loss"], task["calibration_error"]):
        place = run_page.cells.index(f"{found['value']:.4f}")
        assert run_page.cells[place + 1] == f"{found['low']:.4f} to {found['high']:.4f}"
        assert run_page.cells[place + 2] == f"{found['low95']:.4f} to {found['high95']:.4f}"
    for probe in metrics["probes"]:
        assert f"{probe['accuracy']['value']:.4f}" in run_page.cells
        assert f"{probe['auc']['value']:.4f}" in run_page.cells
    for rejection in task["rejections"]:
        assert f"{rejection['survivors']:,} of {rejection['background_jets']:,}" in run_page.cells
    assert metrics["model"]["sha256"] in run_page.cells


def test_a_lower_limit_is_shown_as_one(tmp_path: Path) -> None:
    page = read(write_evaluation_report(write_evaluation(tmp_path / "e", skill=30.0)))
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    found = metrics["task"]["rejections"][0]
    assert found["rejection"]["limit"]
    assert f"≥ {found['background_jets']}" in page.cells
    assert "inf" not in page.text.split()


def test_settings_files_and_hashes_are_there(run_page: Page) -> None:
    for text in ("method.ratio", "0.4", "cd" * 32, "a.root 100, b.root 200", "ln GeV", "jets <1>.root", "1,234,567"):
        assert text in run_page.cells
    assert "Only held-out jets are <tested>." in run_page.text


def test_the_fair_comparison_comes_first(run: Path, run_page: Page) -> None:
    found = json.loads((run / "evaluation" / "metrics.json").read_text())["against_observables"]
    gap = found["difference"]
    assert gap["low95"] > 0
    ours, base = found["z"], found["baseline"]
    assert (ours["of"], base["of"]) == ("z", "observables")
    sentence = (
        f"z is better than observables computed from the particles: accuracy {ours['accuracy']['value']:.3f} (linear "
        f"probe on z, 300 labelled jets) against {base['accuracy']['value']:.3f} (linear probe on observables, 300 "
        f"labelled jets), difference {gap['value']:+.3f} (95 %: {gap['low95']:+.3f} to {gap['high95']:+.3f}) on the "
        "same 400 test jets."
    )
    assert sentence in run_page.text
    assert run_page.text.index(sentence) < run_page.text.index("effective rank of z")


def test_results_without_baselines_on_observables_have_a_report_too(run: Path, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "e")
    for name in ("metrics", "curves"):
        content = json.loads((folder / f"{name}.json").read_text()) | {"format_version": 1}
        if name == "metrics":
            del content["against_observables"]
            content["probes"] = [probe for probe in content["probes"] if probe["of"] != "observables"]
            strongest = content["headline"]["difference"]
        (folder / f"{name}.json").write_text(json.dumps(content))
    shown = read(write_evaluation_report(folder)).text
    assert "observables computed from the particles:" not in shown
    assert "z is better than the strongest baseline: accuracy" in shown
    assert f"difference {strongest['value']:+.3f}" in shown


def test_a_model_without_a_run_has_its_name_in_the_title(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "e")
    assert "<h1>Evaluation of small-ssl</h1>" in write_evaluation_report(folder, name="small-ssl").read_text()


def test_figures_carry_the_line_of_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []

    def look(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
        if kind == "png":
            shown.append([text.get_text() for text in figure.findobj(Text)])
        return b""

    monkeypatch.setattr(album, "_saved", look)
    folder = write_evaluation(tmp_path / "e", labelled=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    label = {"experiment": "CMS", "status": "Simulation", "energy": 13.6, "luminosity": 138.0}
    metrics["settings"]["figures"] = label
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_evaluation_report(folder, write_run(tmp_path / "run"))
    assert len(shown) == 3  # the map of z, and those of the training
    for texts in shown:
        assert {"CMS", "Simulation", r"138 $\mathrm{fb}^{-1}$ (13.6 TeV)"} <= set(texts)


def test_a_figure_that_is_drawn_no_more_is_removed(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "e", head=False)
    old = folder / "figures" / "z_map.png"
    write_evaluation_report(folder)
    curves = json.loads((folder / "curves.json").read_text())
    curves["map"] |= {"x": [], "y": [], "labels": []}
    assert old.exists()
    (folder / "curves.json").write_text(json.dumps(curves))
    write_evaluation_report(folder)
    assert not old.exists()


def test_names_with_markup_are_shown_as_they_are(run_page: Page) -> None:
    assert "my <class> & $co$" in run_page.cells
    assert "H → bb̄" in run_page.cells


def test_an_unfinished_run_has_a_report_too(tmp_path: Path) -> None:
    page = read(write_run_report(write_run(tmp_path / "run", finished=False)))
    assert "not finished" in page.text
    assert len(page.sources) == 2


def test_a_collapse_is_named_with_its_step(run_page: Page) -> None:
    assert "Found: constant at step 20." in run_page.text


def test_a_run_without_a_logged_step_has_a_report_of_its_settings(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    (folder / "metrics.jsonl").unlink()
    page = read(write_run_report(folder))
    assert page.sources == []
    assert "method.ratio" in page.cells


def test_an_evaluation_report_shows_the_run_where_it_is_given(run: Path, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "evaluation", head=False)
    alone, together = (read(write_evaluation_report(folder, where)) for where in (None, run))
    assert len(together.sources) == len(alone.sources) + 2
    assert "method.ratio" in together.cells
    assert "method.ratio" not in alone.cells
    bare_model = tmp_path / "bare"
    bare_model.mkdir()
    assert read(write_evaluation_report(folder, bare_model)).cells == alone.cells


def test_an_evaluation_without_labels_shows_the_space_of_z_alone(tmp_path: Path) -> None:
    page = read(write_evaluation_report(write_evaluation(tmp_path / "e", labelled=False)))
    assert len(page.sources) == 1
    assert "participation ratio" in page.cells
    assert "Probes" not in page.text


def test_a_folder_that_is_no_run_or_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        write_run_report(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        write_evaluation_report(tmp_path)
    evaluation = write_evaluation(tmp_path / "e", head=False)
    metrics = json.loads((evaluation / "metrics.json").read_text())
    for changed in ({"jetz": {}}, {"spread": {"z": {}}}, {"format_version": 3}):
        (evaluation / "metrics.json").write_text(json.dumps(metrics | changed))
        with pytest.raises(DataError, match=f"(?s)of another version of ssl-jets.*{next(iter(changed))}") as refused:
            write_evaluation_report(evaluation)
        assert refused.value.hint is not None
    folder = write_run(tmp_path / "run", finished=False)
    (folder / "metrics.jsonl").write_text('broken\n{"step": 1, "kind": "train", "loss": 1.0}\n')
    with pytest.raises(DataError, match="line 1"):
        write_run_report(folder)


def test_the_map_of_many_classes_shows_those_that_have_jets() -> None:
    classes = [f"class {index}" for index in range(188)]

    def of_jets(labels: list[int]) -> ZMap:
        return ZMap(np.zeros(len(labels)), np.zeros(len(labels)), np.array(labels), (0.5, 0.5))

    assert mapped_classes(of_jets([150, 3, 3, -1]), classes) == ["class 3", "class 150"]
    many = of_jets([label for label in range(100) for _ in range(label)])
    assert mapped_classes(many, classes) == classes[100 - MAP_PANELS : 100]
