"""The other commands: their text, JSON and exit codes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sampled import sampled

from paccel import __version__
from paccel.catalog import catalog
from paccel.catalog.catalog import bundled_names, load_template
from paccel.cli.console import parse_answers
from paccel.errors import UsageError

Run = Callable[..., Any]
Make = Callable[..., Path]


@pytest.fixture
def demo(template: Make) -> Path:
    return template(
        {
            "train.py": "a = 1\nb = 2\nc = 3\n",
            "model.py": "x = 1\n",
            "launch/run.sh": "#!/bin/sh\n",
            "logo.png": b"\0\1",
        },
        {"ema": False, "data": ["digits", "mnist"]},
        metadata='title = "Demo"\ndescription = "A demo."\n[questions.data]\nhelp = "What to train on"\n'
        'choices = { digits = "small", mnist = "larger" }\n[questions.project_name]\npackage = true\n',
    )


@pytest.fixture
def made(paccel: Run, work: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the working directory."""
    assert paccel("new", "net", "--template", demo).code == 0
    monkeypatch.chdir(work / "net")
    return work / "net"


def test_the_version_is_printed(paccel: Run) -> None:
    assert paccel("--version").out == f"paccel {__version__}\n"


def test_paccel_is_a_module_to_run(work: Path) -> None:
    command = [sys.executable, "-m", "paccel", "--version"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"paccel {__version__}\n"


def test_help_lists_the_commands_by_what_they_are_for(paccel: Run) -> None:
    sections = {}
    for title, rows in re.findall(r"^([A-Z][a-z ]+):\n((?:  .*\n)+)", paccel("--help").out, re.MULTILINE):
        sections[title] = [row.split()[0] for row in rows.splitlines() if not row.startswith("   ")]
    assert sections.pop("Options") == ["--version", "-h,"]
    assert sections == {
        "Create": ["new", "list", "show"],
        "Change and upgrade": ["diff", "upgrade", "set"],
        "Runs": ["runs", "compare", "watch", "repeat", "try", "verify", "card"],
        "Maintenance": ["adopt", "doctor", "eject", "check-template", "completion"],
    }


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["new", "--help"], ["diff", "-h"]])
def test_help_is_help(paccel: Run, arguments: list[str]) -> None:
    outcome = paccel(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Usage: paccel" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nwe"], "No such command `nwe`"),
        (["--nothing"], "No such option"),
        (["show"], "Missing argument `TEMPLATE`"),
        (["completion", "tcsh"], "`tcsh` is not one of `bash`, `zsh`, `fish`"),
    ],
)
def test_wrong_usage_exits_with_2(paccel: Run, arguments: list[str], message: str) -> None:
    outcome = paccel(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "--help`)" in outcome.err


def test_list_names_every_bundled_template(paccel: Run) -> None:
    lines = paccel("list").out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == bundled_names()
    templates = paccel("list", "--json").data["templates"]
    assert [template["name"] for template in templates] == names
    assert all(template["description"] in line for template, line in zip(templates, lines, strict=True))
    assert [template["name"] for template in templates if template["default"]] == ["image-classification"]
    for template in sampled(templates, 3):  # what a list says, the template says too
        shown = paccel("show", template["name"], "--json").data
        assert template == {key: shown[key] for key in template.keys() - {"default"}} | {"default": template["default"]}


def test_a_list_reads_no_template_whole(paccel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "read_tree", None)
    assert "image-classification" in paccel("list").out
    assert paccel("list", "--json").data["templates"]


def test_show_describes_a_template(paccel: Run, demo: Path) -> None:
    assert paccel("show", demo).out == (
        "demo  Demo\n"
        "A demo.\n"
        "\n"
        "Questions (answer with `--set KEY=VALUE`; the default is in brackets)\n"
        "  ema [false]\n"
        "  data [digits]  What to train on\n"
        "    digits  small\n"
        "    mnist   larger\n"
        "\n"
        "Files (with the default answers)\n"
        "my-project/\n"
        "├── logo.png\n"
        "├── model.py\n"
        "├── train.py\n"
        "└── launch/\n"
        "    └── run.sh\n"
    )


def test_only_bundled_templates_say_what_their_readme_has(paccel: Run, template: Make) -> None:
    other = template({"README.md": "# Other\n", "train.py": '"""Train it. At once."""\n', "pyproject.toml": ""})
    assert paccel("show", other, "--json").data["files"] == {
        "README.md": "",
        "pyproject.toml": "dependencies and tool settings",
        "train.py": "Train it",
    }
    assert "what to expect" not in paccel("show", other).out + paccel("new", "other", "--template", other).out
    assert "what to expect" in paccel("show", "minimal").out
    assert "what to expect" in paccel("new", "own", "--template", "minimal", "--dry-run").out


@pytest.mark.slow
def test_show_says_what_result_to_expect(paccel: Run) -> None:
    for name in bundled_names():
        reaches = paccel("show", name, "--json").data["reaches"]
        assert reaches, name
        assert f"Expected result: {reaches}" in paccel("show", name).out


def test_show_as_json(paccel: Run, demo: Path) -> None:
    data = paccel("show", demo, "--json").data
    assert (data["name"], data["title"], data["description"]) == ("demo", "Demo", "A demo.")
    assert data["questions"] == [
        {"name": "ema", "kind": "bool", "default": False, "help": ""},
        {
            "name": "data",
            "kind": "choice",
            "default": "digits",
            "help": "What to train on",
            "choices": {"digits": "small", "mnist": "larger"},
        },
    ]
    assert list(data["files"]) == ["launch/run.sh", "logo.png", "model.py", "train.py"]
    assert data["version"] == data["digest"] == load_template(str(demo)).digest


def test_show_of_an_unknown_template_exits_with_4(paccel: Run) -> None:
    assert paccel("show", "nothing").code == 4


def test_an_untouched_project_has_no_diff(paccel: Run, made: Path) -> None:
    outcome = paccel("diff", "--exit-code")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert paccel("diff", "--json").data == {"files": []}


def edit(made: Path) -> None:
    (made / "train.py").write_text("a = 1\nb = 20\nc = 3")
    (made / "model.py").unlink()
    (made / "launch" / "run.sh").chmod(0o644)
    (made / "logo.png").write_bytes(b"\0\2")
    (made / "mine.py").write_text("mine\n")


DIFF = """\
diff --git a/launch/run.sh b/launch/run.sh
old mode 100755
new mode 100644
diff --git a/logo.png b/logo.png
Binary files a/logo.png and b/logo.png differ
diff --git a/model.py b/model.py
deleted file mode 100644
--- a/model.py
+++ /dev/null
@@ -1 +0,0 @@
-x = 1
diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,3 +1,3 @@
 a = 1
-b = 2
-c = 3
+b = 20
+c = 3
\\ No newline at end of file
"""


@pytest.mark.skipif(os.name == "nt", reason="no executable bit there")
def test_diff_shows_the_edits_to_the_templates_files(paccel: Run, made: Path) -> None:
    edit(made)
    assert paccel("diff").out == DIFF
    assert paccel("diff").code == 0
    assert paccel("diff", "--exit-code").code == 1
    files = paccel("diff", "--json").data["files"]
    assert {file["path"]: file["status"] for file in files} == {
        "launch/run.sh": "mode",
        "logo.png": "modified",
        "model.py": "deleted",
        "train.py": "modified",
    }
    assert "".join(file["diff"] for file in files) == DIFF


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_can_apply_the_diff_backwards(paccel: Run, made: Path) -> None:
    edit(made)
    (made / "logo.png").write_bytes(b"\0\1")  # binary files are named only
    patch = paccel("diff").out
    subprocess.run(["git", "apply", "-R", "-"], input=patch.encode(), cwd=made, check=True, timeout=60)
    assert paccel("diff").out == ""


def test_diff_takes_paths_from_anywhere_in_the_project(
    paccel: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(made)
    monkeypatch.chdir(made / "launch")

    def paths(*arguments: str) -> list[str]:
        return [file["path"] for file in paccel("diff", *arguments, "--json").data["files"]]

    assert paths("../train.py") == ["train.py"]
    assert paths(".") == ["launch/run.sh"]
    assert paths("..", "../train.py") == ["launch/run.sh", "logo.png", "model.py", "train.py"]
    outcome = paccel("diff", "../mine.py")
    assert (outcome.code, outcome.err) == (2, "Error: `../mine.py` is not one of the template's files\n")


def test_diff_upstream_shows_what_the_template_changed(paccel: Run, made: Path, demo: Path) -> None:
    assert paccel("diff", "--upstream", "--exit-code").code == 0
    edit(made)
    (demo / "{{cookiecutter.project_name}}" / "train.py").write_text("a = 1\nb = 2\nc = 4\n")
    (demo / "{{cookiecutter.project_name}}" / "new.py").write_text("new\n")
    files = paccel("diff", "--upstream", "--json").data["files"]
    assert [(file["path"], file["status"]) for file in files] == [("new.py", "added"), ("train.py", "modified")]
    assert "-c = 3\n+c = 4\n" in files[1]["diff"]


@pytest.mark.parametrize(
    "arguments", [["diff", "--upstream"], ["upgrade"], ["upgrade", "--check"], ["set", "ema=true"]]
)
def test_a_template_that_vanished_exits_with_4(paccel: Run, made: Path, demo: Path, arguments: list[str]) -> None:
    shutil.rmtree(demo)
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    outcome = paccel(*arguments)
    assert outcome.code == 4
    assert f"There is no template `{demo}`" in outcome.err
    assert paccel(*arguments, "--json").data["error"]["exit_code"] == 4
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_the_exit_codes_of_upgrade_are_those_documented(paccel: Run, made: Path, demo: Path) -> None:
    source = demo / "{{cookiecutter.project_name}}" / "train.py"
    assert paccel("upgrade", "--check").code == 0
    source.write_text("a = 1\nb = 2\nc = 30\n")
    assert paccel("upgrade", "--check").code == 10
    assert paccel("upgrade", "--check", "--json").data["found"] is True
    (made / "train.py").write_text("a = 1\nb = 2\nc = 31\n")
    assert paccel("upgrade", "--dry-run").code == 1
    assert paccel("upgrade").code == 1
    assert paccel("upgrade").code == 3
    assert paccel("upgrade", "--continue").code == 3
    (made / "train.py").write_text("a = 1\nb = 2\nc = 31\n")
    assert paccel("upgrade", "--continue").code == 0
    assert paccel("upgrade", "--check").code == 0
    assert paccel("upgrade", "--undo", "--abort").code == 2


@pytest.mark.parametrize("arguments", [["diff"], ["doctor", "--rebuild-baseline"]])
def test_outside_of_a_project_the_exit_code_is_3(paccel: Run, work: Path, arguments: list[str]) -> None:
    outcome = paccel(*arguments)
    assert outcome.code == 3
    assert "is not in a paccel project" in outcome.err
    assert paccel(*arguments, "--json").data["error"]["exit_code"] == 3


def test_a_damaged_baseline_exits_with_3(paccel: Run, made: Path) -> None:
    (made / ".paccel" / "baseline.zip").write_bytes(b"x")
    outcome = paccel("diff")
    assert outcome.code == 3
    assert "paccel doctor --rebuild-baseline" in outcome.err


def test_a_working_directory_that_is_gone_is_explained(
    paccel: Run, work: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "gone").mkdir()
    monkeypatch.chdir(work / "gone")
    (work / "gone").rmdir()
    outcome = paccel("new", "x", "--template", demo)
    assert outcome.code in {2, 3}
    assert outcome.err.startswith("Error: ")


@pytest.mark.usefixtures("machine")
def test_colour_is_for_terminals(paccel: Run, made: Path) -> None:
    edit(made)
    assert "\x1b" not in paccel("diff").out + paccel("doctor").out + paccel("nothing").err


def test_answers_are_split_at_the_first_equals_sign() -> None:
    assert parse_answers(["a=b=c", "d=", "a=e"]) == {"a": "e", "d": ""}
    with pytest.raises(UsageError):
        parse_answers(["a"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_the_shell_accepts(paccel: Run, shell: str) -> None:
    outcome = paccel("completion", shell)
    assert outcome.code == 0
    assert "_PACCEL_COMPLETE" in outcome.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=outcome.out.encode(), check=True, timeout=60)


def complete(words: str, cwd: Path) -> list[str]:
    """Return the completions that bash offers after `words`."""
    environment = os.environ | {
        "_PACCEL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    program = "from paccel.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_completion_knows_commands_templates_and_answers(work: Path, demo: Path) -> None:
    assert "doctor" in complete("paccel do", work)
    assert "image-classification" in complete("paccel show image", work)
    assert complete(f"paccel new x --template {demo} --set data=", work) == ["data=digits", "data=mnist"]


def test_a_reader_that_goes_away_is_no_error(work: Path, demo: Path) -> None:
    command = (
        f"{sys.executable} -c 'from paccel.cli import main; main()' show {demo} --json | true; exit ${{PIPESTATUS[0]}}"
    )
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    result = subprocess.run([bash, "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_json_is_one_object_even_for_wrong_usage(paccel: Run) -> None:
    outcome = paccel("list", "--nothing", "--json")
    assert outcome.code == 2
    assert set(json.loads(outcome.out)) == {"error"}
    assert outcome.err == ""
