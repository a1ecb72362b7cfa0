"""Earlier versions of a template, from the git repository that its author works in."""

from pathlib import Path

from ..errors import TemplateError
from ..files.archive import read_zip
from ..files.git import GitError, run_git
from .catalog import load_template
from .template import Template

SECONDS = 60


def last_release(folder: Path) -> str:
    """Return the newest git tag among the ancestors of the commit in `folder`.

    Raises:
        TemplateError: There is no tag, or no repository.
    """
    try:
        return run_git("describe", "--tags", "--abbrev=0", folder=folder, seconds=SECONDS).decode().strip()
    except GitError as error:
        raise TemplateError(
            f"No released version of `{folder}` is known: {error.reason}; tag one with `git tag`"
        ) from error


def template_at(folder: Path, version: str) -> Template:
    """Read the template in `folder` as it was at a git tag, branch or commit.

    Raises:
        TemplateError: There is no repository or no such version, or the template did not exist yet.
    """
    top, inside = _place(folder)
    return load_template(f"git+{top}@{version}" + (f"#{inside}" if inside else ""))


def files_at(folder: Path, version: str) -> dict[str, bytes]:
    """Return the files below `folder` at a git tag, branch or commit: path -> content; empty if it did not exist yet.

    Raises:
        TemplateError: There is no repository.
    """
    top, inside = _place(folder)
    try:
        archive = run_git(
            "archive", "--format=zip", f"{version}:{inside}" if inside else version, folder=top, seconds=SECONDS
        )
    except GitError:
        return {}
    return {path: file.content for path, file in read_zip(archive, f"{folder.name} at {version}").items()}


def _place(folder: Path) -> tuple[Path, str]:
    """Return the repository and the folder's path in it. The folder need not exist today."""
    here = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        top = Path(run_git("rev-parse", "--show-toplevel", folder=here, seconds=SECONDS).decode().strip())
    except GitError as error:
        raise TemplateError(f"`{folder}` is not in a git repository, so it has no earlier versions") from error
    inside = folder.resolve().relative_to(top.resolve()).as_posix()
    return top, "" if inside == "." else inside
