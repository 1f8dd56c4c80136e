"""What a package index shows, and the lowest versions that are promised."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_links_of_the_readme_lead_to_files_here_and_to_the_repository_on_an_index(project: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = [link for link in LINK.findall(text) if not link.startswith(("http", "#"))]
    assert len(relative) > 20
    for link in relative:
        assert (ROOT / link.partition("#")[0]).exists(), link
    for change in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert [link for link in LINK.findall(text) if not link.startswith(("https://", "#"))] == []
    for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert image.startswith("https://raw.githubusercontent.com/")
    home = project["project"]["urls"]["Homepage"]
    assert text.count(f"]({home}/blob/main/") + text.count("](https://raw.") == len(relative)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"] == home


def test_the_lane_of_the_lowest_versions_has_the_bounds_of_the_project(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.partition("#")[0].strip().split("==") for line in lines if "==" in line)
    bounds = dict(one.split(">=") for one in project["project"]["dependencies"])
    torch = bounds.pop("torch")  # its oldest builds are not on every index
    assert int(pinned["torch"].split(".")[0]) >= int(torch.split(".")[0])
    for name, lowest in bounds.items():
        version, least = ([int(part) for part in text.split(".")] for text in (pinned[name], lowest))
        assert version[: len(least)] == least, name
        assert not any(version[len(least) :]), name


def test_the_conda_recipe_has_the_dependencies_of_the_project(project: dict[str, Any]) -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "conda-recipe.yaml").read_text(encoding="utf-8"))
    names = {"torch": "pytorch", "PyYAML": "pyyaml", "matplotlib": "matplotlib-base"}
    bounds = [one.split(">=") for one in project["project"]["dependencies"]]
    expected = [f"{names.get(name, name)} >={version}" for name, version in bounds]
    assert recipe["requirements"]["run"] == [f"python {project['project']['requires-python']}", *expected]
    assert recipe["context"]["version"] == project["project"]["version"]


def test_workflows_and_templates_are_yaml() -> None:
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(files) > 4
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict), file
