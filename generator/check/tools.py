"""The tools that check Python, as separate programs: ty, a type checker, and ruff, a linter.

They never stop an upgrade: if a tool is missing, crashes, hangs or returns nonsense, its check is skipped with a note.
"""

import ast
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files.tree import Tree
from ..merge.text import decode
from .finding import MAX_TEXT, Finding

TIMEOUT_SECONDS = 30
MAX_OUTPUT_BYTES = 32 * 2**20
NO_SETTINGS = "no-settings.toml"
"""An empty settings file beside the checked folders."""

INSTALL = "pip install ty ruff"
"""Both are dependencies of paccel, but may have been left out or removed."""

# The rules of ruff that find runtime errors: undefined names and exports, redefinitions, wrong arguments of format strings,
# and type-checking imports that are used at runtime.
RUFF_RULES = (
    *("F402", "F502", "F503", "F504", "F505", "F506", "F507", "F508", "F509", "F522", "F523", "F524", "F601"),
    *("F621", "F622", "F702", "F704", "F706", "F811", "F821", "F822", "F823", "TC004"),
)
_ERRORS = {"major", "critical", "blocker"}

_NAME = re.compile(r"[^\W\d]\w*")


class Failed(Exception):
    """A tool could not check; the message says why."""


class Tool(NamedTuple):
    """A tool and its command lines, tried in order.

    Another version may not know an option, and the project's settings may be broken.

    Attributes:
        name: "ty" or "ruff".
        program: The path of the executable.
        ways: The arguments of each command line.
    """

    name: str
    program: str
    ways: tuple[tuple[str, ...], ...]


def find_tools(python: str) -> tuple[list[Tool], list[str]]:
    """The installed tools, and the names of the missing ones.

    Args:
        python: The project's interpreter; imports are resolved in its packages.
    """
    found, missing = [], []
    for name, ways in (("ty", _ty_ways(python)), ("ruff", _RUFF_WAYS)):
        program = _program(name)
        if program is None:
            missing.append(name)
        else:
            found.append(Tool(name, program, ways))
    return found, missing


_RUFF = ("check", "--output-format", "json", "--select", ",".join(RUFF_RULES), "--no-cache", "--no-fix")
_RUFF_WAYS = ((*_RUFF, "--no-respect-gitignore", "."), (*_RUFF, "--isolated", "."))


def _ty_ways(python: str) -> tuple[tuple[str, ...], ...]:
    base = ("check", "--output-format", "gitlab", "--no-progress")
    here = ("--project", ".", "--no-respect-ignore-files")
    return (
        (*base, *here, "--python", python, "."),
        (*base, *here, "--python", python, "--config-file", f"../{NO_SETTINGS}", "."),
        (*base, "."),
    )


def _program(name: str) -> str | None:
    """The executable of a tool: beside paccel, in the user's scripts, or on `PATH`; never in the working directory."""
    user = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    folders = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable), user]
    for folder in (*folders, *os.environ.get("PATH", "").split(os.pathsep)):
        program = shutil.which(os.path.join(folder, name)) if os.path.isabs(folder) else None
        if program is not None:
            return program
    return None


def run_tools(
    tools: Sequence[Tool], folders: Mapping[Path, Tree], deadline: float
) -> tuple[dict[Tool, dict[Path, list[Finding]]], list[str]]:
    """Check folders with tools, all at the same time.

    Args:
        tools: From `find_tools`.
        folders: Folder -> the files in it.
        deadline: When to give up, by `time.monotonic`.

    Returns:
        Tool -> folder -> findings, without tools that failed in a folder; and why they failed.
    """
    found: dict[Tool, dict[Path, list[Finding]]] = {}
    problems = []
    jobs: dict[Tool, list[_Job]] = {tool: [] for tool in tools}
    try:
        for tool in tools:
            jobs[tool] += (_Job(tool, folder, tree, deadline) for folder, tree in folders.items())
        for tool in tools:
            try:
                found[tool] = {job.folder: job.findings() for job in jobs[tool]}
            except Failed as error:
                problems.append(str(error))
    finally:
        for job in itertools.chain.from_iterable(jobs.values()):
            job.stop()
    return found, problems


