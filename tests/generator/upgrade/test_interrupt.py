"""Ctrl-C: a real signal to a process in the middle of its work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process there")]

RENDERING = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
RENDERER = """
import os
from pathlib import Path
from paccel.render.render import LayerRenderer
from paccel.cli.main import main
files = LayerRenderer.files
def noted(renderer):
    Path(os.environ["TMPDIR"] + ".ready").touch()
    yield from files(renderer)
LayerRenderer.files = noted
main()
"""
WRITING = """
import time
from paccel.project import folder as project
from paccel.cli.main import main
write_state = project.write_state
def slow(root, *state):
    write_state(root, *state)
    (root / "written").touch()
    time.sleep(60)
project.write_state = slow
main()
"""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupt(
    program: str, folder: Path, work: Path, scratch: Path, ready: Callable[[], bool], signals: int = 1
) -> str:
    """Start `new`, send Ctrl-C when `ready`, and return standard error; asserts the exit code."""
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "new", "deep/x", "--template", str(folder)],
        cwd=work,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(ready, process)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    return err


@pytest.mark.parametrize("signals", [1, 3])
def test_in_the_middle_of_rendering(template: Callable[..., Path], work: Path, tmp_path: Path, signals: int) -> None:
    scratch, folder = tmp_path / "scratch", template({"a.txt": "a", "b.txt": RENDERING})
    err = interrupt(RENDERER, folder, work, scratch, (tmp_path / "scratch.ready").exists, signals)
    assert err.strip() == "Error: interrupted"
    assert (list(scratch.iterdir()), list(work.iterdir())) == ([], [])


def test_in_the_middle_of_writing(template: Callable[..., Path], work: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    err = interrupt(WRITING, template(), work, scratch, lambda: any(work.glob("deep/.x.paccel-*/written")))
    assert err.strip() == "Error: interrupted"
    assert (list(scratch.iterdir()), list(work.iterdir())) == ([], [])


def test_while_the_command_is_loaded(tmp_path: Path) -> None:
    """A library is interrupted where Python swallows the exception, and continues."""
    (tmp_path / "click.py").write_text(
        "import os, signal, time, weakref\n"
        "class Lock: pass\n"
        "lock = Lock()\n"
        "watched = weakref.ref(lock, lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0.1)))\n"
        "del lock\n"
    )
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); from paccel.cli import main",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "Error: interrupted\n")


def test_a_program_that_uses_the_command_keeps_its_own_handler() -> None:
    program = """if 1:
        import signal
        signal.signal(signal.SIGINT, handler := lambda *_: None)
        import paccel.cli
        assert signal.getsignal(signal.SIGINT) is handler
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
