"""The command line: results on stdout, talk on stderr, and every mistake of a user's as one message."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import typer

from ssl_jets import __version__, cli, methods
from ssl_jets.cli.app import app
from ssl_jets.config import ModelSettings
from ssl_jets.data.files import JetFile
from ssl_jets.data.write import write_jets
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.sharing.location import bundled_models
from support.commands import Done
from support.overridden import last_of, overridden

QUICK = ["train.precision=32-true", "train.validation_jets=20", "data.buffer=300", "train.log_every=1"]
TINY = ["--size", "tiny", "--set", "model.blocks=1", "--steps", "2", "--batch-size", "8"]


@pytest.fixture
def without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no reports, which take longer than the rest of a tiny run."""
    monkeypatch.setattr("ssl_jets.report.write_run_report", lambda folder: folder)


def quick(*more: str) -> list[str]:
    return [word for assignment in last_of(QUICK, *more) for word in ("--set", assignment)]


def pretrain_words(files: list[JetFile], *more: object) -> list[object]:
    data = [word for file in files[:2] for word in ("--data", file.source)]
    return ["pretrain", "--method", "mae", *data, *TINY, *quick(), *more]


@pytest.fixture(scope="module")
def model(class_files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run pretrained for two steps."""
    from ssl_jets.pretraining import pretrain, resolve_pretrain

    layer = overridden(QUICK, "model.size=tiny", "model.blocks=1", "train.steps=2", "train.batch_size=8")
    settings = resolve_pretrain("mae", {"data": {"sources": [str(file.source) for file in class_files[:2]]}}, layer)
    return pretrain(settings, tmp_path_factory.mktemp("model") / "mae")


def assert_one_message(done: Done, code: int, *words: object) -> None:
    """A message on stderr without a traceback, nothing on stdout, and the words in it."""
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    assert done.err.count("error: ") == 1, done.err
    for word in words:
        assert str(word) in done.err, (word, done.err)


# Results


def test_the_version_is_printed(ssl_jets: Callable[..., Done]) -> None:
    assert ssl_jets("--version") == Done(0, f"{__version__}\n", "")


def test_the_program_has_its_name_however_it_was_started(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capfd.readouterr().out.split()[:2] == ["Usage:", "ssl-jets"]


def test_a_signal_ends_any_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssl_jets.cli.app.app", lambda prog_name: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 128 + signal.SIGTERM
    assert capfd.readouterr().err == "stopped by SIGTERM\n"


def test_pretrain_prints_the_run_folder_and_nothing_else(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "mae").mkdir(parents=True)  # taken, so the next free name is used
    done = ssl_jets(*pretrain_words(class_files))
    assert done.code == 0, done.err
    assert done.out == "runs/mae-2\n"
    for name in ("config.yaml", "metrics.jsonl", "log.txt", "report.html", "model", "checkpoints/last.ckpt"):
        assert (tmp_path / "runs" / "mae-2" / name).exists(), name
    assert "parameters" in done.err
    assert "\r" not in done.err  # no bar without a terminal


@pytest.mark.usefixtures("without_reports")
def test_resume_needs_no_other_option(ssl_jets: Callable[..., Done], model: Path) -> None:
    shutil.copytree(model, "r")
    done = ssl_jets("pretrain", "--out", "r", "--resume")
    assert (done.code, done.out, done.err) == (0, "r\n", "the run is finished, nothing is left to do: r/model\n")
    shutil.rmtree("r/model")  # as killed before it was written
    done = ssl_jets("pretrain", "--out", "r", "--resume")
    assert (done.code, done.out) == (0, "r\n"), done.err
    assert "resumed at step 2 of 2" in done.err


@pytest.mark.usefixtures("without_reports")
def test_a_settings_file_names_method_and_settings_and_flags_win(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(
        "method: {name: mae, mask_ratio: 0.6}\nmodel: {size: small}\ntrain: {steps: 9, batch_size: 8, lr: 1e-4}\n"
    )
    data = ["--data", class_files[0].source, "--data", class_files[1].source]
    done = ssl_jets("pretrain", "--config", "c.yaml", *data, "--size", "tiny", "--steps", 1, *quick(), "--out", "r")
    assert done.code == 0, done.err
    text = (tmp_path / "r" / "config.yaml").read_text()
    for line in ("mask_ratio: 0.6", "size: tiny", "steps: 1", "lr: 0.0001", "name: mae"):
        assert line in text


def test_methods_are_listed_and_described(ssl_jets: Callable[..., Done]) -> None:
    listed = ssl_jets("methods")
    assert [line.split()[0] for line in listed.out.splitlines()] == methods.names()
    described = ssl_jets("methods", "mae")
    assert "arXiv" in described.out
    for key, field in methods.find("mae").Config.model_fields.items():
        if key != "name":
            assert f"method.{key} = {field.default!r}" in described.out
            assert str(field.description) in described.out
    assert listed.err == described.err == ""


def test_inspect_draws_files_of_one_name(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / folder / "jets.root" for folder in "ab"]
    for path, file in zip(paths, class_files):
        path.parent.mkdir()
        path.write_bytes(Path(file.source.path).read_bytes())
    drawn: list[str] = []
    monkeypatch.setattr(
        "ssl_jets.report.figures.columns.draw_columns", lambda samples, path, force: drawn.extend(samples) or ""
    )
    done = ssl_jets("inspect", *paths, "--plot", tmp_path / "columns.png")
    assert drawn == [str(path) for path in paths], done.err


def test_inspect_shows_the_contents_of_a_file(ssl_jets: Callable[..., Done], class_files: list[JetFile]) -> None:
    done = ssl_jets("inspect", class_files[0].source, "--json")
    (facts,) = json.loads(done.out)
    assert facts["entries"] == class_files[0].entries
    assert facts["classes"] == list(class_files[0].label_names)
    assert facts["missing"] == []
    assert f"{class_files[0].entries:,} entries" in ssl_jets("inspect", class_files[0].source).out


def test_inspect_shows_z_files_scores_files_and_models(
    ssl_jets: Callable[..., Done], model: Path, sample_files: list[JetFile], tmp_path: Path
) -> None:
    jets = sample_files[0].source
    z, index = tmp_path / "z.npz", tmp_path / "z.json"
    assert (
        ssl_jets("embed", "--model", model, "--data", jets, "--where", "jet_pt > 0", "--part", "1/1", "--out", z).code
        == 0
    )
    assert ssl_jets("merge", z, "--out", index).code == 0
    digest = json.loads((model / "model" / "config.json").read_text())["weights_sha256"]
    for path in (z, index):
        text = ssl_jets("inspect", path).out
        assert text.startswith(f"{path}: z file of ssl-jets {__version__}, {sample_files[0].entries:,} jets\n")
        for words in ("64 numbers", f"mae, SHA-256 {digest[:12]}", str(jets), "jet_pt > 0", "source_entry", "QCD"):
            assert words in text, words
    shown = ssl_jets("inspect", z, model, jets, "--json")
    facts, config, file = json.loads(shown.out)
    assert (facts["rows"], facts["method"]) == (sample_files[0].entries, "mae")
    assert (config["weights_sha256"], file["entries"]) == (digest, sample_files[0].entries)
    for name, message in ((model, ""), ("tiny-sup", "which comes with ssl-jets")):
        card = ssl_jets("inspect", name)
        assert card.out.startswith("# Jet encoder, method ")
        assert "## Inputs and outputs" in card.out
        assert message in card.err
    assert_one_message(ssl_jets("inspect", z, "--plot", tmp_path / "z.png"), 2, "--plot", "no jets")


def test_inspect_shows_the_jets_of_a_file_that_generate_wrote(
    ssl_jets: Callable[..., Done], batch: Jets, tmp_path: Path
) -> None:
    write_jets(tmp_path / "made.root", [batch], metadata={"made_by": f"ssl-jets {__version__} generate"})
    done = ssl_jets("inspect", tmp_path / "made.root", "--json")
    (facts,) = json.loads(done.out)
    assert (facts["format"], facts["entries"]) == ("jetclass", len(batch))


def test_inspect_names_the_damage_of_a_model_or_z_file(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], tmp_path: Path
) -> None:
    jets, folder = class_files[0].source, tmp_path / "model"
    weights = folder / "model.safetensors"

    def inspect(words: str) -> None:
        assert_one_message(ssl_jets("inspect", folder), 1, words)

    shutil.copytree(bundled_models()["tiny-sup"], folder)
    assert ssl_jets("inspect", folder).code == 0
    weights.write_bytes(weights.read_bytes()[:-1])
    inspect("another hash")
    weights.unlink()
    inspect("model.safetensors")
    shutil.copy(bundled_models()["tiny-sup"] / weights.name, weights)
    (folder / "config.json").write_text("{")
    inspect("not the description of a model")
    (folder / "config.json").unlink()
    inspect("no config.json")

    (tmp_path / "z.json").write_text('{"format": "ssl-jets z", "index": {"parts": [')
    assert_one_message(ssl_jets("inspect", tmp_path / "z.json"), 1, "cannot be read as an index")
    skipping = ssl_jets("inspect", jets, tmp_path / "z.json", "--set", "data.bad_files=skip")
    assert (skipping.code, str(jets) in skipping.out) == (0, True)
    assert f"file left out: {tmp_path / 'z.json'}" in skipping.err


# Wrong usage


def test_an_unknown_method_is_refused_with_the_nearest(ssl_jets: Callable[..., Done], tmp_path: Path) -> None:
    assert_one_message(ssl_jets("pretrain", "--method", "mea"), 2, "no such method", "allowed: mae", "ssl-jets methods")
    assert_one_message(ssl_jets("methods", "supervsed"), 2, "allowed: supervised")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--set", "method.mask_ration=0.5"], ["method.mask_ration", "method.mask_ratio"]),
        (["--set", "train.lr"], ["KEY=VALUE"]),
        (["--set", "train.lr=[1"], ["train.lr=[1"]),
        (["--set", "train.lr=fast"], ["train.lr", "fast"]),
        (["--size", "huge"], ["model.size", "huge", "small"]),
        (["--steps", "0"], ["train.steps"]),
        (["--config", "gone.yaml"], ["gone.yaml", "No such file"]),
        (["--resume"], ["--out"]),
    ],
)
def test_a_wrong_setting_is_one_message(
    ssl_jets: Callable[..., Done], tmp_path: Path, words: list[str], found: list[str]
) -> None:
    assert_one_message(ssl_jets("pretrain", "--method", "mae", *words), 2, *found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"method: 3", b"method: [mae]", b"a: [", b"\xff\xfe\x00", b"just text"])
def test_a_broken_settings_file_is_one_message(ssl_jets: Callable[..., Done], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    assert_one_message(ssl_jets("pretrain", "--config", "c.yaml"), 2)


def test_all_wrong_settings_are_in_one_message(ssl_jets: Callable[..., Done]) -> None:
    wrong = ["train.lr=-1", "train.stepps=3", "data.labelled=many"]
    words = [word for one in wrong for word in ("--set", one)]
    done = ssl_jets("pretrain", "--method", "mae", "--size", "huge", *words)
    assert_one_message(done, 2, "--set train.steps=...")
    where = [line.split()[1] for line in done.err.splitlines() if line.startswith("  where:")]
    assert sorted(where) == ["data.labelled", "model.size", "train.lr", "train.stepps"]


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["--lr", "1e-3"], "--set train.lr=1e-3"),
        (["--weight-decay=0.1"], "--set train.weight_decay=0.1"),
        (["--mask-ratio", "0.3", "--force"], "--set method.mask_ratio=0.3"),
        (["--pair-bias", "--force"], "--set model.pair_bias=..."),
    ],
)
def test_a_setting_that_is_given_as_an_option_is_answered_with_it(
    ssl_jets: Callable[..., Done], words: list[str], setting: str
) -> None:
    assert_one_message(ssl_jets("pretrain", "--method", "mae", *words), 2, words[0].partition("=")[0], setting)


def test_files_that_a_shell_makes_of_a_pattern_are_read(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "ssl_jets.pretraining.pretrain", lambda settings, folder, **more: asked.append(settings) or folder
    )
    monkeypatch.setattr("ssl_jets.report.write_run_report", lambda folder: folder)
    files = [str(file.source) for file in class_files[:3]]
    done = ssl_jets("pretrain", "--method", "mae", "--data", *files[:2], "--val", files[2], "--steps", 1)
    assert done.code == 0, done.err
    assert asked[0].data.sources == tuple(files[:2])
    assert asked[0].data.validation == (files[2],)
    assert ssl_jets("pretrain", "--method", "mae", "--force", files[0]).code == 2  # behind no option


def test_a_word_of_evaluate_is_a_run_unless_it_is_a_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.root", "b.root")]
    for file in files:
        file.touch()
    command = typer.main.get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    context = command.make_context("evaluate", ["A", "--data", *map(str, files), "B"])
    assert list(context.params["data"]) == [str(file) for file in files]
    assert [str(run) for run in context.params["runs"]] == ["A", "B"]


def test_help_has_choices_defaults_and_an_example_that_is_understood(
    ssl_jets: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        done = ssl_jets(name, "--help")
        example = command.epilog.removeprefix("Example: ")
        assert " ".join(example.split()) in " ".join(done.out.split())
        program, first, *words = shlex.split(example)
        assert (program, first) == ("ssl-jets", name)
        command.make_context(name, words)
        texts = {option.name: option.help or "" for option in command.params}
        if name == "pretrain":
            assert all(method in texts["method"] for method in methods.names())
        if name == "finetune":
            default = FinetuneSettings.model_fields["mode"].default
            assert f"Default: {default}." in texts["mode"]
        if name in ("pretrain", "finetune"):
            assert f"Default: {ModelSettings().size}." in texts["size"]
            assert "Default: the recipe's, 5." in texts["epochs"]
            assert {methods.find(method).recipe.train.epochs for method in methods.names()} == {5}
            assert "Default: " in texts["steps"]


def test_a_command_without_its_arguments_is_refused(ssl_jets: Callable[..., Done]) -> None:
    assert_one_message(ssl_jets("pretrain"), 2, "--method")
    assert_one_message(ssl_jets("evaluate"), 2, "--model")
    for words in (["embed"], ["pretrain", "--no-such-option"], ["finetune", "--model", "x", "--mode", "wild"], ["fly"]):
        done = ssl_jets(*words)
        assert (done.code, done.out) == (2, "")
        assert "Traceback" not in done.err


def test_options_of_the_plan_are_refused_without_it(ssl_jets: Callable[..., Done]) -> None:
    assert_one_message(ssl_jets("finetune", "--model", "x", "--json"), 2, "--json")


def test_memory_goes_with_the_plan_and_auto_however_they_are_asked_for(
    ssl_jets: Callable[..., Done], model: Path
) -> None:
    words = ["finetune", "--model", model, "--memory"]
    assert_one_message(ssl_jets(*words, "1GB"), 2, "--memory")
    done = ssl_jets(*words, "nonsense", "--set", "method.mode=auto")
    assert_one_message(done, 2, "nonsense")


# Files


@pytest.mark.parametrize("command", ["pretrain", "inspect", "embed"])
def test_a_missing_file_is_one_message_with_its_neighbours(
    ssl_jets: Callable[..., Done], write_jetclass: Any, model: Path, tmp_path: Path, command: str
) -> None:
    there = write_jetclass("QCD_000.root", 10)
    gone = there.with_name("QCD_00.root")
    words = {
        "pretrain": ["--method", "mae", "--data", gone, "--out", "r"],
        "inspect": [gone],
        "embed": ["--model", model, "--data", gone, "--out", "z.root"],
    }[command]
    assert_one_message(ssl_jets(command, *words), 1, "no such file", gone, there)
    assert [path.name for path in tmp_path.iterdir()] == ["QCD_000.root"]


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("not a ROOT file at all")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(content[:2000] + os.urandom(4000) + content[6000:])


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "garbled"])
def test_an_unreadable_file_is_one_message(
    ssl_jets: Callable[..., Done], write_jetclass: Any, tmp_path: Path, how: str
) -> None:
    path = write_jetclass("QCD_000.root", 200)
    spoil(path, how)
    assert_one_message(ssl_jets("pretrain", "--method", "mae", "--data", path, *TINY, "--out", "r"), 1, path)
    assert not (tmp_path / "r").exists()


def test_a_missing_branch_is_named_with_the_branches_found(ssl_jets: Callable[..., Done], write_jetclass: Any) -> None:
    path = write_jetclass("QCD_000.root", 10, drop=["part_px"])
    done = ssl_jets("pretrain", "--method", "mae", "--data", path, "--out", "r")
    assert_one_message(done, 1, path, "part_px", "part_py")


def test_a_wrong_tree_is_named_with_those_there_are(ssl_jets: Callable[..., Done], write_jetclass: Any) -> None:
    path = write_jetclass("QCD_000.root", 10, tree="events")
    assert_one_message(ssl_jets("inspect", f"{path}:event"), 1, path, "events")


@pytest.mark.usefixtures("without_reports")
def test_values_that_are_not_finite_are_one_message_and_leave_nothing(
    ssl_jets: Callable[..., Done], write_jetclass: Any, tmp_path: Path
) -> None:
    for value in (np.nan, np.inf):

        def edit(branches: dict[str, Any], value: float = value) -> None:
            factor = np.where(np.arange(100) == 7, value, 1).astype(np.float32)
            branches["part_energy"] = branches["part_energy"] * factor

        path = write_jetclass("QCD_000.root", 100, edit=edit)
        words = ["pretrain", "--method", "mae", "--data", path, *TINY, *quick(), "--out", "r"]
        assert_one_message(ssl_jets(*words), 1, path, "part_energy", "not finite", "entry 7", "data.bad_jets=skip")
        assert not (tmp_path / "r").exists()
    done = ssl_jets(*words, "--set", "data.bad_jets=skip")
    assert (done.code, done.out) == (0, "r\n"), done.err


@pytest.mark.usefixtures("without_reports")
def test_jets_without_particles_are_one_message_and_may_be_skipped(
    ssl_jets: Callable[..., Done], write_jetclass: Any, tmp_path: Path
) -> None:
    def edit(branches: dict[str, Any]) -> None:
        for name in [name for name in branches if name.startswith("part_")]:
            lists = branches[name].to_list()
            lists[7] = []
            branches[name] = ak.values_astype(ak.Array(lists), np.float32)

    path = write_jetclass("QCD_000.root", 100, edit=edit)
    words = ["pretrain", "--method", "mae", "--data", path, *TINY, *quick(), "--out", "r"]
    assert_one_message(ssl_jets(*words), 1, path, "no particles", "entry 7", "data.bad_jets=skip")
    done = ssl_jets(*words, "--set", "data.bad_jets=skip")
    assert (done.code, done.out) == (0, "r\n"), done.err


def test_labels_are_asked_for_where_a_method_needs_them(
    ssl_jets: Callable[..., Done], write_jetclass: Any, tmp_path: Path
) -> None:
    path = write_jetclass("data.root", 50, label=None)
    assert_one_message(ssl_jets("pretrain", "--method", "supervised", "--data", path, "--out", "r"), 1, "labels", path)
    assert not (tmp_path / "r").exists()


# Outputs


@pytest.mark.usefixtures("without_reports")
def test_an_output_that_exists_is_refused_and_kept_when_the_command_fails(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], model: Path, tmp_path: Path
) -> None:
    words = pretrain_words(class_files, "--out", "r")
    shutil.copytree(model, "r")
    before = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    assert_one_message(ssl_jets(*words), 2, "the run exists", "--force", "--resume")
    other = ssl_jets("pretrain", "--method", "supervised", "--out", "r", "--resume")
    assert_one_message(other, 2, "another method", "supervised", "mae")
    failing = ["pretrain", "--method", "mae", "--data", "gone.root", "--out", "r"]
    assert_one_message(ssl_jets(*failing), 2, "the run exists")  # refused before any file is read
    assert_one_message(ssl_jets(*failing, "--force"), 1, "gone.root")
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == before
    assert ssl_jets(*words, "--force").code == 0


def test_an_output_that_is_no_run_is_never_replaced(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], tmp_path: Path
) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.tex").write_text("years")
    assert_one_message(ssl_jets(*pretrain_words(class_files, "--out", "r", "--force")), 2, "not a run folder")
    assert (tmp_path / "r" / "thesis.tex").read_text() == "years"


def test_a_place_that_cannot_be_written_is_one_message(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert_one_message(ssl_jets(*pretrain_words(class_files, "--out", "file/r")), 1, "file/r")
    done = ssl_jets("embed", "--model", model, "--data", class_files[0].source, "--out", "file/z.npz")
    assert_one_message(done, 1, "file")


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """After a call with a size, every write beyond that many bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_one_message(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], full_disk: Callable[[int], None]
) -> None:
    full_disk(200_000)
    done = ssl_jets(*pretrain_words(class_files, "--out", "r"))
    full_disk(resource.RLIM_INFINITY)
    assert_one_message(done, 1, "checkpoint cannot be written", "r/checkpoints/last.ckpt")


