"""Projects of every released version, kept as they were generated: today's paccel upgrades them, today's runtime runs them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.released import RELEASED, freezer, project_params, unpacked

import paccel.upgrade.upgrade as engine
from paccel import __version__
from paccel.catalog.catalog import DEFAULT_TEMPLATE, load_template
from paccel.files.tree import read_tree
from paccel.project.state import read_manifest, read_state
from paccel.render.render import render

PROJECTS = project_params(*sorted(RELEASED.glob("*/*/")))
MINE = "# an edit of mine, line {}\n"


def test_this_version_is_kept_or_not_released_yet() -> None:
    changelog = (Path(__file__).parents[3] / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = f"## {__version__} (unreleased)" in changelog
    assert unreleased or (RELEASED / __version__).is_dir(), "run `python tests/released/freeze.py`"


@pytest.mark.slow
def test_freezing_makes_projects_that_upgrade_to_themselves(tmp_path: Path) -> None:
    for number, state in enumerate(freezer().freeze(tmp_path / "now", [DEFAULT_TEMPLATE])):
        assert engine.upgrade(unpacked(state, tmp_path / str(number))).state == "nothing"


def test_a_released_version_is_never_frozen_again() -> None:
    for version in (path for path in RELEASED.iterdir() if path.is_dir()):
        with pytest.raises(FileExistsError):
            freezer().freeze(version, [DEFAULT_TEMPLATE])


@pytest.mark.parametrize("project", PROJECTS)
def test_what_is_kept_was_made_by_its_version(project: Path, tmp_path: Path) -> None:
    assert {"baseline.zip", "manifest.json"} <= {path.name for path in project.iterdir()}
    assert read_state(unpacked(project, tmp_path))[0].paccel == project.parent.name


@pytest.mark.parametrize("project", PROJECTS)
def test_an_unedited_project_becomes_what_new_would_make(project: Path, tmp_path: Path) -> None:
    root = unpacked(project, tmp_path)
    outcome = engine.upgrade(root)
    assert outcome.conflicts == ()
    manifest = read_manifest(root)
    template = load_template(manifest.template.source)
    assert (manifest.paccel, manifest.template.digest) == (__version__, template.digest)
    assert read_tree(root) == render(template, manifest.answers) == read_state(root)[1]


@pytest.mark.parametrize("project", PROJECTS)
@pytest.mark.slow
def test_every_edit_of_an_edited_project_survives(project: Path, tmp_path: Path) -> None:
    root = unpacked(project, tmp_path)
    before = read_tree(root)
    edited = {path: MINE.format(number) for number, path in enumerate(before) if path.endswith((".py", ".md", ".toml"))}
    for path, line in edited.items():
        with open(root / path, "a") as file:
            file.write(line)
    (root / "mine.py").write_text("x = 1\n")
    (root / ".gitignore").unlink()
    outcome = engine.upgrade(root)
    everything = "".join(file.content.decode(errors="replace") for file in read_tree(root).values())
    assert [line for line in edited.values() if line not in everything] == []
    assert (root / "mine.py").read_text() == "x = 1\n"
    assert not (root / ".gitignore").exists()
    for path in root.rglob("*.py"):
        if "<<<<<<<" not in path.read_text():
            ast.parse(path.read_text())
    if outcome.state != "nothing":
        engine.undo_upgrade(root)
    assert (root / "train.py").read_bytes() == before["train.py"].content + edited["train.py"].encode()


@pytest.mark.parametrize("project", PROJECTS)
def test_every_name_that_an_old_project_takes_from_the_runtime_is_there(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")  # the generator is tested without the runtime too
    import paccel.runtime as runtime

    taken = {
        alias.name
        for path in unpacked(project, tmp_path).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "paccel.runtime"
        for alias in node.names
    }
    assert taken
    assert sorted(taken - {*dir(runtime)}) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "project", sorted(RELEASED.glob(f"*/{DEFAULT_TEMPLATE}-default/")), ids=lambda it: it.parent.name
)
def test_an_old_project_trains_on_todays_runtime(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    root = unpacked(project, tmp_path)
    command = [sys.executable, "train.py", "--max-steps", "3", "--run-dir", "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert '"finished"' in (root / "run" / "status.json").read_text()
