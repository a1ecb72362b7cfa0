"""The Python that a project runs with, which is often not the one with paccel."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

OWN = "paccel's own"


class Interpreter(NamedTuple):
    """A Python interpreter, which need not work.

    Attributes:
        path: The program.
        origin: The environment variable or project folder that it was found by, or `OWN`.
    """

    path: str
    origin: str

    def __str__(self) -> str:
        return f"`{self.path}` ({self.origin})"

    def to_json(self) -> dict[str, str]:
        return {"path": self.path, "origin": self.origin.replace("`", "")}


def find_interpreter(root: Path, environment: Mapping[str, str] = os.environ) -> Interpreter:
    """Find the Python of the project in `root`, whether it works or not.

    The first of these is used: the activated environment, the environment set for uv, the project's `.venv` or `venv`, the
    active conda environment, paccel's own Python.
    """
    origin, prefix = next(_environments(root, environment), (OWN, None))
    return Interpreter(sys.executable if prefix is None else str(_python(prefix)), origin)


def _environments(root: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"):
        if environment.get(name):
            yield f"`{name}`", root / environment[name]
    for name in (".venv", "venv"):
        if any(os.path.lexists(root / name / part) for part in ("pyvenv.cfg", "bin/python", "Scripts/python.exe")):
            yield f"`{name}`", root / name
    if environment.get("CONDA_PREFIX"):
        yield "`CONDA_PREFIX`", Path(environment["CONDA_PREFIX"])


def _python(prefix: Path) -> Path:
    if os.name != "nt":
        return prefix / "bin" / "python"
    scripts = prefix / "Scripts" / "python.exe"
    return scripts if scripts.exists() or (prefix / "pyvenv.cfg").exists() else prefix / "python.exe"  # conda's
