"""`paccel new` creates a complete project, or nothing, and then says why."""

import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from paccel.cli import main as cli
from paccel.files.tree import read_tree
from paccel.project import folder as project
from paccel.project.state import read_state

Run = Callable[..., Any]
Make = Callable[..., Path]

needs_permissions = pytest.mark.skipif(
    os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may write anywhere"
)


@pytest.fixture
def demo(template: Make) -> Path:
    return template(
        {
            "train.py": '"""Train it. All of it."""\n\nEMA = {{ cookiecutter.ema }}\n',
            "pyproject.toml": "[project]\nname = '{{ cookiecutter.project_name }}'\n",
            "launch/run.sh": "#!/bin/sh\necho {{ cookiecutter.data }}\n",
        },
        {"ema": False, "data": ["digits", "mnist"]},
        metadata="[questions.project_name]\npackage = true\n",
    )


def snapshot(root: Path) -> Mapping[str, Any]:
    return {str(path.relative_to(root)): path.lstat().st_mode for path in root.rglob("*")}


def test_a_project_is_made(paccel: Run, work: Path, demo: Path) -> None:
    outcome = paccel("new", "my-net", "--template", demo, "--set", "ema=yes")
    assert (outcome.code, outcome.err) == (0, "")
    manifest, base = read_state(work / "my-net")
    assert read_tree(work / "my-net") == base
    assert base["train.py"].content.endswith(b"EMA = True\n")
    assert base["launch/run.sh"].executable
    assert manifest.answers == {"project_name": "my-net", "ema": True, "data": "digits"}
    assert (manifest.template.name, manifest.template.source) == ("demo", str(demo))
    assert os.listdir(work) == ["my-net"]


def test_it_says_what_it_made_and_what_comes_next(paccel: Run, demo: Path) -> None:
    out = paccel("new", "my-net", "--template", demo).out
    assert out == (
        "Created my-net from the template demo\n"
        "\n"
        "my-net/\n"
        "├── pyproject.toml  dependencies and tool settings\n"
        "├── train.py        Train it\n"
        "└── launch/\n"
        "    └── run.sh\n"
        "\n"
        "Next:\n"
        "  cd my-net\n"
        "  pip install -e .\n"
        "  python train.py\n"
    )


def test_json_says_the_same_in_one_object(paccel: Run, work: Path, demo: Path) -> None:
    data = paccel("new", "my-net", "--template", demo, "--json").data
    assert data["project"] == str(work / "my-net")
    assert data["template"]["name"] == "demo"
    assert data["answers"] == {"project_name": "my-net", "ema": False, "data": "digits"}
    assert data["files"] == ["launch/run.sh", "pyproject.toml", "train.py"]
    assert data["next"] == ["cd my-net", "pip install -e .", "python train.py"]
    assert (data["dry_run"], data["warnings"]) == (False, [])


def test_a_dry_run_writes_nothing(paccel: Run, work: Path, demo: Path) -> None:
    outcome = paccel("new", "a/b", "--template", demo, "--dry-run")
    assert outcome.code == 0
    assert outcome.out.startswith("Would create a/b from the template demo\n")
    assert "Next:" not in outcome.out
    data = paccel("new", "a/b", "--template", demo, "--dry-run", "--json").data
    assert (data["dry_run"], data["answers"]["data"]) == (True, "digits")
    assert not list(work.iterdir())


def test_set_wins_over_the_answers_file(paccel: Run, work: Path, demo: Path) -> None:
    (work / "answers.toml").write_text('ema = true\ndata = "mnist"\n')
    data = paccel("new", "x", "--template", demo, "--answers", "answers.toml", "--set", "data=digits", "--json").data
    assert data["answers"] == {"project_name": "x", "ema": True, "data": "digits"}


def test_hooks_are_warned_about(paccel: Run, template: Make) -> None:
    folder = template(extra={"hooks/pre_gen_project.sh": "exit 1"})
    assert "Warning: The hooks in" in paccel("new", "x", "--template", folder).err
    assert paccel("new", "y", "--template", folder, "--json").data["warnings"]


