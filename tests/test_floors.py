"""The floors of the design: a file imports only from lower floors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ssl_jets

PACKAGE = Path(ssl_jets.__file__).parent
FLOORS: tuple[tuple[str, ...], ...] = (
    ("", "errors", "short_repr"),
    ("launch", "terminal"),
    ("setting_errors", "progress", "reading"),
    ("config", "jets", "allocator", "output", "schedule", "signals"),
    ("data", "nn", "precision", "weights"),
    ("methods",),
    ("model_file", "run", "monitor", "ranks", "zfile", "optimizer"),
    ("streams", "zrows", "encoding", "checkpoint", "nonfinite", "resume"),
    ("train",),
    ("pretrain", "embed", "generate"),
    ("finetune", "describe", "evaluate"),
    ("protocols",),
    ("report",),
    ("cli",),
    ("__main__",),
)
"""Parts of the package from low to high. The floors 0, 3 and 4 of the design have several steps each."""
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
NEVER = {("data", "nn"), ("nn", "data"), ("methods", "data"), ("report", "nn"), ("report", "train")}
FILES = sorted(PACKAGE.rglob("*.py"))


def modules_imported(path: Path) -> Iterator[str]:
    """Dotted names inside the package that a file imports anywhere, types and functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ssl_jets")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            base = node.module or ""
            if base.split(".")[0] == "ssl_jets":
                for alias in node.names:
                    inner = PACKAGE.joinpath(*base.split(".")[1:], alias.name)
                    is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                    yield f"{base}.{alias.name}" if is_module else base


def part_of(module: str) -> str:
    return ".".join(module.split(".")[1:2])


def own_part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_lower_floors(path: Path) -> None:
    own = own_part(path)
    assert own in FLOOR, f"{own} has no floor yet: add it to FLOORS"
    for module in modules_imported(path):
        part = part_of(module)
        assert part == own or FLOOR[part] < FLOOR[own], f"{own} imports {module}"
        assert (own, part) not in NEVER, f"{own} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "methods").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_method_knows_nn_jets_settings_and_the_contract_and_no_other_method(path: Path) -> None:
    for module in modules_imported(path):
        # A method that holds another finds it by its name (`methods.find`); it imports none.
        found_by_name = module in {"ssl_jets.methods", "ssl_jets.methods._method"}
        assert part_of(module) in {"nn", "jets", "config", "errors"} or found_by_name, module
    text = path.read_text(encoding="utf-8")
    for word in ("fabric", "optimizer", "distributed", "open(", "logging"):
        assert word not in text.lower(), word


def test_the_package_and_the_table_hold_the_same_parts() -> None:
    assert {own_part(path) for path in FILES} == set(FLOOR)


def test_files_are_short() -> None:
    """300 lines is the aim; what is longer is listed here, so that it does not grow unseen."""
    longer = {"train.py": 375, "embed.py": 400}
    for path in FILES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= longer.get(path.name, 300), path


HEAVY = ("torch", "uproot", "awkward", "sklearn", "matplotlib", "pyarrow", "h5py", "scipy", "lightning_fabric")


def imported_by(program: str) -> set[str]:
    """Which of the heavy packages a program has imported at its end."""
    report = f"\nimport sys; print('|'.join(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(filter(None, done.stdout.splitlines()[-1].split("|")))


def test_help_of_every_command_imports_nothing_heavy_and_takes_little_time() -> None:
    program = """
import io, sys, contextlib, time
began = time.process_time()
from ssl_jets.cli import main
names = ("pretrain", "embed", "finetune", "evaluate", "generate", "methods", "inspect")
for words in ([], *([name] for name in names)):
    sys.argv = ["ssl-jets", *words, "--help"]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            main()
    except SystemExit as stop:
        assert not stop.code, stop.code
    assert "Usage" in text.getvalue() and (not words or words[0] in text.getvalue())
    if not words:
        assert time.process_time() - began < 0.5, time.process_time() - began
"""
    assert imported_by(program) == set()


def test_methods_are_listed_and_described_without_torch() -> None:
    program = """
from ssl_jets.methods import names
from ssl_jets.methods._describe import describe_method, list_methods
list_methods()
[describe_method(name) for name in names()]
"""
    assert imported_by(program) == set()


def test_reports_import_no_torch() -> None:
    assert "torch" not in imported_by("import ssl_jets.report, ssl_jets.report.report, ssl_jets.report.figures")
