"""Output works in any encoding, with any reader, and with any arguments."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sampled import over_three_days

from paccel.cli import main as cli

Run = Callable[..., Any]
Make = Callable[..., Path]

LETTERS = "# \u4e2d \u00e9 \u2500 \U0001f600\n"


class Printed:
    """Runs a command with standard output in another encoding, such as cp1252 of a pipe on Windows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self.monkeypatch, self.encoding = monkeypatch, encoding

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), self.encoding, write_through=True) for _ in range(2))
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                cli.main([str(argument) for argument in arguments])
        content = b"".join(stream.buffer.getvalue() for stream in (out, err))  # type: ignore[attr-defined]
        # click writes UTF-8 where Python took the system's encoding for ASCII, as in the C locale.
        return int(ended.value.code or 0), content.decode("utf-8" if self.encoding == "ascii" else self.encoding)


@pytest.fixture(params=["cp1252", "ascii", "latin-1", "cp437", "utf-16-le", "utf-8"])
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Printed:
    return Printed(monkeypatch, request.param)


def test_every_command_prints_in_any_encoding(
    printed: Printed, work: Path, template: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = template({"train.py": "a = 1\nb = 2\n", "\u4e2d/a.py": "x = 1\n"}, {"greeting": "\u4e2d"}, name="d\u00e9mo")
    assert printed("show", demo)[0] == 0
    assert printed("list")[0] == 0
    code, out = printed("new", "net", "--template", demo)
    assert code == 0
    assert ("\u2514\u2500\u2500 " in out) or ("`-- " in out)
    monkeypatch.chdir("net")
    (work / "net" / "train.py").write_text("a = 1\nb = 2\n" + LETTERS, encoding="utf-8")
    (demo / "{{cookiecutter.project_name}}" / "train.py").write_text(LETTERS + "a = 1\nb = 2\n", encoding="utf-8")
    for arguments in (["diff"], ["diff", "--upstream"], ["upgrade", "--check"], ["upgrade", "--dry-run", "--diff"]):
        assert printed(*arguments)[0] in {0, 10}, arguments
        code, out = printed(*arguments, "--json")
        assert out.isascii()
        assert code in {0, 10}
        assert json.loads(out)
    assert LETTERS in json.loads(printed("diff", "--json")[1])["files"][0]["diff"]
    assert printed("set", "greeting=\u4e2d\u4e2d")[0] == 0
    assert printed("new", "\u4e2d", "--template", demo, "--dry-run")[0] == 0
    assert printed("set", "greting=\u4e2d")[0] == 2
    assert printed("upgrade", "--undo")[0] == 0


def test_what_an_encoding_lacks_is_shown_as_an_escape_and_lines_as_ascii(
    monkeypatch: pytest.MonkeyPatch, work: Path, template: Make
) -> None:
    demo = template({"a.py": '"""\u4e2d."""\n', "b/c.py": ""})
    out = Printed(monkeypatch, "cp1252")("new", "net", "--template", demo, "--dry-run")[1]
    assert "\n|-- a.py      \\u4e2d\n`-- b/\n    `-- c.py\n" in out


@pytest.mark.skipif(sys.platform != "linux", reason="file names there are text")
def test_names_that_are_not_utf8_are_no_obstacle(
    printed: Printed, work: Path, template: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(b"caf\xe9")
    demo = template({"train.py": "a = 1\n", "gone.py": "g = 1\n" * 9})
    (work / odd).mkdir()
    monkeypatch.chdir(odd)
    assert printed("new", "net", "--template", demo)[0] == 0
    monkeypatch.chdir("net")
    for name in (b"mine\xe9.py", b"caf\xe9\xff.txt"):
        (work / odd / "net" / os.fsdecode(name)).write_text("g = 1\n" * 9)
    (work / odd / "net" / "gone.py").unlink()
    (demo / "{{cookiecutter.project_name}}" / "gone.py").write_text("g = 1\n" * 9 + "h = 1\n")
    for arguments in (["diff"], ["upgrade", "--check"], ["upgrade", "--dry-run"], ["upgrade"], ["upgrade", "--undo"]):
        for as_json in ([], ["--json"]):
            assert printed(*arguments, *as_json)[0] in {0, 1, 3, 10}, arguments
    assert printed("diff", odd)[0] == 2
    assert printed("diff", odd, "--json")[1].isascii()


@pytest.mark.parametrize(
    "argument",
    ["a\0b", pytest.param("a\ud800b", marks=pytest.mark.skipif(os.name == "nt", reason="a file name there"))],
)
@pytest.mark.parametrize("command", [["new"], ["show"], ["diff"], ["upgrade"], ["set"], ["new", "x", "--set"], []])
def test_a_character_that_no_argument_can_have_is_refused(paccel: Run, command: list[str], argument: str) -> None:
    outcome = paccel(*command, argument)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.endswith("has a character that cannot be used\n")


COMMANDS = ["list", "list --json", "--help", "new --help", "", "show nothing", "--version", "nothing --json"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("redirected", over_three_days(["2>&1 | true", ">&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"]))
def test_output_that_cannot_be_written_is_no_traceback(work: Path, command: str, redirected: str) -> None:
    if "full" in redirected and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    line = f"'{sys.executable}' -m paccel {command} {redirected}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=work, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] in {"0", "2", "3", "4"}
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_under_the_output_is_said(work: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    line = f"'{sys.executable}' -m paccel list > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=work, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (3, "Error: No space left on device\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="locales are elsewhere something else")
def test_a_locale_without_utf8_is_no_traceback(work: Path, template: Make) -> None:
    demo = template({"train.py": "# \u4e2d\n", "\u4e2d.txt": "x\n"})
    plain = template({"train.py": "# \u4e2d\n"}, name="plain")
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    def run(*arguments: str | Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "paccel", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=work, env=os.environ | locale, capture_output=True, errors="replace", timeout=120, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    for as_json in ([], ["--json"]):
        assert run("show", plain, *as_json)[0] == 0
        assert run("list", *as_json)[0] == 0
        assert run("new", "caf\u00e9", "--template", plain, *as_json)[0] == 2
        assert run("new", f"net{len(as_json)}", "--template", plain, *as_json)[0] == 0
        assert run("new", "other", "--template", demo, *as_json)[0] in {3, 4}
    assert sorted(os.listdir(work)) == ["net0", "net1"]


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder that somebody works in")
@pytest.mark.parametrize("command", [["upgrade"], ["doctor", "--json"]])
def test_a_working_directory_that_is_gone_is_named(
    paccel: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    outcome = paccel(*command)
    assert outcome.code == 3
    assert "The working directory no longer exists" in outcome.out + outcome.err
