"""The tools that check Python: their output is read, and nothing that they do stops an upgrade."""

import json
import sys
import time
from pathlib import Path

import pytest
from support.sampled import every_third_day

from paccel.check.finding import Finding
from paccel.check.tools import RUFF_RULES, Tool, find_tools, run_tools
from paccel.files.tree import File, Tree

pytestmark = pytest.mark.slow

TREE = {"a.py": File(b"x = 1\nx.nothing()\n"), "b.py": File(b"import a\n")}


def ty_entry(line: int = 2, severity: str = "major", path: str = "a.py", rule: str = "some-rule") -> dict[str, object]:
    spot = {"begin": {"line": line, "column": 3}, "end": {"line": line, "column": 10}}
    return {
        "check_name": rule,
        "description": f"{rule}: `x` has no attribute",
        "severity": severity,
        "location": {"path": path, "positions": spot},
    }


def said(text: str) -> str:
    return f"print({text!r})"


def run(
    folder: Path, *programs: str, name: str = "ty", tree: Tree = TREE, seconds: float = 30
) -> tuple[list[Finding], list[str]]:
    """The result of a tool that is a Python program; several programs are its command lines, tried in order."""
    folder = folder / "project"
    folder.mkdir(exist_ok=True)
    tool = Tool(name, sys.executable, tuple(("-c", program) for program in programs))
    found, problems = run_tools([tool], {folder: tree}, time.monotonic() + seconds)
    return [finding for by_folder in found.values() for finding in by_folder[folder]], problems


def test_the_findings_of_ty_are_read(tmp_path: Path) -> None:
    found, problems = run(tmp_path, said(json.dumps([ty_entry()])))
    assert problems == []
    (finding,) = found
    assert finding[:6] == ("a.py", 2, "ty", "some-rule", "`x` has no attribute", "x.nothing()")
    assert finding.names[0] == "nothing"


def test_the_findings_of_ruff_are_read_and_syntax_errors_are_none(tmp_path: Path) -> None:
    spots = {"location": {"row": 1, "column": 1}, "end_location": {"row": 1, "column": 2}}
    place = str(tmp_path / "project" / "a.py")
    entries = [{"code": code, "filename": place, "message": "bad", **spots} for code in ("F821", None, "E501")]
    found, problems = run(tmp_path, said(json.dumps(entries)), name="ruff")
    assert problems == []
    assert [(finding.path, finding.rule, finding.text) for finding in found] == [("a.py", "F821", "x = 1")]


def test_warnings_other_files_and_files_that_cannot_be_read_are_no_findings(tmp_path: Path) -> None:
    entries = [ty_entry(severity="minor"), ty_entry(path="../other.py"), ty_entry(rule="io"), ty_entry(path="/x.py")]
    assert run(tmp_path, said(json.dumps(entries))) == ([], [])


def test_a_line_that_is_not_there_has_no_text(tmp_path: Path) -> None:
    found, _ = run(tmp_path, said(json.dumps([ty_entry(line=99), ty_entry(line=0)])))
    assert [finding.text for finding in found] == ["", ""]


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.abort()",
        "raise SystemExit(2)",
        said("thread 'main' panicked"),
        said("{}"),
        said("[1]"),
        said('[{"check_name": "a"}]'),
        said('[{"check_name": "a", "severity": "major", "location": null}]'),
        said("[" * 100_000),
        "import sys; sys.stdout.buffer.write(bytes(range(256)))",
        "",
    ],
)
def test_a_tool_that_crashes_or_says_something_odd_has_not_checked(tmp_path: Path, program: str) -> None:
    found, problems = run(tmp_path, program)
    assert found == []
    (problem,) = problems
    assert problem.startswith("ty did not work (")
    assert "\n" not in problem


def test_a_tool_that_cannot_be_started_has_not_checked(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    tool = Tool("ty", str(tmp_path / "nothing"), (("check",),))
    _, problems = run_tools([tool], {tmp_path / "project": TREE}, time.monotonic() + 30)
    assert problems == ["ty did not work (it cannot be started: No such file or directory)"]


def test_a_tool_of_another_version_is_called_in_the_next_way(tmp_path: Path) -> None:
    refused = "import sys; sys.exit('error: unexpected argument')"
    assert len(run(tmp_path, refused, said(json.dumps([ty_entry()])))[0]) == 1
    assert run(tmp_path, refused, refused)[1] == ["ty did not work (error: unexpected argument)"]


@every_third_day(1)
def test_a_tool_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(3); open({str(alive)!r}, 'w')"
    hang = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    start = time.monotonic()
    found, problems = run(tmp_path, hang, seconds=1.0)
    assert (found, problems) == ([], ["ty took longer than 30 s"])
    assert time.monotonic() - start < 20
    time.sleep(max(0.0, start + 5 - time.monotonic()))
    assert not alive.exists()


def test_one_tool_that_fails_takes_nothing_from_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    good = Tool("ty", sys.executable, (("-c", said(json.dumps([ty_entry()]))),))
    bad = Tool("ruff", sys.executable, (("-c", "raise SystemExit(3)"),))
    found, problems = run_tools([bad, good], {folder: TREE}, time.monotonic() + 30)
    assert [tool.name for tool in found] == ["ty"]
    assert len(problems) == 1


def test_imports_that_may_fail_are_no_findings(tmp_path: Path) -> None:
    source = b"try:\n    import a\nexcept ImportError:\n    a = None\nimport b\n"
    entries = [ty_entry(line, rule="import-not-found") for line in (2, 5)]
    found, _ = run(tmp_path, said(json.dumps(entries)), tree={"a.py": File(source)})
    assert [finding.line for finding in found] == [5]


def test_a_tool_in_the_working_directory_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ty", "ruff", "ty.exe", "ruff.exe"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    programs = [tool.program for tool in find_tools(sys.executable)[0]]
    assert not any(program.startswith((".", str(tmp_path))) for program in programs)


def test_unused_names_are_not_looked_for() -> None:
    assert not {"F401", "F841", "F541"} & {*RUFF_RULES}
