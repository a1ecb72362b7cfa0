"""Generated projects as their owners meet them: type-checked, installed, trained, tested."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import setuptools
from generated import SNAPSHOTS, TEMPLATES, cases, check, rendered, sample
from in_project import run_in

from paccel.tree import write_tree

BUILD_TOOLS = str(Path(setuptools.__file__).parents[1])  # instead of a build environment, which would be downloaded
PYTEST = ["pytest", "-q", "-p", "no:cacheprovider"]


@pytest.mark.parametrize(("name", "answers"), cases(sample))
def test_the_project_trains_and_passes_its_own_tests(name: str, answers: dict[str, Any], tmp_path: Path) -> None:
    write_tree(tmp_path / "my-project", rendered(name, answers))
    # The defaults show that stopping and resuming changes nothing; the others, that they train.
    chosen = ["-k", "not stopped_and_resumed"] if answers else []
    run_in(tmp_path / "my-project", *PYTEST, *chosen)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_snapshot_passes_a_type_check(name: str, tmp_path: Path) -> None:
    for snapshot in sorted(path for path in (SNAPSHOTS / name).iterdir() if path.is_dir()):
        shutil.copytree(snapshot, tmp_path / snapshot.name)
        cache = f"--cache-dir={tmp_path / 'cache'}"
        check(["mypy", cache, "--ignore-missing-imports", "--check-untyped-defs", "."], tmp_path / snapshot.name)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_snapshot_can_be_installed_for_editing(name: str, tmp_path: Path) -> None:
    check(["venv", "--system-site-packages", "--without-pip", "env"], tmp_path)
    python = next(path for path in (tmp_path / "env").glob("*/python*") if path.parent.name in ("bin", "Scripts"))
    for snapshot in sorted(path for path in (SNAPSHOTS / name).iterdir() if path.is_dir()):
        folder = tmp_path / snapshot.name
        shutil.copytree(snapshot, folder)
        install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(folder)]
        check(["pip", "--python", str(python), *install], tmp_path, PYTHONPATH=BUILD_TOOLS)
        lines = list((tmp_path / "env").glob("lib/*/site-packages/my_project-0.1.0.dist-info/METADATA"))
        assert "Requires-Dist: paccel[runtime]>=0.1.0" in lines[0].read_text()
