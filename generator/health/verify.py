"""Check that an upgraded project still works: compile every Python file, and run the project's own tests."""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..merge.languages import parse_python

TIMEOUT_SECONDS = 600
MAX_OUTPUT_LINES = 30
PYTEST = "pytest"


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        problems: One line each; none if everything works.
        output: The end of what the tests printed, if they failed.
        ran_tests: Whether there were tests to run.
    """

    problems: tuple[str, ...]
    output: str = ""
    ran_tests: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"problems": list(self.problems), "output": self.output, "ran_tests": self.ran_tests}


def verify(root: Path, paths: Iterable[str], timeout_seconds: float = TIMEOUT_SECONDS) -> Verification:
    """Compile the Python files among `paths`, then run `python -m pytest -x -q tests`.

    Args:
        root: The project's folder.
        paths: Files of the project; those that no longer exist are ignored.
        timeout_seconds: For the tests.
    """
    problems: list[str] = []
    for path in sorted(paths):
        if path.endswith(".py") and (root / path).is_file():
            source = (root / path).read_text(encoding="utf-8-sig", errors="surrogateescape")
            if parse_python(source) is None:
                problems.append(f"`{path}` is not valid Python")
    if problems or not (root / "tests").is_dir():
        return Verification(tuple(problems))
    command = [sys.executable, "-m", PYTEST, "-x", "-q", "tests"]
    try:
        done = subprocess.run(
            command,
            cwd=root,
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
    if done.returncode == 5:  # pytest's code for: no tests were found
        return Verification(())
    if done.returncode and output.endswith(f"No module named {PYTEST}"):
        reason = f"the project's tests were not run: `{PYTEST}` is not installed for `{sys.executable}`"
        return Verification((reason,))
    if done.returncode:
        return Verification(("the project's tests fail (`python -m pytest -x -q tests`)",), output, ran_tests=True)
    return Verification((), ran_tests=True)
