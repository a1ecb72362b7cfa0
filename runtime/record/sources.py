"""The code of a run: its source files, and how they differ from their git commit.

Only source files of the project are recorded: no data, and nothing that git ignores. Changes that seem to contain a secret
are left out of the patch; the record names the file and the reason.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .secret import has_secret

_ENDINGS = (".py", ".pyi", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp")
_PATTERNS = tuple(f"*{ending}" for ending in _ENDINGS)
_MAX_FILES, _MAX_FOLDERS = 1000, 2000
_MAX_BYTES = 1 << 20  # of a patch, and of an untracked file
_TIMEOUT = 30.0  # seconds for a git command


class Sources(NamedTuple):
    """The source files of a run.

    Attributes:
        commit: The git commit, with a `+` if tracked files differ from it; None outside git.
        code: For `config.json`: the project's `folder` in the repository, the `program`, the SHA-256 of each of the `files`,
            and the files that are `left_out` of the patch, with the reason.
        patch: The changes since the commit; None if there are none, or outside git.
    """

    commit: str | None
    code: dict[str, Any]
    patch: bytes | None


def read_sources() -> Sources:
    """Read the sources of the project in the working directory."""
    folder = Path.cwd()
    commit = _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+").decode().strip() or None
    top = None if commit is None else Path(os.fsdecode(_git("rev-parse", "--show-toplevel")).strip("\n"))
    paths = _walk(folder) if top is None else _known_to_git(top)
    names = sorted({*paths, *_imported(folder, top or folder)})[:_MAX_FILES]
    files = {name: digest for name in names if (digest := _sha256(folder / name)) is not None}
    code: dict[str, Any] = {"folder": ".", "program": _program(folder), "files": files}
    if top is None:
        return Sources(None, code, None)
    code["folder"] = Path(os.path.relpath(folder.resolve(), top.resolve())).as_posix()
    left_out: dict[str, str] = {}
    patch = b"".join(_without_secrets(_changes(folder, top), left_out))
    if len(patch) > _MAX_BYTES:
        left_out["*"] = f"the changes are {len(patch) >> 10} KiB, more than {_MAX_BYTES >> 10}"
        patch = b""
    return Sources(commit, code | ({"left_out": left_out} if left_out else {}), patch or None)


def changed_files(before: Any, now: dict[str, Any]) -> list[str]:
    """The source files that differ between two records of code. Runs of old versions have no record: none differ."""
    known = before.get("files") if isinstance(before, dict) else None
    if not isinstance(known, dict):
        return []
    return sorted(name for name in {*known, *now["files"]} if known.get(name) != now["files"].get(name))


def _git(*arguments: str, code: int = 0) -> bytes:
    """The output of a git command; empty if it fails."""
    command = ["git", "-c", "core.quotePath=off", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout if done.returncode == code else b""


def _split(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _known_to_git(top: Path) -> list[str]:
    """The source files that git tracks or would track, including those of submodules."""
    names = _split(_git("ls-files", "-z", "-c", "-o", "--exclude-standard", "--", *_PATTERNS))
    if (top / ".gitmodules").is_file():
        names += _split(_git("ls-files", "-z", "--recurse-submodules", "--", *_PATTERNS))
    return names


def _walk(folder: Path) -> Iterator[str]:
    """The source files in a folder outside git, without hidden folders, environments and runs."""
    for number, (here, folders, names) in enumerate(os.walk(folder)):
        folders[:] = sorted(name for name in folders if name[0] not in "._" and not _is_foreign(Path(here, name)))
        yield from (Path(here, name).relative_to(folder).as_posix() for name in names if name.endswith(_ENDINGS))
        if number == _MAX_FOLDERS:
            return


def _is_foreign(folder: Path) -> bool:
    return folder.name in ("node_modules", "site-packages", "runs") or (folder / "pyvenv.cfg").exists()


def _imported(folder: Path, top: Path) -> Iterator[str]:
    """Imported modules of the repository that are outside the project folder, such as a shared library."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py") or "site-packages" in path:
            continue
        if path.startswith(f"{top}{os.sep}") and not path.startswith(f"{folder}{os.sep}"):
            yield Path(os.path.relpath(path, folder)).as_posix()


def _program(folder: Path) -> str | None:
    """The path of the running script in the project; None in a notebook, or if the script is elsewhere."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str) or not Path(path).absolute().is_relative_to(folder):
        return None
    return Path(path).absolute().relative_to(folder).as_posix()


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _changes(folder: Path, top: Path) -> Iterator[bytes]:
    """The changes to each tracked source file, and the content of each untracked one that is not ignored."""
    options = ("--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--no-renames", "--ignore-submodules")
    everywhere = [f":(top){pattern}" for pattern in _PATTERNS]
    changed = _git("diff", "HEAD", *options, "--src-prefix=a/", "--dst-prefix=b/", "--", *everywhere)
    yield from re.split(rb"^(?=diff --git )", changed, flags=re.MULTILINE)
    untracked = _split(_git("-C", str(top), "ls-files", "-z", "-o", "--exclude-standard", "--", *_PATTERNS))
    for name in untracked[:_MAX_FILES]:
        if (top / name).is_file() and (top / name).stat().st_size <= _MAX_BYTES:
            new = ("diff", "--no-index", *options, "--src-prefix=a/", "--dst-prefix=b/", "--", os.devnull, name)
            yield _git("-C", str(top), *new, code=1)


def _without_secrets(changes: Iterator[bytes], left_out: dict[str, str]) -> Iterator[bytes]:
    """The changes without any text that looks like a secret. The other files are listed in `left_out`."""
    for change in changes:
        lines = change.decode("utf-8", "replace").splitlines()
        if any(map(has_secret, lines)):
            left_out[lines[0].rpartition(" b/")[2]] = "something in its changes looks like a secret"
        else:
            yield change
