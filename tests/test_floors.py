"""The floors of the design: a file imports only from lower floors, and no folder or file grows unseen."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ssl_jets

PACKAGE = Path(ssl_jets.__file__).parent
FLOORS: tuple[tuple[str, ...], ...] = (
    ("", "errors", "arrays"),
    ("runtime",),
    ("setting_errors", "setting_tree", "records"),
    ("config", "jets"),
    ("data", "nn", "zfile"),
    ("simulation",),
    ("methods",),
    ("model", "sharing"),
    ("model_file", "diagnostics"),
    ("training", "embedding"),
    ("pretraining", "generation", "conversion", "exporting", "finetuning", "evaluation"),
    ("protocols",),
    ("report",),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""Parts of the package from low to high. Floor 0 of CONTRIBUTING.md has the first four steps."""
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
MAX_TOP_LEVEL_FILES = 12
MAX_FILES_OF_A_FOLDER = 20
LAZY = PACKAGE / "__init__.py"
"""Re-exports the public names, each imported on its first use: the only file that names higher floors."""
FILES = sorted(set(PACKAGE.rglob("*.py")) - {LAZY})


@functools.cache
def imported_modules(path: Path) -> frozenset[str]:
    """Return the dotted names of modules of the package that a file imports, types and functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "ssl_jets"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            base = node.module or ""
            if base.split(".")[0] == "ssl_jets":
                for alias in node.names:
                    inner = PACKAGE.joinpath(*base.split(".")[1:], alias.name)
                    is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                    found.add(f"{base}.{alias.name}" if is_module else base)
    return frozenset(found)


def part_of(module: str) -> str:
    return ".".join(module.split(".")[1:2])


def own_part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(["ssl_jets", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_lower_floors(path: Path) -> None:
    own = own_part(path)
    assert own in FLOOR, f"{own} has no floor yet: add it to FLOORS"
    for module in imported_modules(path):
        part = part_of(module)
        assert part == own or FLOOR[part] < FLOOR[own], f"{own} imports {module}"


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {module_of(path): imported_modules(path) - {module_of(path)} for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("path", sorted((PACKAGE / "methods").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_method_knows_nn_jets_settings_and_the_contract_and_no_other_method(path: Path) -> None:
    for module in imported_modules(path):
        # A method that holds another finds it by its name (`methods.find`); it imports none.
        found_by_name = module in {"ssl_jets.methods", "ssl_jets.methods._method"}
        assert part_of(module) in {"nn", "jets", "config", "errors"} or found_by_name, module
    text = path.read_text(encoding="utf-8").lower().replace('optimizer="muon"', "")  # a setting of a recipe
    for word in ("fabric", "optimizer", "distributed", "open(", "logging"):
        assert word not in text, word


def test_the_package_and_the_table_hold_the_same_parts() -> None:
    assert {own_part(path) for path in [LAZY, *FILES]} == set(FLOOR)


def test_folders_and_files_are_small() -> None:
    """300 lines is the aim; longer files are listed here, so that they do not grow unseen."""
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_TOP_LEVEL_FILES
    for folder in {path.parent for path in FILES} - {PACKAGE}:
        assert len(list(folder.glob("[!_]*.py"))) <= MAX_FILES_OF_A_FOLDER, folder
    longer = {"jets.py": 396, "model.py": 342}
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


def test_help_of_every_command_imports_nothing_heavy() -> None:
    program = """
import io, sys, contextlib
from ssl_jets.cli import main
from ssl_jets.cli.app import EXAMPLES
names = [command.__name__ for command in EXAMPLES]
for words in ([], *([name] for name in names)):
    sys.argv = ["ssl-jets", *words, "--help"]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            main()
    except SystemExit as stop:
        assert not stop.code, stop.code
    assert "Usage" in text.getvalue() and (not words or words[0] in text.getvalue())
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
    assert "torch" not in imported_by(
        "import ssl_jets.report, ssl_jets.report.report, ssl_jets.report.figures.evaluation"
    )