def test_an_empty_folder_is_filled_and_stays_the_same_folder(
    paccel: Run, work: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "my-net").mkdir()
    inode = (work / "my-net").stat().st_ino
    monkeypatch.chdir(work / "my-net")
    outcome = paccel("new", ".", "--template", demo)
    assert outcome.code == 0
    assert "cd " not in outcome.out
    assert (work / "my-net").stat().st_ino == inode
    assert read_state(work / "my-net")[0].answers["project_name"] == "my-net"
    assert sorted(os.listdir(work / "my-net")) == [".paccel", "launch", "pyproject.toml", "train.py"]


def test_a_project_may_lie_in_another(paccel: Run, work: Path, demo: Path) -> None:
    assert paccel("new", "outer", "--template", demo).code == 0
    assert paccel("new", "outer/deep/inner", "--template", demo).code == 0
    read_state(work / "outer")
    read_state(work / "outer" / "deep" / "inner")


def test_a_plain_cookiecutter_template_has_no_project_name(paccel: Run, work: Path, write: Callable[..., Path]) -> None:
    folder = write(
        work / "plain",
        {"cookiecutter.json": '{"repo": "x"}', "{{cookiecutter.repo}}/a.txt": "{{ cookiecutter.repo }}"},
    )
    assert paccel("new", "my net", "--template", folder).code == 0
    assert (work / "my net" / "a.txt").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="no umask there")
@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_modes_do_not_follow_the_umask(paccel: Run, work: Path, demo: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert paccel("new", "x", "--template", demo).code == 0
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (work / "x").rglob("*") if path.is_file()}
    assert modes == {0o644, 0o755}
    assert stat.S_IMODE((work / "x").stat().st_mode) == 0o777 & ~umask


