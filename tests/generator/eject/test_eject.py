"""`paccel eject` gives a project its own runtime, and everything else works as before."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import black
import pytest
from support.applied import contents
from support.killed import finish_and_go_back, killed_at_some_writes
from support.sampled import every_third_day

from paccel.cli.report import doctor_data
from paccel.eject.eject import eject
from paccel.files import disk
from paccel.files.tree import read_tree
from paccel.health.doctor import examine_project
from paccel.upgrade.upgrade import upgrade
from paccel.vendor.runtime import PACKAGE, runtime_files

pytestmark = pytest.mark.slow

PYPROJECT = (
    '[project]\nname = "net"\nversion = "1"\ndependencies = [\n    "paccel[runtime]>=0.2",\n    "torch>=2.6",\n]\n'
)
TRAIN = "from paccel.runtime import Run\n\nRATE = 0.1\nprint(Run)\n{% if cookiecutter.ema %}EMA = 1\n{% endif %}"


class Ejectable:
    """A project of a small template that uses the runtime."""

    def __init__(self, paccel: Callable[..., Any], template: Callable[..., Path], work: Path) -> None:
        self.run = paccel
        self.source = template({"train.py": TRAIN, "pyproject.toml": PYPROJECT}, {"ema": False})
        assert paccel("new", "net", "--template", self.source, "--no-input").code == 0
        self.root = work / "net"

    def tree(self) -> dict[str, bytes]:
        return {path: file.content for path, file in read_tree(self.root, ignore=(".git", "undo")).items()}

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def change(self, old: str, new: str) -> None:
        path = self.source / "{{cookiecutter.project_name}}" / "train.py"
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def net(
    paccel: Callable[..., Any], template: Callable[..., Path], work: Path, monkeypatch: pytest.MonkeyPatch
) -> Ejectable:
    made = Ejectable(paccel, template, work)
    monkeypatch.chdir(made.root)
    return made


def test_the_project_has_the_runtime_and_its_licence_and_no_longer_names_paccel(net: Ejectable) -> None:
    (net.root / "own.py").write_text("from paccel import runtime as rt\nx = 1\n")
    (net.root / "notes.txt").write_text("nothing\n")
    result = net.run("eject")
    assert result.code == 0, result.err
    copied = {path: (net.root / PACKAGE / path).read_bytes() for path in runtime_files()}
    assert copied == {path: file.content for path, file in runtime_files().items()}
    assert "LICENSE" in copied
    assert net.read("train.py").startswith("from paccel_runtime import Run\n")
    assert net.read("own.py") == "import paccel_runtime as rt\nx = 1\n"
    assert net.read("notes.txt") == "nothing\n"
    assert "paccel" not in net.read("pyproject.toml")
    assert '"accelerate>=1.10",\n' in net.read("pyproject.toml")
    assert net.read("pyproject.toml").count("torch") == 1
    assert net.run("diff").out == ""
    health = examine_project(net.root)
    assert doctor_data({}, health)["project"]["vendored"]["path"] == PACKAGE
    assert health.problems == ()
    assert net.run("upgrade").out.startswith("Up to date")


def test_edits_stay_and_later_upgrades_and_answers_merge_into_them(net: Ejectable) -> None:
    path = net.root / "train.py"
    path.write_text(path.read_text().replace("0.1", "0.5"))
    assert net.run("eject").code == 0
    assert "RATE = 0.5" in path.read_text()
    own = net.root / PACKAGE / "meter.py"
    own.write_text(own.read_text() + "# mine\n")
    net.change("from paccel.runtime import Run", "from paccel.runtime import Meter, Run")
    result = net.run("upgrade")
    assert result.code == 0, result.out + result.err
    assert path.read_text().startswith("from paccel_runtime import Meter, Run\n")
    assert "RATE = 0.5" in path.read_text()
    assert net.run("set", "ema=true").code == 0
    assert "EMA = 1" in path.read_text()
    assert own.read_text().endswith("# mine\n")
    assert [file["path"] for file in net.run("diff", "--json").data["files"]] == [f"{PACKAGE}/meter.py", "train.py"]
    assert net.run("diff", "--upstream").out == ""


def test_a_newer_runtime_is_merged_like_any_other_file(net: Ejectable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert net.run("eject").code == 0
    own = net.root / PACKAGE / "meter.py"
    own.write_text("# mine\n" + own.read_text())
    newer = dict(runtime_files())
    newer["meter.py"] = newer["meter.py"]._replace(content=newer["meter.py"].content + b"# newer\n")
    newer["extra.py"] = newer["LICENSE"]
    for module in ("runtime", "rewrite"):
        monkeypatch.setattr(f"paccel.vendor.{module}.runtime_files", lambda: newer)
    result = net.run("upgrade", "--json")
    assert result.code == 0
    assert {change["path"]: change["status"] for change in result.data["changes"]} == {
        f"{PACKAGE}/meter.py": "merged",
        f"{PACKAGE}/extra.py": "added",
    }
    assert own.read_text().startswith("# mine\n")
    assert own.read_text().endswith("# newer\n")
    assert net.run("upgrade").out.startswith("Up to date")


def test_an_upgrade_still_formats_only_what_changed(net: Ejectable, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (net.root / "pyproject.toml", net.source / "{{cookiecutter.project_name}}" / "pyproject.toml"):
        path.write_text(path.read_text() + "[tool.black]\n")
    (net.source / "{{cookiecutter.project_name}}" / "other.py").write_text("x = 1\n")
    assert net.run("upgrade").code == 0
    assert net.run("eject").code == 0
    formatted: list[str] = []
    real = black.format_str
    monkeypatch.setattr(black, "format_str", lambda text, **options: formatted.append(text) or real(text, **options))
    assert net.run("set", "ema=true").code == 0
    assert [("RATE" in text, "x = 1" in text) for text in formatted] == [(True, False)]


def test_undo_takes_it_back_byte_for_byte(net: Ejectable) -> None:
    before = net.tree()
    assert net.run("eject").code == 0
    assert net.tree() != before
    assert net.run("upgrade", "--undo").code == 0
    assert net.tree() == before
    assert not (net.root / PACKAGE).exists()
    assert net.run("eject").code == 0


def test_a_dry_run_writes_nothing_and_says_the_same(net: Ejectable) -> None:
    before = net.tree()
    planned = net.run("eject", "--dry-run", "--json").data
    assert net.tree() == before
    assert "-from paccel.runtime import Run" in net.run("eject", "--dry-run", "--diff").out
    assert net.run("eject", "--diff").code == 2
    done = net.run("eject", "--json").data
    assert (planned["state"], done["state"]) == ("planned", "done")
    assert planned["changes"] == done["changes"]
    assert planned["vendored"] == done["vendored"] == json.loads(net.read(".paccel/manifest.json"))["vendored"]


def test_a_failure_in_the_middle_leaves_the_project_as_it_was(net: Ejectable, monkeypatch: pytest.MonkeyPatch) -> None:
    before = net.tree()
    real, left = disk.replace_file, iter(range(20))

    def failing(source: Path, target: Path) -> None:
        if next(left, None) is None and "upgrade" not in target.parts:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "replace_file", failing)
        result = net.run("eject")
    assert result.code == 3
    assert "No space left" in result.err
    assert net.tree() == before


def test_twice_is_an_error_that_says_what_to_do(net: Ejectable) -> None:
    assert net.run("eject").code == 0
    result = net.run("eject")
    assert (result.code, result.out) == (3, "")
    assert "already, in `paccel_runtime`: `paccel upgrade` keeps it up to date" in result.err


def test_bad_situations_are_refused(net: Ejectable) -> None:
    (net.root / PACKAGE).mkdir()
    assert "`paccel_runtime` exists already" in net.run("eject").err
    (net.root / PACKAGE).rmdir()
    for into in ("nowhere", "../x", "/tmp"):
        assert net.run("eject", "--into", into).code == 2
    (net.root / "train.py").write_text("x = 1\n")
    result = net.run("eject")
    assert (result.code, "No file of this project imports" in result.err) == (3, True)


def test_a_project_of_another_paccel_is_upgraded_first(net: Ejectable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.eject.eject.__version__", "9.0")
    result = net.run("eject")
    assert (result.code, "`paccel upgrade` first" in result.err) == (3, True)


def test_uncommitted_edits_are_guarded(net: Ejectable, git: Callable[..., str]) -> None:
    git(net.root, "init", "-q")
    git(net.root, "add", "-A")
    git(net.root, "commit", "-qm", "one")
    (net.root / "train.py").write_text(net.read("train.py") + "# edit\n")
    result = net.run("eject")
    assert (result.code, "`train.py`" in result.err) == (3, True)
    assert net.run("eject", "--allow-dirty").code == 0


def test_code_in_src_has_the_package_beside_it_and_scripts_elsewhere_are_named(net: Ejectable) -> None:
    (net.root / "src").mkdir()
    (net.root / "train.py").rename(net.root / "src" / "train.py")
    (net.root / "uv.lock").write_text("paccel")
    result = net.run("eject", "--dry-run")
    assert "copied     src/paccel_runtime/" in result.out
    assert "`uv.lock` still has paccel: lock again" in result.err
    (net.root / "tool.py").write_text("from paccel.runtime import Run\nimport paccel.catalog\n")
    result = net.run("eject", "--into", "src")
    assert result.code == 0
    assert (net.root / "src" / PACKAGE / "run.py").is_file()
    assert "`tool.py` line 2" in result.err
    assert "run them with `PYTHONPATH=src`" in result.err


def test_a_project_that_ignores_data_has_all_of_the_copy_in_git(net: Ejectable, git: Callable[..., str]) -> None:
    git(net.root, "init", "-q")
    (net.root / ".gitignore").write_text("data/\nrecord\n*.toml\n__pycache__/\n")
    assert net.run("eject").code == 0
    (net.root / PACKAGE / "data" / "__pycache__").mkdir()
    (net.root / PACKAGE / "data" / "__pycache__" / "order.cpython-311.pyc").write_bytes(b"x")
    git(net.root, "add", "-A")
    listed = git(net.root, "ls-files", PACKAGE).splitlines()
    assert sorted(listed) == sorted(f"{PACKAGE}/{path}" for path in runtime_files())


def test_an_ejected_project_that_lost_its_state_is_adopted_as_one(net: Ejectable) -> None:
    assert net.run("eject").code == 0
    before = json.loads(net.read(".paccel/manifest.json"))
    shutil.rmtree(net.root / ".paccel")
    assert net.run("adopt", "--template", net.source).code == 0
    after = json.loads(net.read(".paccel/manifest.json"))
    assert (after["vendored"], after["files"]) == (before["vendored"], before["files"])
    assert net.run("diff").out == ""


def test_a_package_that_setuptools_finds_by_itself_is_named(net: Ejectable) -> None:
    (net.root / "net").mkdir()
    (net.root / "net" / "__init__.py").write_text("from paccel.runtime import Run\n")
    assert "`packages = [...]`" in net.run("eject").err


def test_a_lost_copy_is_a_problem_for_doctor_and_comes_back(net: Ejectable) -> None:
    assert net.run("eject").code == 0
    shutil.rmtree(net.root / PACKAGE)
    (problem,) = examine_project(net.root).problems
    assert f"`{PACKAGE}`, is missing" in problem
    assert net.run("upgrade", "--restore", PACKAGE).code == 0
    assert examine_project(net.root).problems == ()


def test_a_lost_baseline_is_rendered_again(net: Ejectable) -> None:
    assert net.run("eject").code == 0
    before = net.tree()
    (net.root / ".paccel" / "baseline.zip").unlink()
    assert net.run("doctor", "--rebuild-baseline").code == 0
    assert net.tree() == before


@pytest.mark.parametrize(
    "entry", [[], {}, {"path": "../x", "version": "1", "sha256": "0" * 64}, {"path": "a", "version": "1"}]
)
def test_a_damaged_entry_in_the_manifest_is_an_error(entry: object, net: Ejectable) -> None:
    path = net.root / ".paccel" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vendored": entry}))
    result = net.run("upgrade")
    assert (result.code, "damaged" in result.err) == (3, True)


HIDE = """
import runpy, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("paccel", "click", "jinja2", "black", "cookiecutter"):
            raise ModuleNotFoundError(f"No module named {name!r} (hidden by the test)", name=name)
