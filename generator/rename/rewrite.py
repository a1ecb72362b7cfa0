"""Apply a template's ast-grep rules to Python files: the program `ast-grep` runs in a folder with copies.

Rules are data, not code. Time, memory and output are limited, and the program does not read the project's configuration.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..catalog.metadata import Rewrite
from ..files.tree import File
from .edits import Edit
from .modules import read_module

SECONDS = 20
"""Time limit for all rules together."""

MAX_OUTPUT = 32 * 2**20
MAX_MEMORY = 4 * 2**30
MAX_GROWTH = 4
"""A rewritten file may be this many times as large as before, plus 64 KiB."""


class Rewritten(NamedTuple):
    """The files after all rules, the edits, and a message for each rule that was not applied."""

    files: dict[str, File]
    edits: tuple[Edit, ...]
    skipped: tuple[str, ...]


def find_program() -> Path | None:
    """Find ast-grep beside this Python or on the PATH."""
    name = "ast-grep.exe" if os.name == "nt" else "ast-grep"
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.is_file() else shutil.which("ast-grep")
    return Path(found) if found else None


def rewrite(files: Mapping[str, File], rules: Iterable[Rewrite]) -> Rewritten:
    """Apply each rule, in order, to the Python files that parse. A file that would not parse afterwards does not change."""
    now = dict(files)
    chosen = list(rules)
    if not chosen:
        return Rewritten(now, (), ())
    program = find_program()
    if program is None:
        many = f"{len(chosen)} rules" if len(chosen) > 1 else "a rule"
        reason = f"{many} of the template that rewrite calls: they need ast-grep, `pip install 'paccel[rewrite]'`"
        return Rewritten(now, (), (reason,))
    edits: list[Edit] = []
    skipped: list[str] = []
    left = float(SECONDS)
    for rule in chosen:
        sources = {path: file for path, file in now.items() if path.endswith(".py") and read_module(path, file)}
        started = time.monotonic()
        try:
            found = _matches(program, rule.rule, sources, left)
        except _RuleError as error:
            skipped.append(f"the rule `{_title(rule.rule)}` of the template: {error}")
            if error.late:
                break
            continue
        left -= time.monotonic() - started
        for path, matches in found.items():
            content, done = _replaced(path, now[path].content, matches)
            if len(content) > MAX_GROWTH * len(now[path].content) + 65536:
                skipped.append(f"the rule `{_title(rule.rule)}` of the template: `{path}` would grow too large")
            elif read_module(path, File(content)) is None:
                skipped.append(f"the rule `{_title(rule.rule)}` of the template: `{path}` would not be valid Python")
            else:
                now[path] = now[path]._replace(content=content)
                edits += done
    return Rewritten(now, tuple(edits), tuple(skipped))


class _RuleError(Exception):
    """Raised when a rule cannot be applied; `late` if no other rule can be applied either."""

    def __init__(self, reason: str, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


def concerns(rule: str, files: Mapping[str, File], lines: Mapping[str, Container[bytes]]) -> bool:
    """Whether a rule may match lines that the user wrote.

    This needs a file with all words of one of the rule's patterns, and the first of them in the user's lines. A rule that
    does not only consist of patterns may always match.

    Args:
        rule: The rule, in YAML.
        files: The project's files.
        lines: Path -> the words in the lines that the user wrote.
    """
    patterns = re.findall(r"(?m)\bpattern:[ \t]*([^|>\s].*)$", rule)
    if not patterns or len(patterns) < rule.count("pattern:"):
        return True
    for pattern in patterns:
        words = [word.encode() for word in re.findall(r"(?<![$\w])[^\W\d]\w*", pattern)]
        for path, own in lines.items():
            if not words or (words[0] in own and all(word in files[path].content for word in words)):
                return True
    return False


def _title(rule: str) -> str:
    """Return the `id` of a rule, or its first line."""
    lines = [line.strip() for line in rule.splitlines() if line.strip()]
    named = [line.removeprefix("id:").strip() for line in lines if line.startswith("id:")]
    return "".join(sign for sign in (named or lines or [""])[0][:60] if sign.isprintable())


def _matches(
    program: Path, rule: str, sources: Mapping[str, File], seconds: float
) -> dict[str, list[tuple[int, int, str]]]:
    """Run one rule; return path -> (first byte, end, replacement) of each match."""
    paths = list(sources)
    with tempfile.TemporaryDirectory(prefix="paccel-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        (folder / "code").mkdir()
        for number, path in enumerate(paths):
            content = sources[path].content.removeprefix(b"\xef\xbb\xbf")
            (folder / "code" / f"{number}.py").write_bytes(content)
        (folder / "rule.yml").write_text(rule, encoding="utf-8")
        (folder / "sgconfig.yml").write_text("ruleDirs: []\n", encoding="utf-8")
        command = [str(program), "scan", "--config=sgconfig.yml", "--rule=rule.yml", "--json=stream", "--threads=1"]
        # Search everything below `code`, whatever ignore files say.
        command += [f"--no-ignore={kind}" for kind in ("hidden", "dot", "exclude", "global", "parent", "vcs")]
        out = _run([*command, "code"], folder, seconds)
    found: dict[str, list[tuple[int, int, str]]] = {}
    for line in out.splitlines():
        try:
            match: dict[str, Any] = json.loads(line)
            path = paths[int(Path(match["file"]).stem)]
            if "replacement" not in match:
                raise _RuleError("it has no `fix`, so there is nothing to write")
            offsets = match["replacementOffsets"]
            found.setdefault(path, []).append((int(offsets["start"]), int(offsets["end"]), str(match["replacement"])))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _RuleError("ast-grep's answer cannot be read") from error
    return found


def _run(command: list[str], folder: Path, seconds: float) -> bytes:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise _RuleError(f"ast-grep cannot be run: {error.strerror}", late=True) from error
        try:
            _limit(process.pid)
            code = process.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired as error:
            raise _RuleError(f"the rules took longer than {SECONDS} s", late=True) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if out.seek(0, os.SEEK_END) >= MAX_OUTPUT:
            raise _RuleError("it matches too much")
        out.seek(0)
        err.seek(0)
        said = err.read(4096).decode(errors="replace")
        if code not in (0, 1):  # 1: matches of a rule whose severity is `error`
            lines = [line.strip(" ╰▻✖") for line in said.splitlines() if line.strip()]
            reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[:1]
            raise _RuleError(f"ast-grep rejects it: {''.join(reasons[:1]) or f'exit code {code}'}")
        return out.read()


def _limit(process: int) -> None:
    """Limit the memory and output of a process, on Linux."""
    if sys.platform == "linux":
        import resource

        try:
            resource.prlimit(process, resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
            resource.prlimit(process, resource.RLIMIT_FSIZE, (MAX_OUTPUT, MAX_OUTPUT))
        except OSError:
            return  # the process has ended


def _replaced(path: str, content: bytes, matches: list[tuple[int, int, str]]) -> tuple[bytes, list[Edit]]:
    """Replace all matches; of overlapping ones, only the outermost."""
    bom = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
    text = content[len(bom) :]
    edits: list[Edit] = []
    parts: list[bytes] = []
    place = 0
    for start, end, new in sorted(matches, key=lambda one: (one[0], -one[1])):
        old = text[start:end].decode()
        if start < place or old == new:
            continue
        edits.append(Edit(path, text.count(b"\n", 0, start) + 1, old, new))
        parts += [text[place:start], new.encode()]
        place = end
    return bom + b"".join([*parts, text[place:]]), edits
