"""The Python of a project is found."""

import os
import sys
from pathlib import Path

import pytest

from paccel.project.interpreter import OWN, Interpreter, find_interpreter

pytestmark = pytest.mark.skipif(os.name == "nt", reason="other folders there")


def environment(root: Path, name: str) -> str:
    (root / name / "bin").mkdir(parents=True)
    (root / name / "bin" / "python").symlink_to(sys.executable)
    return str(root / name)


def test_what_is_activated_comes_before_what_lies_in_the_project(tmp_path: Path) -> None:
    """When one is removed, the next is used."""
    variables = {
        "VIRTUAL_ENV": environment(tmp_path, "active"),
        "UV_PROJECT_ENVIRONMENT": "uvs",
        "CONDA_PREFIX": environment(tmp_path, "conda"),
    }
    for name in ("uvs", ".venv", "venv"):
        environment(tmp_path, name)
    expected = [("active", "VIRTUAL_ENV"), ("uvs", "UV_PROJECT_ENVIRONMENT"), (".venv", ".venv"), ("venv", "venv")]
    for folder, origin in expected:
        assert find_interpreter(tmp_path, variables) == Interpreter(
            str(tmp_path / folder / "bin" / "python"), f"`{origin}`"
        )
        variables.pop(origin, None)
        (tmp_path / folder).rename(tmp_path / f"no {folder}")
    assert find_interpreter(tmp_path, variables).origin == "`CONDA_PREFIX`"
    assert find_interpreter(tmp_path, {"VIRTUAL_ENV": ""}) == Interpreter(sys.executable, OWN)


def test_a_broken_environment_is_still_the_projects(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /nothing\n")
    assert find_interpreter(tmp_path, {}).origin == "`.venv`"


@pytest.mark.parametrize("name", [".venv", "venv"])
def test_a_folder_that_is_no_environment_is_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    assert find_interpreter(tmp_path, {}).origin == OWN
