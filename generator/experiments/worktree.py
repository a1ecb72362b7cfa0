"""Git worktrees, and commits that are on no branch. Git's index, branches and stash stay as they are."""

import os
from pathlib import Path

from ..errors import PreconditionError
from ..files import disk
from ..files.git import GitError, run_git

SECONDS = 120
"""How long git may take."""

_MAX_BYTES = 1 << 20  # of an untracked file that is committed; larger ones are data, not code
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "paccel try"), ("EMAIL", "paccel-try@localhost"))
}


def toplevel(folder: Path) -> Path:
    """Return the top folder of the git repository that a folder is in.

    Raises:
        PreconditionError: It is in none.
    """
    try:
        return Path(os.fsdecode(run_git("rev-parse", "--show-toplevel", folder=folder, seconds=SECONDS)).rstrip("\n"))
    except GitError as error:
        raise PreconditionError(
            f"`{folder}` is in no git repository, which `paccel try` needs: run `git init && git add -A && git commit`"
            f" ({error.reason})"
        ) from error


def project_in(worktree: Path, root: Path, top: Path) -> Path:
    """Return the folder of a project in a worktree.

    Args:
        worktree: The top folder of the worktree, or of another copy of the repository.
        root: The project's folder in the repository.
        top: The top folder of the repository.
    """
    return worktree / os.path.relpath(root.resolve(), top.resolve())


def git(top: Path, *arguments: str) -> bytes:
    """Run git and return what it prints.

    Raises:
        PreconditionError: It fails.
    """
    try:
        return run_git(*arguments, folder=top, seconds=SECONDS)
    except GitError as error:
        raise PreconditionError(f"`git {arguments[0]}` failed in `{top}`: {error.reason}") from error


def add_worktree(top: Path, worktree: Path, commit: str) -> None:
    """Check out a commit in a new worktree, on no branch."""
    git(top, "worktree", "add", "--detach", "--quiet", str(worktree), commit)


def remove_worktree(top: Path, worktree: Path) -> None:
    """Remove a worktree, also one that is damaged or was never added."""
    try:
        run_git("worktree", "remove", "--force", "--force", str(worktree), folder=top, seconds=SECONDS)
    except GitError:
        disk.remove_folder(worktree)
        git(top, "worktree", "prune")


def tree_of(top: Path, commit: str) -> str:
    """Return the hash of a commit's files."""
    return git(top, "rev-parse", f"{commit}^{{tree}}").decode().strip()


def commit_files(top: Path, parent: str, message: str) -> str:
    """Commit the tracked files and the small untracked ones as they are on disk, and return the commit.

    Returns `parent`'s own commit if nothing has changed since.

    Raises:
        PreconditionError: `parent` is not a commit, or git fails.
    """
    try:
        parent = run_git("rev-parse", "--verify", f"{parent}^{{commit}}", folder=top, seconds=SECONDS).decode().strip()
    except GitError as error:
        raise PreconditionError(f"`{top}` has no commit yet: run `git add -A && git commit` first") from error
    git_folder = Path(os.fsdecode(git(top, "rev-parse", "--absolute-git-dir")).strip("\n"))
    index = git_folder / f"paccel-try-index-{os.getpid()}"

    def with_index(*arguments: str, typed: bytes = b"", **variables: str) -> bytes:
        return run_git(*arguments, folder=top, seconds=SECONDS, typed=typed, GIT_INDEX_FILE=str(index), **variables)

    try:
        with_index("read-tree", parent)
        with_index("add", "--update", "--", ".")
        untracked = with_index("ls-files", "-z", "--others", "--exclude-standard").split(b"\0")
        if small := [name for name in untracked if name and _is_small(top / os.fsdecode(name))]:
            with_index(
                *("add", "--pathspec-from-file=-", "--pathspec-file-nul"),
                typed=b"\0".join(small),
                GIT_LITERAL_PATHSPECS="1",
            )
        tree = with_index("write-tree").decode().strip()
        if tree == tree_of(top, parent):
            return parent
        commit = with_index("commit-tree", tree, "-p", parent, "-m", message, typed=b"", **_AUTHOR)
        return commit.decode().strip()
    except GitError as error:
        raise PreconditionError(f"git cannot commit the files in `{top}`: {error.reason}") from error
    finally:
        index.unlink(missing_ok=True)


def _is_small(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= _MAX_BYTES


def file_at(top: Path, commit: str, path: str) -> bytes | None:
    """Return a file of a commit as it would be checked out; None if it has none."""
    try:
        return run_git("cat-file", "--filters", f"{commit}:{path}", folder=top, seconds=SECONDS)
    except GitError:
        return None


def is_executable(top: Path, commit: str, path: str) -> bool:
    """Whether a file of a commit is executable."""
    return git(top, "ls-tree", commit, "--", f":(top,literal){path}").startswith(b"100755")
