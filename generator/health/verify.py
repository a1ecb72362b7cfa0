"""Check that an upgraded project still works: compile every Python file, and run the project's tests.

Both use the project's Python: another one may lack its syntax, and lacks its packages.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..project.interpreter import Interpreter, find_interpreter
from ..project.state import read_manifest

TIMEOUT_SECONDS = 600
MAX_OUTPUT_LINES = 30
PYTEST = "pytest"

_COMPILE = """
import json, sys, warnings

warnings.simplefilter("ignore")
invalid = []
for path in json.load(sys.stdin):
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        invalid.append(path)
print(json.dumps(invalid))
"""


class Verification(NamedTuple):
    """The result of a check.

    Attributes:
        problems: One line each; none if everything works.
        output: The last lines that the tests printed, if they failed.
        ran_tests: Whether there were tests to run.
        python: The Python that was used.
    """

    problems: tuple[str, ...]
    output: str = ""
    ran_tests: bool = False
    python: Interpreter | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "problems": list(self.problems),
            "output": self.output,
            "ran_tests": self.ran_tests,
            "python": self.python and self.python.to_json(),
        }


def verify_project(root: Path) -> Verification:
    """Verify a project: compile the Python files of its template, then run its tests.

    Raises:
        StateError: Its manifest cannot be read.
    """
    return verify(root, read_manifest(root).files)


def verify(root: Path, paths: Iterable[str], timeout_seconds: float = TIMEOUT_SECONDS) -> Verification:
    """Compile the Python files among `paths`, then run `python -m pytest -x -q tests`.

    Args:
        root: The project's folder.
        paths: Files of the project; those that no longer exist are ignored.
        timeout_seconds: How long the tests may take.
    """
    python = find_interpreter(root)
    try:
        return _verify(root, paths, timeout_seconds, python)._replace(python=python)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        return Verification((f"the project's Python {python} does not work: {reason}",), python=python)


def _verify(root: Path, paths: Iterable[str], timeout_seconds: float, python: Interpreter) -> Verification:
    sources = sorted(path for path in paths if path.endswith(".py") and (root / path).is_file())
    if sources:
        command = [python.path, "-I", "-c", _COMPILE]
        compiled = subprocess.run(
            command,
            cwd=root,
            input=json.dumps(sources),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
        if compiled.returncode:
            raise ValueError((compiled.stderr.strip().splitlines() or [f"exit code {compiled.returncode}"])[-1])
        problems = tuple(f"`{path}` is not valid Python" for path in json.loads(compiled.stdout))
        if problems:
            return Verification(problems)
    if not (root / "tests").is_dir():
        return Verification(())
    try:
        done = subprocess.run(
            [python.path, "-m", PYTEST, "-x", "-q", "tests"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verification((f"the project's tests took longer than {timeout_seconds:g} s",), ran_tests=True)
    output = "\n".join(done.stdout.splitlines()[-MAX_OUTPUT_LINES:])
    if done.returncode == 5:  # no tests were found
        return Verification(())
    if done.returncode and output.endswith(f"No module named {PYTEST}"):
        return Verification((f"the project's tests were not run: `{PYTEST}` is not installed for {python}",))
    if done.returncode:
        return Verification(("the project's tests fail (`python -m pytest -x -q tests`)",), output, ran_tests=True)
    return Verification((), ran_tests=True)
