"""The one place that runs git, without environment variables that lead it to another repository.

In a git hook, `git rebase --exec` or an alias, git sets variables that name its own repository, index and work tree. A
clone that inherits them would write into that index.
"""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# Configuration in the environment may hold credentials and does not name a repository; git keeps it for submodules too.
_KEPT = {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}
# No hooks, and no file system monitor: a repository's configuration can name any program for it.
_SETTINGS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
_ADVICE = (
    "Cloning into ",
    "hint: ",
    "warning: Could not find remote branch",  # the next line says it again
    "Please make sure you have the correct access rights",
    "and the repository exists.",
)


class GitError(Exception):
    """Raised when git fails.

    Attributes:
        reason: git's error message, without its advice; lines after the first are indented.
        code: git's exit code; None if it did not end by itself.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class GitMissingError(GitError):
    """Raised when git is not installed."""


class GitTimeoutError(GitError):
    """Raised when git takes too long."""


def run_git(*arguments: str, folder: Path | None = None, seconds: float, typed: bytes = b"", **variables: str) -> bytes:
    """Run git without prompts and return its output.

    Args:
        arguments: The subcommand and its arguments.
        folder: The working directory.
        seconds: The time limit.
        typed: The standard input.
        variables: Additional environment variables.

    Raises:
        GitError: git fails, is not installed, or takes too long.
    """
    repository = _repository_variables()
    environment = {name: value for name, value in os.environ.items() if name not in repository}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **variables}
    return _run(["git", *_SETTINGS, *arguments], folder, environment, seconds, typed)


@cache
def _repository_variables() -> frozenset[str]:
    """The environment variables that name a repository, as listed by the installed git."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    listed = _run(["git", "rev-parse", "--local-env-vars"], None, environment, seconds=30)
    return frozenset(listed.decode().split()) - _KEPT


def _run(
    command: list[str], folder: Path | None, environment: dict[str, str], seconds: float, typed: bytes = b""
) -> bytes:
    # Files, not pipes: a helper process that outlives git would keep a pipe open, and reading would never end.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(typed)
        given.seek(0)
        try:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdin=given, stdout=out, stderr=err)
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and (folder is None or folder.is_dir()):
                raise GitMissingError("git is not installed") from error
            raise GitError(str(error)) from error
        try:
            code = process.wait(seconds)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitTimeoutError(f"git did not answer within {seconds:g} s") from error
            raise
        out.seek(0)
        if code == 0:
            return out.read()
        err.seek(0)
        raise GitError(_reason(err.read().decode(errors="replace")) or f"git ended with exit code {code}", code)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End git with SIGTERM, which also ends its helper processes; kill it if it does not react."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reason(text: str) -> str:
    clean = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text.replace("\r", "\n"))
    lines = [line.strip() for line in clean.split("\n")]
    kept = [line for line in lines if line and not line.startswith(_ADVICE)]
    return "\n  ".join(kept)