sys.meta_path.insert(0, Hide())
from importlib import metadata
real = metadata.version
def version(name):
    if name == "paccel":
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
runpy.run_path(sys.argv[1], run_name="__main__")
"""


BEFORE = """
from pathlib import Path
import train

settings = dict(max_steps=6, limit_batches=3, save_every=2, log_every=1, global_batch_size=32)
train.main(train.Config(run_dir=Path("runs/straight"), **settings))
try:
    train.main(train.Config(run_dir=Path("runs/cut"), time_limit=0.001, **settings))
except SystemExit as stopped:
    assert stopped.code == 75
"""
AFTER = """
from pathlib import Path
import evaluate, pytest, train

settings = dict(max_steps=6, limit_batches=3, save_every=2, log_every=1, global_batch_size=32)
train.main(train.Config(run_dir=Path("runs/cut"), resume="auto", **settings))
assert 0 <= evaluate.main(evaluate.EvaluateConfig(run_dir=Path("runs/cut")))["accuracy"] <= 1
assert pytest.main(["-q", "-p", "no:paccel", "-p", "no:cacheprovider"]) == 0
"""


def python(root: Path, program: str, hidden: bool) -> str:
    """Run a program in a project, with paccel or in an environment without it, and return its errors."""
    (root / "program.py").write_text(program)
    command = [sys.executable, *(["-c", HIDE] if hidden else []), "program.py"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=500, check=False)
    (root / "program.py").unlink()
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.timeout(900)
@every_third_day(2)
def test_a_run_from_before_is_resumed_to_the_byte_where_paccel_is_not_installed(
    work: Path, paccel: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paccel("new", "net", "--set", "ema=true", "--no-input").code == 0
    root = work / "net"
    monkeypatch.chdir(root)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert python(root, BEFORE, hidden=False) == ""
    assert json.loads((root / "runs" / "cut" / "status.json").read_text())["state"] == "stopped"
    assert paccel("eject").code == 0
    assert "hidden by the test" in python(root, "import " + "paccel", hidden=True)
    assert python(root, AFTER, hidden=True) == ""
    straight, cut = ({path.name: path for path in (root / "runs" / run).rglob("*.*")} for run in ("straight", "cut"))
    for name in ("final.safetensors", "best.safetensors"):
        assert straight[name].read_bytes() == cut[name].read_bytes()
    logged = [
        [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in text.splitlines()]
        for text in (straight["metrics.jsonl"].read_text(), cut["metrics.jsonl"].read_text())
    ]
    assert logged[0] == logged[1]
    assert logged[0]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_an_ejection_killed_at_any_write_can_be_finished_and_taken_back(net: Ejectable, tmp_path: Path) -> None:
    (net.root / "own.py").write_text("from paccel.runtime import Run\n")
    _killed_and_finished(net.root, eject, tmp_path / "kills")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
def test_an_upgrade_of_an_ejected_project_killed_at_any_write_can_be_finished_and_taken_back(
    net: Ejectable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert net.run("eject").code == 0
    own = net.root / PACKAGE / "meter.py"
    own.write_text("# mine\n" + own.read_text())
    newer = {path: file._replace(content=file.content + b"\n# newer\n") for path, file in runtime_files().items()}
    for module in ("runtime", "rewrite"):
        monkeypatch.setattr(f"paccel.vendor.{module}.runtime_files", lambda: newer)
    _killed_and_finished(net.root, upgrade, tmp_path / "kills")


def _killed_and_finished(root: Path, action: Callable[[Path], object], folder: Path) -> None:
    before = contents(root)
    ideal = shutil.copytree(root, folder / "ideal")
    action(ideal)
    after = contents(ideal)
    assert after != before
    killed = 0
    for copy in killed_at_some_writes(root, action, folder, 12):
        finish_and_go_back(copy, before, after, folder)
        killed += 1
    assert killed >= 12
