"""Model card: the `README.md` of a model folder, made from `config.json` and, after an evaluation, its metrics.

The head of the file is YAML as model hubs read it. The licence is left for the owner of the weights to fill in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jets.data.seen import stages
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import COLUMNS
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.reading import guarded, read_json, read_text

CARD, CONFIG = "README.md", "config.json"
MOST_FILES = 20
"""Training files in the table; `config.json` has all."""
LOAD = """\
import json
from safetensors.numpy import load_file

config = json.load(open("config.json"))
weights = load_file("model.safetensors")  # name -> array
encoder = {name: value for name, value in weights.items() if name.startswith("encoder.")}
mean, std = encoder["encoder.features.mean"], encoder["encoder.features.std"]  # in the order of config["features"]
shape = {key: config["encoder"][key] for key in ("width", "blocks", "heads", "dim")}
numbers = sum(value.size for value in encoder.values())
print(f"{len(encoder)} tensors, {numbers:,} numbers, {shape}")
"""
"""Program of the card that loads the weights without ssl-jets, to run in the model folder."""
LOAD_FOREIGN = """\
import json
from safetensors.numpy import load_file

config = json.load(open("config.json"))
weights = load_file("model.safetensors")  # name -> array
prefix = "encoder.network."
network = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
numbers = sum(value.size for value in network.values())
print(f"{len(network)} tensors, {numbers:,} numbers, {config['encoder']['settings']['options']}")
"""
"""The same for a foreign encoder: the state dict of its network."""


class CardMetric(NamedTuple):
    """A number of an evaluation.

    Attributes:
        name: its name.
        value: the number with its interval, as text.
        jets: test jets.
        files: names of the files.
    """

    name: str
    value: str
    jets: int
    files: tuple[str, ...]


def model_card(config: Mapping[str, Any], metrics: Sequence[CardMetric] = ()) -> str:
    """Return the text of the card."""
    training = config["training"]
    sections = {
        "": _summary(config),
        "Inputs and outputs": _inputs(config),
        "Training data": _data(training),
        "Cost": _cost(training),
        "Metrics": _metrics(metrics),
        "Intended use": [_USE],
        "Licence": ["Not stated yet: the owner of the weights fills it in, here and in the head of this file."],
        "Load": _load(config),
    }
    lines = _head(config)
    for title, body in sections.items():
        lines += ["", *([f"## {title}", ""] if title else []), *body]
    return "\n".join(lines) + "\n"


def write_metrics(folder: Path, metrics: Sequence[CardMetric]) -> None:
    """Write the card of a model folder again, with the results of an evaluation.

    Raises:
        SslJetsError: `config.json` cannot be read, or the card cannot be written.
    """
    config = read_json(folder / CONFIG, "the model cannot be read")
    write_text(folder / CARD, model_card(config, metrics))


def read_card(folder: Path) -> str:
    """Return the text of the card of a model folder, without its head.

    Raises:
        SslJetsError: there is no card, or it cannot be read.
    """
    with guarded("the model card cannot be read", folder / CARD, error=SslJetsError):
        text = read_text(folder / CARD)
    return text.partition(f"\n{_FENCE}\n")[2].lstrip("\n") if text.startswith(f"{_FENCE}\n") else text


_FENCE = "---"
"""Line before and after the head of the card."""
_USE = """\
Representation z of jets for classification, regression, anomaly detection and comparison of samples, on jets like
those of the training: same detector, clustering and range of pt. On other jets, evaluate first; z depends on the
simulation it was trained on."""


def _head(config: Mapping[str, Any]) -> list[str]:
    tags = ["particle-physics", "jets", config["method"]]
    return [
        _FENCE,
        "library_name: ssl-jets",
        "license: other",
        f"tags: {json.dumps(tags)}",
        _FENCE,
        "",
        f"# Jet encoder, method {config['method']}",
    ]


def _summary(config: Mapping[str, Any]) -> list[str]:
    encoder = config["encoder"]
    source = config["training"].get("checkpoint")
    origin = [("checkpoint", f"`{source['file']}`, SHA-256 `{source['sha256']}`")] if source else []
    return _table(
        ("", ""),
        [
            ("method", config["method"] + (f", finetuned: {mode}" if (mode := config["training"].get("mode")) else "")),
            ("encoder", _network(encoder)),
            ("z", f"{encoder['dim']} numbers"),
            ("parameters", f"{config['parameters']:,}"),
            ("weights", f"`model.safetensors`, SHA-256 `{config['weights_sha256']}`"),
            *origin,
            ("written by", f"ssl-jets {config['package_version']}, torch {config['torch_version']}"),
        ],
    )


def _network(encoder: Mapping[str, Any]) -> str:
    settings = encoder["settings"]
    if (architecture := settings.get("architecture")) is not None:
        options = ", ".join(f"{name} {value}" for name, value in settings["options"].items())
        return f"`{architecture}`, tokens of {encoder['width']} numbers ({options or 'defaults'})"
    plain = {name: value for name, value in settings.items() if isinstance(value, str | int | float)}
    described = ", ".join(f"{name} {value}" for name, value in plain.items())
    return f"{encoder['blocks']} blocks, width {encoder['width']}, {encoder['heads']} heads ({described})"


def _inputs(config: Mapping[str, Any]) -> list[str]:
    columns = [name for name in config["training"].get("columns", COLUMNS) if name in COLUMNS]
    lines = [
        f"Columns of particles, in GeV, mm and rad: {', '.join(f'`{name}`' for name in columns)}.",
        "Features computed from them, further features of particles, and context of jets"
        + (":" if config["features"] else "; a foreign encoder computes its own features:"),
        "",
        *_table(
            ("feature", "unit", "mean", "standard deviation"),
            [
                _feature_row(one)
                for one in (*config["features"], *config.get("context", []), *config.get("collections", []))
            ],
        ),
    ]
    if config["head"] is not None:
        lines += ["", f"Classes, in the order of the probabilities: {', '.join(config['labels'])}."]
    if (regressor := config.get("regressor")) is not None:
        lines += ["", f"Regressed columns ({regressor['kind']}): {', '.join(regressor['names'])}."]
    if particles := config.get("particles"):
        lines += ["", f"Predictions of particles: {', '.join(map(_particle_target, particles['targets']))}."]
    return lines


def _data(training: Mapping[str, Any]) -> list[str]:
    files = {tuple(map(str, file)) for file in training.get("files", [])}
    before = training.get("pretrained", {}).get("files", [])
    files |= {tuple(map(str, file)) for file in before}
    if not files:
        return ["Not recorded."]
    rows = [(name, f"{int(size):,}", *rest) for name, size, *rest in sorted(files)]
    shown = _table(("file", "bytes", "digest of the contents"), [(*row, "")[:3] for row in rows[:MOST_FILES]])
    more = [f"and {len(rows) - MOST_FILES:,} more, in `{CONFIG}`."] if len(rows) > MOST_FILES else []
    held = ["", f"{len(training.get('held_out', [])):,} parts of them were held out; `{CONFIG}` has their entries."]
    return [*shown, *(["", *more] if more else []), *held]


def _cost(training: Mapping[str, Any]) -> list[str]:
    own, teacher = stages(training), training.get("teacher")
    names = ["training"] if len(own) == 1 else ["pretraining", *["pretraining, continued"] * (len(own) - 1)]
    if "pretraining" in names and "mode" in training:
        names[-1] = "finetuning"
    named = [("teacher", one) for one in (stages(teacher) if teacher else ())] + [*zip(names, own, strict=True)]
    rows = [
        (stage, f"{one['steps']:,}", f"{one['jets']:,}", _hours(one), str(one.get("precision", "")))
        for stage, one in named
        if {"steps", "jets", "seconds"} <= set(one)
    ]
    if not rows:
        return ["Not recorded."]
    return _table(("", "steps", "jets", "time", "precision"), rows)


def _hours(training: Mapping[str, Any]) -> str:
    """Return core hours on CPUs, device hours on GPUs, or the wall time of models that do not record the devices."""
    hours = training["seconds"] / 3600
    if "processes" not in training:
        return f"{hours:.2g} h"
    if training["device"] == "cpu":
        return f"{hours * training['processes'] * training['threads']:.2g} core hours"
    return f"{hours * training['processes']:.2g} hours of {training['device']}"


def _metrics(metrics: Sequence[CardMetric]) -> list[str]:
    if not metrics:
        return ["Not evaluated yet: `ssl-jets evaluate RUN` fills this table in."]
    rows = [(one.name, one.value, f"{one.jets:,}", ", ".join(one.files[:4])) for one in metrics]
    return [*_table(("", "value (68 % interval)", "test jets", "files"), rows)]


def _load(config: Mapping[str, Any]) -> list[str]:
    program = LOAD if config["encoder"]["settings"].get("architecture") is None else LOAD_FOREIGN
    return [
        "```python",
        "import ssl_jets",
        "",
        'model = ssl_jets.load_model(".")  # this folder',
        "z = model.embed(jets)  # ssl_jets.Jets",
        "```",
        "",
        "The weights without ssl-jets:",
        "",
        "```python",
        program.rstrip(),
        "```",
    ]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines]


def _feature_row(feature: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return name, unit and statistics; a categorical feature has none."""
    mean, std = (f"{feature[key]:.5g}" if key in feature else "" for key in ("mean", "std"))
    return feature["name"], feature["unit"], mean, std


def _particle_target(target: Mapping[str, Any]) -> str:
    """Describe a target of particles: `origin (pileup, primary)`, `vertex (groups)`, `true_pt [GeV]`."""
    if target["classes"] or target["groups"]:
        return f"{target['name']} ({', '.join(target['classes']) or 'groups'})"
    return f"{target['name']} [{target['unit']}]"
