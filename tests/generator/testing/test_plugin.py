"""The pytest plugin, in a separate pytest as an author of a template runs it."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sampled import every_third_day

from paccel.testing.template import TemplateTester, label_of

PROJECT = "{{cookiecutter.project_name}}"
TESTS = """
import pytest

@pytest.mark.parametrize("answers", [{}, {"kind": "b"}])
def test_snapshot(paccel_template, answers):
    paccel_template.render(answers).check_snapshot()

def test_difference(paccel_template):
    default = paccel_template.render()
    paccel_template.render(docker=True).check_difference(default)
"""
UPGRADES = """
def test_upgrade(paccel_template):
    project = paccel_template.released()
    project.edit("train.py", "B = 2", "B = 3")
    project.upgrade()
    assert "A = 9" in project.read("train.py") and "B = 3" in project.read("train.py")

def test_conflict(paccel_template):
    project = paccel_template.released()
    project.edit("train.py", "A = 1", "A = 5")
    project.upgrade(conflicts=["train.py"])

def test_unexpected(paccel_template):
    project = paccel_template.released()
    project.edit("train.py", "A = 1", "A = 5")
    project.upgrade()
"""
RUNS = """
import pytest

def test_passes(paccel_template):
    project = paccel_template.render()
    assert "1 passed" in project.run_tests()
    assert project.run("python", "-c", "print(3)") == "3\\n"
    assert sorted(p.name for p in project.root.iterdir() if p.name != ".paccel") == ["test_it.py", "train.py"]

def test_fails(paccel_template):
    project = paccel_template.render()
    project.edit("test_it.py", "assert True", "assert not 'as it should'")
    project.run_tests()

def test_edit_that_does_not_fit(paccel_template):
    paccel_template.render().edit("train.py", "nothing", "")

def test_slow(paccel_template):
    paccel_template.render().run("python", "-c", "import time; time.sleep(60)", seconds=0.5)
"""


@pytest.fixture
def author(tmp_path: Path) -> Callable[..., Path]:
    """Write a template with a test next to it, and return its folder."""

    def author(tests: str, files: dict[str, str], questions: dict[str, object] | None = None) -> Path:
        folder = tmp_path / "net-template"
        content = {f"{PROJECT}/{path}": text for path, text in files.items()} | {"tests/test_it.py": tests}
        content["cookiecutter.json"] = json.dumps({"project_name": "x", **(questions or {})})
        for path, text in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder

    return author


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run pytest in a folder, with the installed plugins, and return its output."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-q", "tests", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


FILES = {
    "train.py": "A = 1\n\n\n\n\nB = 2\n{% if cookiecutter.docker %}D = 1\n{% endif %}",
    "{{ cookiecutter.kind }}.sh": "#!/bin/sh\n",
}
QUESTIONS = {"kind": ["a", "b"], "docker": False}


@pytest.mark.slow
@every_third_day(0)
def test_snapshots_are_written_compared_and_shown_as_a_diff(author: Callable[..., Path]) -> None:
    folder = author(TESTS, FILES, QUESTIONS)
    snapshots = folder / "tests" / "snapshots" / "net-template"
    assert "has no snapshot" in run(folder, code=1)
    assert not snapshots.exists()
    run(folder, "--update-snapshots")
    assert sorted(path.relative_to(snapshots).as_posix() for path in snapshots.rglob("*") if path.is_file()) == [
        "default/a.sh", "default/train.py", "docker-true.diff", "kind-b/b.sh", "kind-b/train.py"
    ]  # fmt: skip
    assert "3 passed" in run(folder)
    (snapshots / "default" / "train.py").write_text("A = 1\n")
    (snapshots / "default" / "a.sh").unlink()
    (snapshots / "default" / "gone.txt").write_text("old\n")
    shown = run(folder, "-k", "snapshot and answers0", code=1)
    for line in ("+B = 2", "+++ b/a.sh", "new file mode 100755", "-old", "--- a/gone.txt"):
        assert line in shown
    assert "Traceback" not in shown
    run(folder, "--update-snapshots")
    assert not (snapshots / "default" / "gone.txt").exists()
    (folder / PROJECT / "train.py").write_text("{% if cookiecutter.docker %}D = 2\n{% endif %}A = 1\n")
    assert "docker-true.diff" in run(folder, "-k", "difference", code=1)


@pytest.mark.slow
@every_third_day(1)
def test_a_released_project_with_edits_is_upgraded(author: Callable[..., Path], git: Callable[..., str]) -> None:
    folder = author(UPGRADES, {"train.py": FILES["train.py"]}, {"docker": False})
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    assert "No released version" in run(folder, "-k", "conflict", code=1)
    git(folder, "tag", "v1")
    (folder / PROJECT / "train.py").write_text(FILES["train.py"].replace("A = 1", "A = 9"))
    shown = run(folder, code=1)
    assert "2 passed" in shown
    assert "conflict in train.py: you and the template changed the same lines" in shown
    assert "A = 5" in shown
    # A snapshot at the tag is what users have, whatever today's paccel would render.
    snapshot = folder / "tests" / "snapshots" / "net-template" / "default" / "train.py"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_text("A = 1\n\n\n\n\nB = 2\nFROM_SNAPSHOT = 1\n")
    git(folder, "add", "tests")
    git(folder, "commit", "-qm", "two")
    git(folder, "tag", "v2")
    (folder / "tests" / "test_it.py").write_text(
        "def test(paccel_template):\n"
        "    project = paccel_template.released()\n"
        "    assert 'FROM_SNAPSHOT' in project.read('train.py')\n"
        "    project.upgrade()\n"
        "    assert project.read('train.py').startswith('A = 9') and 'FROM' not in project.read('train.py')\n"
        "    assert 'FROM' not in paccel_template.released(since='v1').read('train.py')\n"
    )
    run(folder)


@pytest.mark.slow
@every_third_day(2)
def test_a_project_s_commands_and_tests_are_run_and_their_failures_shown(author: Callable[..., Path]) -> None:
    folder = author(RUNS, {"train.py": "A = 1\n", "test_it.py": "def test():\n    assert True\n"})
    shown = run(folder, code=1)
    assert "3 failed, 1 passed" in shown
    assert "as it should" in shown
    assert "`train.py` has this 0 times, not once" in shown
    assert "took more than 0.5 s" in shown


STRANGER = """
import sys