class _Job:
    """One tool that checks one folder."""

    def __init__(self, tool: Tool, folder: Path, tree: Tree, deadline: float) -> None:
        self.tool, self.folder, self.tree, self.deadline = tool, folder, tree, deadline
        self.ways = iter(tool.ways)
        self.process: subprocess.Popen[bytes] | None = None
        self._start(next(self.ways))

    def _start(self, way: Sequence[str]) -> None:
        # To files: a pipe would stay open until the last child of the tool ends.
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            try:
                self.process = subprocess.Popen(
                    [self.tool.program, *way],
                    cwd=self.folder,
                    env=os.environ | {"NO_COLOR": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=os.name != "nt",
                )
            except OSError as error:
                self.process = None
                err.write(f"it cannot be started: {error.strerror}".encode())

    def _file(self, name: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{self.tool.name}.{name}")

    def findings(self) -> list[Finding]:
        """Wait for the tool's findings.

        Raises:
            Failed: It took too long, or no command line had a readable output.
        """
        while True:
            code = None
            if self.process is not None:
                try:
                    code = self.process.wait(max(self.deadline - time.monotonic(), 0.01))
                except subprocess.TimeoutExpired as error:
                    raise Failed(f"{self.tool.name} took longer than {TIMEOUT_SECONDS:g} s") from error
            try:
                return list(self._read())  # whatever the exit code: a file that does not parse sets it too
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
                way = next(self.ways, None)
                if way is None:
                    said = self._file("err").read_bytes()[-2000:].decode(errors="replace").split("\n")
                    why = " ".join(line.strip() for line in said if line.strip()) or f"exit code {code}"
                    raise Failed(f"{self.tool.name} did not work ({why[:MAX_TEXT]})") from error
                self._start(way)

    def _read(self) -> Iterator[Finding]:
        if self._file("out").stat().st_size > MAX_OUTPUT_BYTES:
            raise ValueError("too much output")
        entries = json.loads(self._file("out").read_bytes())
        if not isinstance(entries, list):
            raise ValueError("no list of findings")
        read = _ty_finding if self.tool.name == "ty" else _ruff_finding
        lines: dict[str, tuple[str, ...]] = {}
        optional: dict[str, frozenset[int]] = {}
        for entry in entries:
            found = read(entry)
            if found is None:
                continue
            path, spot, rule, message = found
            path = os.path.relpath(os.path.join(self.folder, path), self.folder).replace(os.sep, "/")
            if path not in self.tree or rule == "io":
                continue
            if path not in lines:
                lines[path] = () if path.endswith(".ipynb") else decode(self.tree[path].content).lines
                optional[path] = _optional_imports("\n".join(lines[path]))
            if spot.line in optional[path] and ("import" in rule or "module" in rule):
                continue
            text = lines[path][spot.line - 1] if 0 < spot.line <= len(lines[path]) else ""
            names = tuple(dict.fromkeys([*spot.names(text), *_names(message), *_NAME.findall(text)]))
            message = message.replace(str(self.folder) + os.sep, "")
            yield Finding(path, spot.line, self.tool.name, rule, message, text.strip()[:MAX_TEXT], names)

    def stop(self) -> None:
        """Kill the tool and its children, if it still runs."""
        if self.process is None or self.process.poll() is not None:
            return
        if os.name == "nt":
            self.process.kill()
        else:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Spot(NamedTuple):
    """A place in a file; columns count from 1, `end` is 0 if it is not on this line."""

    line: int
    begin: int
    end: int

    def names(self, text: str) -> Iterable[str]:
        return _NAME.findall(text[self.begin - 1 : self.end - 1] if self.end > self.begin else "")[::-1]


def _names(message: str) -> list[str]:
    """The names in the quotes of a message, the last part of a dotted name first."""
    quoted = re.findall(r"`([^`]*)`", message)
    return [name for text in quoted for name in _NAME.findall(text)[::-1]]


def _optional_imports(source: str) -> frozenset[int]:
    """The lines of imports that may fail: a `try` catches it, and its handler has the alternative."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_catches_imports(handler) for handler in node.handlers):
            for statement in (*node.body, *(line for handler in node.handlers for line in handler.body)):
                found |= {*range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)}
    return frozenset(found)


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    caught = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    return handler.type is None or any(isinstance(n, ast.Name) and n.id in caught for n in ast.walk(handler.type))


def _ty_finding(entry: Mapping[str, Any]) -> tuple[str, _Spot, str, str] | None:
    """Read an entry in GitLab's code quality format."""
    if entry["severity"] not in _ERRORS:
        return None
    rule, location = str(entry["check_name"]), entry["location"]
    begin, end = location["positions"]["begin"], location["positions"]["end"]
    one_line = begin["line"] == end["line"]
    spot = _Spot(int(begin["line"]), int(begin["column"]), int(end["column"]) if one_line else 0)
    return str(location["path"]), spot, rule, str(entry["description"]).removeprefix(f"{rule}: ")


def _ruff_finding(entry: Mapping[str, Any]) -> tuple[str, _Spot, str, str] | None:
    if entry["code"] not in RUFF_RULES:  # nor a syntax error, which has no code: the merge excludes them
        return None
    begin, end = entry["location"], entry["end_location"]
    spot = _Spot(int(begin["row"]), int(begin["column"]), int(end["column"]) if begin["row"] == end["row"] else 0)
    return str(entry["filename"]), spot, str(entry["code"]), str(entry["message"])