# Models


@pytest.mark.parametrize("command", ["embed", "finetune", "evaluate"])
def test_a_model_that_is_not_there_is_one_message(ssl_jets: Callable[..., Done], tmp_path: Path, command: str) -> None:
    out = ["--out", "z.root"] if command == "embed" else ["--out", "r"]
    assert_one_message(ssl_jets(command, "--model", "runs/gone", *out), 1, "no trained model", "runs/gone")
    assert list(tmp_path.iterdir()) == []


def test_labels_that_cannot_be_taken_are_one_message(
    ssl_jets: Callable[..., Done], class_files: list[JetFile], model: Path
) -> None:
    data = ["--data", class_files[0].source, "--data", class_files[1].source]
    done = ssl_jets("finetune", "--model", model, *data, "--labels", 10**6, "--out", "r")
    assert_one_message(done, 2, "--labels", "1000000")


def test_debug_shows_the_traceback(ssl_jets: Callable[..., Done]) -> None:
    from ssl_jets.errors import UsageError

    with pytest.raises(UsageError):
        ssl_jets("--debug", "pretrain")
    assert_one_message(ssl_jets("pretrain"), 2)


# The whole road


def test_from_files_to_z_to_a_tagger_to_its_measures(
    ssl_jets: Callable[..., Done], write_jetclass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssl_jets.data.sources import Source

    few = [Source(str(write_jetclass(f"{label}.root", 300, label=label))) for label in ("Hbb", "QCD")]
    monkeypatch.setattr("ssl_jets.data.dataset.sample_sources", lambda: few)
    done = ssl_jets("pretrain", "--method", "mae", *TINY, *quick(), "--out", "mae")
    assert (done.code, done.out) == (0, "mae\n"), done.err
    assert "sample that comes with ssl-jets" in done.err
    done = ssl_jets("embed", "--model", "mae", "--out", "z.npz", "--keep", "jet_pt")
    assert (done.code, done.out) == (0, "z.npz\n"), done.err
    with np.load(tmp_path / "z.npz") as table:
        assert table["z"].shape == (600, 64)
        assert len(table["jet_pt"]) == 600
    words = ["finetune", "--model", "mae", "--mode", "probe", "--labels", "100", "--steps", "5", *quick()]
    done = ssl_jets(*words)
    assert (done.code, done.out) == (0, "runs/finetune-probe\n"), done.err
    quicker = ["evaluate.physics_jets=0", "evaluate.robust_jets=0", "evaluate.deep_sets=false"]
    done = ssl_jets("evaluate", "runs/finetune-probe", "--json", *(word for one in quicker for word in ("--set", one)))
    assert done.code == 0, done.err
    measures = json.loads(done.out)
    assert measures
    assert "NaN" not in done.out
    assert (tmp_path / "runs" / "finetune-probe" / "evaluation" / "metrics.json").is_file()
    assert list((tmp_path / "runs" / "finetune-probe" / "evaluation").glob("*.html"))


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--protocol", "domain", "--seed", 1], "--seed"),
        (["--protocol", "domain", "--z", "z.root"], "--z"),
        (["run", "--target", "labelled.root"], "--target"),
        (["run", "--protocol", "labels", "--domain", "data.root"], "--domain"),
        (["run", "--protocol", "labels", "--force"], "--force"),
    ],
)
def test_evaluate_refuses_an_option_that_it_would_not_heed(
    ssl_jets: Callable[..., Done], words: list[object], option: str
) -> None:
    done = ssl_jets("evaluate", *words)
    assert done.code == 2
    assert option in done.err


# Launches


@pytest.mark.parametrize(
    "words",
    [["evaluate", "run"], ["evaluate", "run", "--protocol", "labels"], ["generate", "--model", "run", "--jets", "5"],
     ["inspect", "jets.root"], ["methods"], ["finetune", "--model", "run", "--plan"]],
)  # fmt: skip
def test_a_command_whose_work_is_not_shared_is_refused_in_a_launch_before_it_begins(
    ssl_jets: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    launch = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    more = ["--out", "new.root"] if words[0] == "generate" else []
    assert_one_message(ssl_jets(*words, *more), 2, "in one process", "without torchrun")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("LOCAL_RANK", "1"), ("WORLD_SIZE", "2"), ("SLURM_STEP_NUM_TASKS", "2"), ("RANK", "x")]
)
def test_half_a_launch_is_one_message_of_every_command(
    ssl_jets: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    for words in (["inspect", "jets.root"], ["pretrain", "--method", "mae"], ["methods"]):
        assert_one_message(ssl_jets(*words), 2, "the variables of a launch are incomplete", name)
    assert ssl_jets("--version").code == 0
    monkeypatch.setenv(name, "")
    assert ssl_jets("methods", "mae").code == 0