BAD: dict[str, tuple[list[str], int, str]] = {
    "unknown template": (["x", "--template", "image-clasification"], 4, "did you mean `image-classification`?"),
    "empty template": (["x", "--template", ""], 4, "There is no template ``"),
    "unknown key": (
        ["x", "--template", "DEMO", "--set", "emaa=1"],
        2,
        "`emaa` is not a question of `demo`; did you mean `ema`?",
    ),
    "value outside the choices": (["x", "--template", "DEMO", "--set", "data=mnst"], 2, "did you mean `mnist`?"),
    "bad bool": (["x", "--template", "DEMO", "--set", "ema=maybe"], 2, "`ema=maybe` is neither `true` nor `false`"),
    "no value": (["x", "--template", "DEMO", "--set", "ema"], 2, "`ema` is not an answer: write `KEY=VALUE`"),
    "no key": (["x", "--template", "DEMO", "--set", "=x"], 2, "write `KEY=VALUE`"),
    "bad project name": (["my net!", "--template", "DEMO"], 2, "did you mean `my-net`?"),
    "project name with accents": (["Prüfung é", "--template", "DEMO"], 2, "did you mean `Prufung-e`?"),
    "bad project name as an answer": (
        ["x", "--template", "DEMO", "--set", "project_name=-"],
        2,
        "is not a valid project name",
    ),
    "path is a file": (["file", "--template", "DEMO"], 2, "`file` exists and is not a folder"),
    "parent is a file": (["file/x", "--template", "DEMO"], 2, "is not a folder"),
    "files in the way": (
        ["full", "--template", "DEMO"],
        2,
        "`full` has files where the template's would go: `PyProject.toml` (`pyproject.toml` in the template), `launch` (a"
        " file), `train.py`; move them away",
    ),
    "files in the way of a dry run": (["full", "--template", "DEMO", "--dry-run"], 2, "`launch` (a file), `train.py`;"),
    "a project": (
        ["project", "--template", "DEMO"],
        2,
        "`project` is a paccel project already: change it with `paccel u",
    ),
    "NUL in the path": (
        ["x\0y", "--template", "DEMO"],
        2,
        "The argument 'x\\x00y' has a character that cannot be used",
    ),
    "dangling link": (["dangling", "--template", "DEMO"], 2, "`dangling` exists and is not a folder"),
    "broken TOML": (["x", "--template", "DEMO", "--answers", "bad.toml"], 2, "`bad.toml` is not valid TOML"),
    "broken JSON": (["x", "--template", "DEMO", "--answers", "bad.json"], 2, "`bad.json` is not valid JSON"),
    "answers of wrong types": (
        ["x", "--template", "DEMO", "--answers", "types.json"],
        2,
        "`data` takes text, not a list",
    ),
    "no answers file": (["x", "--template", "DEMO", "--answers", "no.toml"], 2, "`no.toml` cannot be read"),
    "answers file of another kind": (["x", "--template", "DEMO", "--answers", "file"], 2, "`*.toml` or `*.json`"),
    "no cookiecutter.json": (["x", "--template", "project"], 4, "has no `cookiecutter.json`"),
    "template is no archive": (["x", "--template", "file"], 4, "is not a ZIP file"),
    "undefined variable": (["x", "--template", "UNDEFINED"], 4, "`train.py` line 2 of `undefined`"),
    "syntax error": (
        ["x", "--template", "SYNTAX"],
        4,
        "`train.py` line 1 of `syntax` cannot be rendered",
    ),
    "no path": (["--template", "DEMO"], 2, "Missing argument `PATH`"),
    "unknown option": (["x", "--tempalte", "DEMO"], 2, "`--template`"),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_message_and_leaves_nothing(
    paccel: Run, work: Path, template: Make, demo: Path, case: str, as_json: bool
) -> None:
    undefined = template({"train.py": "x\n{{ cookiecutter.emma }}\n"}, name="undefined")
    syntax = template({"train.py": "{% if %}\n"}, name="syntax")
    (work / "file").write_text("x")
    (work / "full").mkdir()
    for name in ("x", "train.py", "launch", "PyProject.toml"):
        (work / "full" / name).write_text("x")
    (work / "project" / ".paccel").mkdir(parents=True)
    (work / "dangling").symlink_to("nowhere")
    (work / "bad.toml").write_text("a =")
    (work / "bad.json").write_text("{")
    (work / "types.json").write_text('{"data": ["digits"]}')
    places = {"DEMO": demo, "UNDEFINED": undefined, "SYNTAX": syntax}
    arguments, code, message = BAD[case]
    before = snapshot(work)
    outcome = paccel("new", *(places.get(a, a) for a in arguments), *["--json"] * as_json)
    assert outcome.code == code
    if as_json:
        error = outcome.data["error"]
        assert (error["exit_code"], outcome.err) == (code, "")
        assert message in error["message"]
    else:
        assert outcome.out == ""
        assert outcome.err.startswith("Error: ")
        assert outcome.err.count("Error") == 1
        assert message in outcome.err
        assert "Traceback" not in outcome.err
    assert snapshot(work) == before


def test_all_wrong_answers_come_in_one_message(paccel: Run, demo: Path) -> None:
    err = paccel("new", "a b", "--template", demo, "--set", "emaa=1", "--set", "data=x", "--set", "project_name=?").err
    assert all(part in err for part in ("`emaa`", "`data=x`", "`?` is not a valid project name"))


@needs_permissions
def test_an_unwritable_parent_is_explained(paccel: Run, work: Path, demo: Path) -> None:
    (work / "locked").mkdir(mode=0o555)
    outcome = paccel("new", "locked/x", "--template", demo)
    assert (outcome.code, outcome.err) == (2, "Error: `locked/x` cannot be written: Permission denied\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in which not even root can make files")
def test_an_unwritable_path_is_explained(paccel: Run, demo: Path) -> None:
    outcome = paccel("new", "/proc/x", "--template", demo)
    assert outcome.code == 2
    assert outcome.err.startswith("Error: `/proc/x` cannot be written: ")


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "empty folder"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("step", ["write_tree", "write_state", "rename"])
def test_a_failure_while_writing_leaves_what_was_there(
    paccel: Run,
    work: Path,
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    existing: bool,
) -> None:
    module = os if step == "rename" else project
    original = getattr(module, step)

    def fail_after_writing(*arguments: Any) -> None:
        if isinstance(error, KeyboardInterrupt):  # comes in the moment after, which is the worst
            original(*arguments)
        raise error

    if existing:
        (work / "deep" / "x").mkdir(parents=True)
    before = snapshot(work)
    monkeypatch.setattr(module, step, fail_after_writing)
    outcome = paccel("new", "deep/x", "--template", demo)
    if isinstance(error, KeyboardInterrupt):
        assert (outcome.code, outcome.err.strip()) == (130, "Error: interrupted")
    else:
        assert (outcome.code, outcome.err) == (2, "Error: `deep/x` cannot be written: No space left on device\n")
    assert snapshot(work) == before


def test_a_folder_that_appears_meanwhile_is_not_touched(
    paccel: Run, work: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = project.write_state

    def write_state(*arguments: Any) -> None:
        original(*arguments)
        (work / "x").mkdir()
        (work / "x" / "theirs").write_text("x")

    monkeypatch.setattr(project, "write_state", write_state)
    assert paccel("new", "x", "--template", demo).code == 2
    assert snapshot(work).keys() == {"x", "x/theirs"}


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch, demo: Path, work: Path) -> Callable[..., Any]:
    """Run `new` in a terminal in which a user types `lines`."""

    def typing(lines: str, *arguments: str) -> Any:
        runner = CliRunner()
        with runner.isolation(input=lines) as (out, err, *_):
            monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
            code = 0
            try:
                cli.main(["new", "x", "--template", str(demo), *arguments])
            except SystemExit as error:
                code = int(error.code or 0)
            return code, out.getvalue().decode(), err.getvalue().decode()

    return typing


def test_at_a_terminal_each_question_is_put(typing: Callable[..., Any], work: Path) -> None:
    code, out, err = typing("true\nmnst\nmnist\n")
    assert code == 0
    assert "ema [false]" in err
    assert "did you mean `mnist`?" in err
    assert "project_name" not in err
    assert out.startswith("Created x")
    assert read_state(work / "x")[0].answers == {"project_name": "x", "ema": True, "data": "mnist"}


def test_a_name_that_need_not_be_a_packages_is_asked_with_the_folders_name_as_default(
    typing: Callable[..., Any], work: Path, demo: Path
) -> None:
    (demo / "paccel.toml").unlink()
    code, _, err = typing("My Awesome Net\n\n\n")
    assert (code, "project_name [x]" in err) == (0, True)
    assert read_state(work / "x")[0].answers["project_name"] == "My Awesome Net"


def test_enter_takes_the_default(typing: Callable[..., Any], work: Path) -> None:
    assert typing("\n\n")[0] == 0
    assert read_state(work / "x")[0].answers == {"project_name": "x", "ema": False, "data": "digits"}


def test_no_input_asks_nothing(typing: Callable[..., Any]) -> None:
    code, _, err = typing("", "--no-input")
    assert (code, err) == (0, "")


def test_the_end_of_the_input_is_an_interrupt(typing: Callable[..., Any], work: Path) -> None:
    code, _, err = typing("true\n")
    assert code == 130
    assert "interrupted" in err
    assert not list(work.iterdir())


def test_without_a_terminal_nothing_is_asked(paccel: Run, demo: Path) -> None:
    outcome = paccel("new", "x", "--template", demo)
    assert (outcome.code, outcome.err) == (0, "")


def test_the_manifest_holds_no_path_of_this_machine_but_the_templates(paccel: Run, work: Path, demo: Path) -> None:
    paccel("new", "x", "--template", demo)
    data = json.loads((work / "x" / ".paccel" / "manifest.json").read_text())
    assert data["template"].pop("source") == str(demo)
    assert str(work.parent) not in json.dumps(data)
