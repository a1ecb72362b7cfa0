"""Today's projects on the next version.

The next version is made here, from today's templates: it renames a file and changes it, deletes one, adds one, asks a new
question, renames a question, and changes train.py near the users' edits and far from them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.released import freezer, project_params, unpacked
from support.sampled import every_third_day

import paccel
import paccel.upgrade.upgrade as engine
from paccel.catalog import catalog
from paccel.catalog.catalog import DEFAULT_TEMPLATE, bundled_names, bundled_root, load_template
from paccel.files.tree import File, read_tree
from paccel.project import state as baseline
from paccel.project.state import read_manifest, read_state
from paccel.render.render import render
from paccel.upgrade import preconditions, renders

pytestmark = pytest.mark.slow

PROJECTS = project_params(
    *(Path("today", f"{name}-{which}") for name in bundled_names() for which in ("default", "other"))
)
PROJECT = "{{cookiecutter.project_name}}"
MAJOR, MINOR, _ = paccel.__version__.split(".")
NEXT = f"{MAJOR}.{int(MINOR) + 1}.0"
LOOP = re.compile(r"^ +for epoch in run\.epochs\(.*\n", re.MULTILINE)
NEW_LINE = '        print("the next version says where the loop begins")\n'
NEW_END = "\n\n# The next version has a word at the end.\n"
MOVED_LINE = "# The next version has moved this.\n"
CHANGES = f"""
[[changes]]
version = "{NEXT}"
files = ["train.py"]
text = "The loop says where it begins."

[questions.pace]
help = "How fast it is to go"
"""


def moved(files: Path) -> tuple[str, str]:
    """The file that the next version renames, and its new path."""
    scores = (files / "evaluate.py").is_file()
    return ("evaluate.py", "scores/scoring.py") if scores else ("tests/test_train.py", "tests/test_training.py")


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    old = path.read_text()
    new = change(old)
    assert new != old, path
    path.write_text(new)


def inserted(text: str, line: str, above: bool) -> str:
    """`line` above or below the line that starts the loop over epochs."""
    found = LOOP.search(text)
    assert found is not None
    place = found.start() if above else found.end()
    return text[:place] + line + text[place:]


def make_next(folder: Path) -> Path:
    """Write the templates of the next version."""
    root = Path(shutil.copytree(bundled_root(), folder, ignore=shutil.ignore_patterns("__pycache__")))
    (root / "_base" / PROJECT / ".gitattributes").unlink()
    (root / "_base" / PROJECT / "NOTES.md").write_text(
        "# {{ cookiecutter.project_name }}\n\nPace: {{ cookiecutter.pace }}\n"
    )
    rewrite(root / "_base" / "cookiecutter.json", lambda text: text.replace("{", '{"pace": ["steady", "fast"],', 1))
    for path in root.rglob("*"):
        if path.is_file() and b"cookiecutter.ema" in path.read_bytes():
            rewrite(path, lambda text: text.replace("cookiecutter.ema", "cookiecutter.average"))
    training = root / "_training"
    rewrite(training / "cookiecutter.json", lambda text: text.replace('"ema"', '"average"'))
    rewrite(training / "paccel.toml", lambda text: text.replace("[questions.ema]", "[questions.average]"))
    with open(training / "paccel.toml", "a") as file:
        file.write('\n[[renamed_answers]]\nfrom = "ema"\nto = "average"\n')
    for template in (path.parent for path in root.glob("[a-z]*/cookiecutter.json")):
        old, new = moved(template / PROJECT)
        source, target = template / PROJECT / old, template / PROJECT / new
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        rewrite(target, lambda text: MOVED_LINE + text)
        rewrite(template / PROJECT / "train.py", lambda text: inserted(text, NEW_LINE, above=True) + NEW_END)
        with open(template / "paccel.toml", "a") as file:
            file.write(CHANGES + f'\n[[moved]]\nfrom = "{old}"\nto = "{new}"\n')
    return root


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_next(tmp_path_factory.mktemp("next") / "templates")


@pytest.fixture(scope="module", params=PROJECTS)
def state(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a project of today."""
    return frozen(request.param, tmp_path_factory.mktemp("kept"))


def frozen(project: Path, folder: Path) -> Path:
    target = folder / project.parent
    freezer().freeze(target, [project.name.rpartition("-")[0]])
    return target / project.name


@pytest.fixture
def upgrading(templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the next version of paccel from here on."""
    monkeypatch.setattr(catalog, "bundled_root", lambda: templates)
    for module in (paccel, engine, preconditions, renders, baseline):
        monkeypatch.setattr(module, "__version__", NEXT)


def everything(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `root`, including the state, with its mode."""
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode) for path in files_of(root)}


def files_of(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file()]


def said(root: Path) -> str:
    """All text of the project, including `.paccel/incoming`."""
    return "".join(
        file.content.decode(errors="replace") for file in read_tree(root, ignore=("undo", "upgrade")).values()
    )


def expected_answers(before: dict[str, object]) -> dict[str, object]:
    renamed = {("average" if name == "ema" else name): answer for name, answer in before.items()}
    return {**renamed, "pace": "steady"}


