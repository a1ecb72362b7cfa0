"""Clone one commit of a git repository, with its submodules."""

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from ..errors import TemplateError
from ..files.git import GitError, GitMissingError, GitTimeoutError, run_git
from .address import Address

SECONDS = 120

_PROTOCOLS = "git:http:https:ssh"
# Keep the bytes of the repository, whatever the user's git settings are.
_SETTINGS = ("-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "submodule.recurse=false")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_HASH_LENGTHS = (40, 64)  # SHA-1, SHA-256


class Clone(NamedTuple):
    """A cloned repository.

    Attributes:
        commit: The commit that is checked out.
        unfetched: Path of a submodule -> why it could not be fetched.
    """

    commit: str
    unfetched: dict[str, str]


def clone(address: Address, target: Path) -> Clone:
    """Clone the version that the address names into `target`, which must not exist.

    Raises:
        TemplateError: git is not installed, fails, or takes too long.
    """
    deadline = time.monotonic() + SECONDS
    url = Path(address.place).as_uri() if os.path.isabs(address.place) else address.place
    try:
        try:
            _check_out(url, address.version, target, deadline)
        except GitError as error:
            if address.sure or not address.version or isinstance(error, GitTimeoutError | GitMissingError):
                raise
            if "not found in upstream" in error.reason:  # the repository exists, only the version does not
                raise
            try:  # the `@` may be part of the URL
                _check_out(f"{url}@{address.version}", "", target, deadline)
            except GitError:
                raise error from None
        commit = _commit_of(target, address)
        unfetched = _fetch_submodules(target, deadline) if (target / ".gitmodules").is_file() else {}
        return Clone(commit, {path: address.hide(reason) for path, reason in unfetched.items()})
    except GitMissingError as error:
        raise TemplateError(
            f"`{address.shown}` needs git, which is not installed: install it, or give a ZIP file"
        ) from error
    except GitTimeoutError as error:
        raise TemplateError(
            f"`{address.shown}` could not be cloned within {SECONDS} s: check the network, or clone it and give the directory"
        ) from error
    except GitError as error:
        raise TemplateError(f"`{address.shown}` could not be cloned: {address.hide(error.reason)}") from error


def _check_out(url: str, version: str, target: Path, deadline: float) -> None:
    if len(version) in _HASH_LENGTHS and _COMMIT.fullmatch(version):
        _check_out_commit(url, version, target, deadline)
        return
    try:
        branch = [f"--branch={version}"] if version else []
        _git(deadline, "clone", "--quiet", "--depth=1", *branch, "--", url, str(target))
    except GitError as error:
        if "not found in upstream" not in error.reason or not _COMMIT.fullmatch(version):
            raise
        _check_out_commit(url, version, target, deadline)  # an abbreviated hash


def _check_out_commit(url: str, commit: str, target: Path, deadline: float) -> None:
    _git(deadline, "clone", "--quiet", "--depth=1", "--no-checkout", "--", url, str(target))
    try:
        _git(deadline, "fetch", "--quiet", "--depth=1", "origin", commit, folder=target)
    except GitTimeoutError:
        raise
    except GitError:  # not every server sends a commit by its hash, and none by an abbreviated one
        everything = ("--unshallow", "--tags", "origin", "+refs/*:refs/remotes/origin/*")
        _git(deadline, "fetch", "--quiet", *everything, folder=target)
    try:
        _git(deadline, "checkout", "--quiet", "--detach", commit, "--", folder=target)
    except GitTimeoutError:
        raise
    except GitError as error:
        raise GitError(f"it has no commit `{commit}`, or the hash is ambiguous") from error


def _commit_of(target: Path, address: Address) -> str:
    try:
        return run_git("rev-parse", "--verify", "HEAD", folder=target, seconds=SECONDS).decode().strip()
    except GitTimeoutError:
        raise
    except GitError as error:
        raise TemplateError(
            f"`{address.shown}` has no commit on its default branch: name a branch or a tag, as in `…@main`"
        ) from error


def _fetch_submodules(target: Path, deadline: float) -> dict[str, str]:
    """Fetch the submodules; return path -> reason for those that fail."""
    # Like git itself, allow submodules in folders of this disk only if the user's settings do.
    local = _setting("protocol.file.allow", target) == "always"
    listed = run_git("ls-files", "--stage", "-z", folder=target, seconds=SECONDS).decode(errors="surrogateescape")
    paths = [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith("160000 ")]
    failed: dict[str, str] = {}
    for path in paths:
        try:
            _git(
                deadline,
                *("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", "--", path),
                folder=target,
                protocols=_PROTOCOLS + ":file" * local,
            )
        except GitTimeoutError:
            raise
        except GitError as error:
            failed[path] = error.reason
    return failed


def _setting(name: str, folder: Path) -> str:
    try:
        return run_git("config", "--get", name, folder=folder, seconds=SECONDS).decode().strip()
    except GitError:  # it is not set
        return ""


def _git(deadline: float, *arguments: str, folder: Path | None = None, protocols: str = f"{_PROTOCOLS}:file") -> None:
    run_git(
        *_SETTINGS, *arguments, folder=folder, seconds=max(1, deadline - time.monotonic()), GIT_ALLOW_PROTOCOL=protocols
    )