def test_nothing_of_paccel_s_is_loaded():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"jinja2", "click", "black", "cookiecutter", "yaml"}
    assert {name for name in sys.modules if name.startswith("paccel")} <= {
        "paccel", "paccel.testing", "paccel.testing.plugin"
    }
"""
OWN_OPTION = """
def pytest_addoption(parser):
    parser.addoption("--update-snapshots", action="store", default="theirs")
"""


@pytest.mark.slow
@every_third_day(1)
def test_tests_of_the_template_s_projects_are_not_collected(author: Callable[..., Path]) -> None:
    folder = author(
        "def test(paccel_template):\n    paccel_template.render().check_snapshot()\n", {"test_net.py": "no\n"}
    )
    run(folder, "--update-snapshots")
    assert (folder / "tests" / "snapshots" / "net-template" / "default" / "test_net.py").is_file()
    assert "1 passed" in run(folder, PROJECT, ".")


@pytest.mark.slow
@every_third_day(2)
def test_a_project_that_does_not_use_the_plugin_pays_nothing_and_keeps_its_own_option(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(STRANGER)
    assert "1 passed" in run(tmp_path)
    assert "--update-snapshots" in run(tmp_path, "--help")
    (tmp_path / "tests" / "conftest.py").write_text(OWN_OPTION)
    (tmp_path / "tests" / "test_it.py").write_text(
        "def test(request):\n    assert request.config.getoption('update_snapshots') == 'x'\n"
    )
    assert "1 passed" in run(tmp_path, "--update-snapshots", "x")
    (tmp_path / "tests" / "test_it.py").write_text("def test(paccel_template):\n    paccel_template.render()\n")
    shutil.rmtree(tmp_path / "tests" / "__pycache__", ignore_errors=True)
    assert "There is no `cookiecutter.json` above this test" in run(tmp_path, code=1)


def test_what_a_template_draws_is_the_same_in_every_test(
    paccel_template: TemplateTester, template: Callable[..., Path]
) -> None:
    draws = "{{ random_ascii_string(8) }} {{ uuid4() }} {{ [1, 2, 3, 4, 5, 6, 7, 8] | random }} {% now 'utc', '%Y' %}"
    source = template({"a.txt": f"{draws}\n{draws}\n"}, {"_key": "{{ random_ascii_string(8) }}"})
    state = random.getstate()
    one, other = (paccel_template.at(source).render().tree["a.txt"].content.decode() for _ in range(2))
    assert one == other
    assert len({*one.split()}) > 4
    assert one.split()[3] == "2020"
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("answers", "label"),
    [
        ({}, "default"),
        ({"on": True, "kind": "b"}, "on-true,kind-b"),
        ({"tools": ["a", "b"]}, "tools-a+b"),
        ({"text": "a/b: ü?"}, "text-a_b_ü_"),
        ({"text": "x" * 200}, f"text-{'x' * 66}-"),
        ({"text": ".."}, "text--"),
    ],
)
def test_a_label_is_a_name_for_a_folder(answers: dict[str, object], label: str) -> None:
    assert label_of(answers).startswith(label)
    assert len(label_of(answers)) <= 80
    assert not label_of(answers).endswith((".", " "))
