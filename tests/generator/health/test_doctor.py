"""`paccel doctor` reports the machine and the project's problems, and rebuilds a baseline if the hashes match."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paccel import __version__
from paccel.files import disk
from paccel.health import doctor
from paccel.project.interpreter import find_interpreter
from paccel.project.state import BASELINE_PATH, MANIFEST_PATH, read_state

Run = Callable[..., Any]
Make = Callable[..., Path]

MACHINE = {
    "paccel": "0.1.0",
    "interpreter": {"path": "/env/bin/python", "origin": "VIRTUAL_ENV"},
    "python": "3.11.7",
    "system": "Linux",
    "cpus": 2,
    "versions": {"torch": "2.9"},
}
TORCH = {
    "devices": [{"device": "cuda:0", "name": "H200", "memory_bytes": 150 * 2**30}],
    "precisions": ["fp32"],
    "backends": ["gloo"],
}


@pytest.fixture
def demo(template: Make) -> Path:
    return template({"train.py": "a = 1\n", "run.sh": "#!/bin/sh\n"}, {"ema": False})


@pytest.fixture
def made(paccel: Run, work: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert paccel("new", "net", "--template", demo, "--set", "ema=true").code == 0
    monkeypatch.chdir(work / "net")
    monkeypatch.setattr(doctor, "examine_machine", lambda root: MACHINE | TORCH)
    return work / "net"


def test_a_valid_project_is_ok(paccel: Run, made: Path) -> None:
    outcome = paccel("doctor")
    assert outcome.code == 0
    assert outcome.out == (
        "system      Linux, 2 CPUs\n"
        "python      /env/bin/python (VIRTUAL_ENV)\n"
        "versions    paccel 0.1.0, python 3.11.7, torch 2.9\n"
        "devices     cuda:0 (H200, 150 GiB)\n"
        "precisions  fp32\n"
        "backends    gloo\n"
        f"project     net (template demo, paccel {__version__})\n"
        "state       ok\n"
    )
    data = paccel("doctor", "--json").data
    assert data["machine"] == MACHINE | TORCH
    assert data["project"] == {
        "root": str(made),
        "template": "demo",
        "paccel": __version__,
        "sound": True,
        "problems": [],
    }


def test_edits_are_no_damage(paccel: Run, made: Path) -> None:
    (made / "train.py").write_text("mine\n=======\n")
    (made / "run.sh").unlink()
    assert paccel("doctor").code == 0


def test_damage_exits_with_3_and_says_where(paccel: Run, made: Path) -> None:
    (made / "train.py").write_text("a\n<<<<<<< yours\nb\n=======\nc\n>>>>>>> template\n")
    (made / BASELINE_PATH).write_bytes(b"")
    outcome = paccel("doctor")
    assert outcome.code == 3
    assert "state       needs attention\n" in outcome.out
    assert "`train.py` contains conflict markers" in outcome.out
    assert "`.paccel/baseline.zip` is damaged: it is not a ZIP file" in outcome.out
    assert len(paccel("doctor", "--json").data["project"]["problems"]) == 2


def test_an_unfinished_upgrade_is_damage_that_names_the_way_out(paccel: Run, made: Path, demo: Path) -> None:
    (made / "train.py").write_text("a = 2\n")
    (demo / "{{cookiecutter.project_name}}" / "train.py").write_text("a = 3\n")
    assert paccel("upgrade").code == 1
    outcome = paccel("doctor")
    assert outcome.code == 3
    assert "`paccel upgrade --continue`" in outcome.out
    assert paccel("upgrade", "--abort").code == 0
    assert paccel("doctor").code == 0


def test_outside_of_a_project_the_machine_is_told(paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine_machine", lambda root: MACHINE | TORCH)
    outcome = paccel("doctor")
    assert outcome.code == 0
    assert "project     none in this folder\n" in outcome.out
    assert paccel("doctor", "--json").data["project"] is None


@pytest.mark.slow
def test_the_probe_answers_with_or_without_torch(work: Path) -> None:
    (work / "torch.py").write_text("raise SystemExit('not the real one')")
    facts = doctor.examine_machine(work)
    assert ("error" in facts) != ("devices" in facts)
    if "devices" in facts:
        assert {device["device"] for device in facts["devices"]} >= {"cpu"}
        assert "fp32" in facts["precisions"]
        assert "gloo" in facts["backends"]
        assert facts["versions"]["torch"]


def answer(stdout: str = "", stderr: str = "", code: int = 0) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *_, **__: subprocess.CompletedProcess([], code, stdout, stderr)


def late(*_: object, **__: object) -> None:
    raise subprocess.TimeoutExpired("python", 1)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (answer('{"versions": {}}'), "torch is not installed for PYTHON: run `pip install 'paccel[runtime]'`"),
        (
            answer(stderr="Traceback\nOSError: libcuda.so", code=1),
            "torch cannot be imported with PYTHON: OSError: libcuda.so",
        ),
        (answer(code=-11), "exit code -11"),
        (answer("nonsense"), "torch could not be checked"),
        (answer(""), "torch could not be checked"),
        (late, "torch could not be imported within 120 s"),
    ],
)
def test_a_torch_that_does_not_answer_is_explained(
    paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch, run: Any, message: str
) -> None:
    monkeypatch.setattr(subprocess, "run", run)
    message = message.replace("PYTHON", str(find_interpreter(work)))
    outcome = paccel("doctor")
    assert outcome.code == 0
    assert f"devices     unknown: {message}" in outcome.out or message in outcome.out


def test_a_lost_baseline_is_rebuilt(paccel: Run, made: Path) -> None:
    state = read_state(made)
    before = (made / BASELINE_PATH).read_bytes()
    (made / "train.py").write_text("mine\n")
    for damage in (b"", b"x", None):
        (made / BASELINE_PATH).unlink() if damage is None else (made / BASELINE_PATH).write_bytes(damage)
        outcome = paccel("doctor", "--rebuild-baseline")
        assert (outcome.code, outcome.out) == (
            0,
            "Rebuilt the baseline of net: 2 files, as recorded in the manifest\n",
        )
        assert (made / BASELINE_PATH).read_bytes() == before
        assert read_state(made) == state
    assert (made / "train.py").read_text() == "mine\n"
    assert paccel("doctor", "--rebuild-baseline", "--json").data["files"] == ["run.sh", "train.py"]


def test_a_template_of_another_version_rebuilds_nothing(paccel: Run, made: Path, demo: Path) -> None:
    (made / BASELINE_PATH).write_bytes(b"")
    (demo / "{{cookiecutter.project_name}}" / "train.py").write_text("b = 2\n")
    outcome = paccel("doctor", "--rebuild-baseline")
    assert outcome.code == 3
    assert "The template `demo` has changed" in outcome.err
    assert "restore the template and try again" in outcome.err
    manifest = (made / MANIFEST_PATH).read_text()
    (made / MANIFEST_PATH).write_text(manifest.replace(f'"paccel": "{__version__}"', '"paccel": "0.0.9"'))
    assert "`pip install paccel==0.0.9` and try again" in paccel("doctor", "--rebuild-baseline").err
    assert (made / BASELINE_PATH).read_bytes() == b""


def test_a_render_that_differs_from_the_manifest_rebuilds_nothing(paccel: Run, made: Path) -> None:
    manifest = (made / MANIFEST_PATH).read_text()
    sha = read_state(made)[0].files["train.py"][0]
    (made / MANIFEST_PATH).write_text(manifest.replace(sha, "0" * 64))
    outcome = paccel("doctor", "--rebuild-baseline")
    assert outcome.code == 3
    assert "no longer renders the files that the manifest recorded: `train.py`" in outcome.err


def test_conflict_markers_in_the_manifest_are_explained_first(paccel: Run, made: Path) -> None:
    (made / MANIFEST_PATH).write_text("<<<<<<< HEAD\n")
    outcome = paccel("doctor", "--rebuild-baseline")
    assert outcome.code == 3
    assert "git conflict markers" in outcome.err


def test_a_baseline_is_not_rebuilt_while_another_command_works(paccel: Run, made: Path) -> None:
    (made / BASELINE_PATH).write_bytes(b"")
    with disk.locked(made):
        outcome = paccel("doctor", "--rebuild-baseline")
    assert outcome.code == 3
    assert "Another paccel command is working" in outcome.err
    assert (made / BASELINE_PATH).read_bytes() == b""
    assert paccel("doctor", "--rebuild-baseline").code == 0


@pytest.mark.skipif(os.name == "nt", reason="other folders there")
def test_the_machine_is_examined_with_the_projects_python(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    python = work / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nothing/python3")
    facts = doctor.examine_machine(work)
    assert facts["python"] == "unknown"
    assert facts["error"] == f"the project's Python `{python}` (`.venv`) does not work: No such file or directory"
    python.unlink()
    python.write_text('#!/bin/sh\necho \'{"python": "9.9", "versions": {"torch": "9"}, "devices": []}\'\n')
    python.chmod(0o755)
    facts = doctor.examine_machine(work)
    assert (facts["python"], facts["versions"], "error" in facts) == ("9.9", {"torch": "9"}, False)
    assert facts["interpreter"] == {"path": str(python), "origin": ".venv"}
