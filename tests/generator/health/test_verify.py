"""`paccel upgrade --verify`: what it checks and reports."""

import os
import sys
from pathlib import Path

import pytest
from support.upgraded import Case

from paccel.health import verify
from paccel.project import interpreter
from paccel.project.interpreter import Interpreter

OWN = Interpreter(sys.executable, interpreter.OWN)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment is active, apart from the one that runs the tests."""
    for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_verify_compiles_and_runs_the_projects_tests(case: Case) -> None:
    tests = case.root / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "import pathlib\n\ndef test_it():\n    assert '4' not in pathlib.Path('train.py').read_text()\n"
    )
    case.change("train.py", "second = 2", "second = 3")
    result = case.run("upgrade", "--verify")
    assert result.code == 0
    assert f"Verified: the project compiles, and its tests pass, with `{OWN.path}`" in result.out
    case.change("train.py", "third = 3", "third = 4")
    result = case.run("upgrade", "--verify")
    assert result.code == 1
    assert "paccel upgrade --undo" in result.out
    assert case.run("upgrade", "--undo").code == 0
    assert "third = 3" in case.read("train.py")


def test_verify_without_pytest_says_so_and_blames_no_test(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    (case.root / "tests").mkdir()
    monkeypatch.setattr(verify, "PYTEST", "no_pytest")
    case.change("train.py", "second = 2", "second = 3")
    result = case.run("upgrade", "--verify")
    assert result.code == 1
    assert f"the project's tests were not run: `no_pytest` is not installed for {OWN}" in result.out
    assert "fail" not in result.out


def project(root: Path, tests: str | None = None) -> Path:
    (root / "a.py").write_bytes(b"\xef\xbb\xbfx = 1\n")
    if tests is not None:
        (root / "tests").mkdir()
        (root / "tests" / "test_it.py").write_text(tests)
    return root


def test_a_file_that_is_not_valid_is_named_and_no_test_is_run(tmp_path: Path) -> None:
    root = project(tmp_path, "open('ran', 'w').close()\n")
    (root / "b.py").write_text("x = = 1\n")
    found = verify.verify(root, ["a.py", "b.py", "gone.py"])
    assert (found.problems, found.ran_tests) == (("`b.py` is not valid Python",), False)
    assert not (root / "ran").exists()


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert verify.verify(project(tmp_path), ["a.py"]) == verify.Verification((), python=OWN)


@pytest.mark.slow
def test_a_folder_of_tests_without_a_test_is_no_fault(tmp_path: Path) -> None:
    assert verify.verify(project(tmp_path, ""), []) == verify.Verification((), python=OWN)


@pytest.mark.slow
def test_tests_that_do_not_end_are_ended_and_said_so(tmp_path: Path) -> None:
    root = project(tmp_path, "import time\n\ntime.sleep(60)\n")
    found = verify.verify(root, [], timeout_seconds=0.5)
    assert (found.problems, found.ran_tests) == (("the project's tests took longer than 0.5 s",), True)


def broken(root: Path, name: str) -> Path:
    """An environment whose Python is gone, as after an update of the system."""
    (root / name / "bin").mkdir(parents=True)
    (root / name / "bin" / "python").symlink_to("/nothing/python3")
    return root / name / "bin" / "python"


@pytest.mark.skipif(os.name == "nt", reason="other folders there")
def test_a_python_that_does_not_start_is_named(tmp_path: Path) -> None:
    root = project(tmp_path, "def test_it():\n    pass\n")
    python = broken(root, ".venv")
    found = verify.verify(root, ["a.py"])
    assert found.problems == (f"the project's Python `{python}` (`.venv`) does not work: No such file or directory",)
    python.unlink()
    python.write_text("#!/bin/sh\necho no libpython >&2\nexit 127\n")
    python.chmod(0o755)
    assert verify.verify(root, ["a.py"]).problems[0].endswith("(`.venv`) does not work: no libpython")


@pytest.mark.skipif(os.name == "nt", reason="other folders there")
def test_a_file_is_compiled_by_the_projects_python(tmp_path: Path) -> None:
    """The project's Python may be newer than paccel's, and know more syntax."""
    root = project(tmp_path)
    python = root / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho '[\"a.py\"]'\n")
    python.chmod(0o755)
    assert verify.verify(root, ["a.py"]) == verify.Verification(
        ("`a.py` is not valid Python",), python=Interpreter(str(python), "`venv`")
    )


@pytest.mark.skipif(os.name == "nt", reason="other folders there")
def test_the_tests_run_with_the_projects_python(tmp_path: Path) -> None:
    root = project(tmp_path, "def test_it():\n    pass\n")
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\ncase $* in *pytest*) echo not with this one; exit 1;; esac\necho '[]'\n")
    python.chmod(0o755)
    found = verify.verify(root, ["a.py"])
    assert (found.ran_tests, found.output) == (True, "not with this one")
    assert found.to_json()["python"] == {"path": str(python), "origin": ".venv"}