@pytest.mark.usefixtures("upgrading")
def test_an_unedited_project_becomes_what_the_next_version_makes(state: Path, tmp_path: Path) -> None:
    root = unpacked(state, tmp_path)
    before, old = everything(root), read_manifest(root)
    outcome = engine.upgrade(root)
    assert (outcome.state, outcome.conflicts) == ("done", ())
    manifest = read_manifest(root)
    template = load_template(manifest.template.source)
    assert dict(manifest.answers) == expected_answers(dict(old.answers))
    assert (manifest.paccel, manifest.template.release, manifest.template.digest) == (NEXT, NEXT, template.digest)
    assert read_tree(root) == render(template, manifest.answers) == read_state(root)[1]
    statuses = {change.path: change.status for change in outcome.changes}
    place = "scores/scoring.py" if "evaluate.py" in old.files else "tests/test_training.py"
    assert {
        ("train.py", "updated"),
        (place, "moved"),
        (".gitattributes", "deleted"),
        ("NOTES.md", "added"),
    } <= statuses.items()
    why = next(change.why for change in outcome.changes if change.path == "train.py")
    assert list(why) == [f"{NEXT}: The loop says where it begins."]
    assert engine.upgrade(root).state == "nothing"
    engine.undo_upgrade(root)
    assert everything(root) == before


MINE = {
    "near": '            print("mine, below the head of the loop")\n',
    "far": "# mine, at the top\n",
    "moved": "# mine, in a file that moves\n",
    "more": "mine = 1\n",
}


def edit_apart(root: Path, place: str) -> None:
    """Edits that collide with no change of the next version."""
    rewrite(root / "train.py", lambda text: MINE["far"] + inserted(text, MINE["near"], above=False))
    rewrite(root / place, lambda text: text + MINE["moved"])
    (root / "more.py").write_text(MINE["more"])
    (root / ".gitignore").unlink()


@pytest.mark.usefixtures("upgrading")
def test_edits_beside_the_next_versions_changes_stand_after_it(state: Path, tmp_path: Path) -> None:
    root = unpacked(state, tmp_path)
    old, new = moved(root)
    edit_apart(root, old)
    before, edited = everything(root), read_tree(root)
    outcome = engine.upgrade(root)
    assert (outcome.state, outcome.conflicts) == ("done", ())
    fresh = read_state(root)[1]
    after = read_tree(root)
    train = inserted(fresh["train.py"].content.decode(), MINE["near"], above=False)
    wanted = fresh | {
        "train.py": File((MINE["far"] + train).encode()),
        new: File(fresh[new].content + MINE["moved"].encode()),
        "more.py": edited["more.py"],
    }
    del wanted[".gitignore"]
    assert after == wanted
    assert engine.upgrade(root).state == "nothing"
    engine.undo_upgrade(root)
    assert everything(root) == before


@pytest.mark.usefixtures("upgrading")
def test_edits_where_the_next_version_changes_too_are_offered_beside_it(state: Path, tmp_path: Path) -> None:
    root = unpacked(state, tmp_path)
    old, new = moved(root)
    here, there = '        print("mine, where the next version prints")\n', "# mine, where the file is gone\n"
    edit_apart(root, old)
    rewrite(root / "train.py", lambda text: inserted(text, here, above=True))
    rewrite(root / ".gitattributes", lambda text: text + there)
    before = everything(root)
    outcome = engine.upgrade(root)
    assert (outcome.state, sorted(outcome.conflicts)) == ("conflicts", [".gitattributes", "train.py"])
    assert f"<<<<<<< yours\n{here}" in (root / "train.py").read_text()
    assert f"=======\n{NEW_LINE}>>>>>>> " in (root / "train.py").read_text()
    text = said(root)
    assert [line for line in (*MINE.values(), here, there, NEW_LINE, NEW_END, MOVED_LINE) if line not in text] == []
    assert there in (root / ".gitattributes").read_text()
    shutil.copytree(root, tmp_path / "decided")
    engine.abort_upgrade(root)
    assert everything(root) == before

    root = tmp_path / "decided"
    decided = re.sub(r"<<<<<<< .*\n|\|{7} .*\n|=======\n|>>>>>>> .*\n", "", (root / "train.py").read_text())
    (root / "train.py").write_text(decided)
    assert engine.continue_upgrade(root).state == "done"
    assert read_state(root)[0].paccel == NEXT
    assert (root / new).read_text().startswith(MOVED_LINE)
    assert engine.upgrade(root).state == "nothing"
    engine.undo_upgrade(root)
    assert everything(root) == before


@every_third_day(1)
def test_a_user_who_installs_the_next_version_upgrades_with_one_command(templates: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed" / "paccel"
    # Without the templates that a wheel puts there: what the next version has renamed would still be there
    shutil.copytree(
        Path(paccel.__file__).parent, installed, ignore=shutil.ignore_patterns("__pycache__", "templates", "runtime")
    )
    rewrite(installed / "__init__.py", lambda text: text.replace(paccel.__version__, NEXT))
    shutil.copytree(templates, installed / "templates")
    root = unpacked(frozen(Path("today", f"{DEFAULT_TEMPLATE}-other"), tmp_path), tmp_path)
    edit_apart(root, "evaluate.py")
    before = everything(root)

    def run(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-c", "from paccel.cli import main; main()", "upgrade", *options]
        environment = {**os.environ, "PYTHONPATH": str(installed.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert run("--check")[0] == 10
    code, shown = run()
    assert code == 0, shown
    for line in ("moved     scores/scoring.py", "deleted   .gitattributes", "added     NOTES.md", "merged    train.py"):
        assert line in shown
    assert "`ema=true` is now `average=true`" in shown
    assert "new question `pace`, answered with its default `steady`" in shown
    assert all(line in said(root) for line in (*MINE.values(), NEW_LINE, NEW_END, MOVED_LINE))
    assert run() == (0, "Up to date\n")
    assert run("--undo")[0] == 0
    assert everything(root) == before
