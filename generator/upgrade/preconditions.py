"""What an upgrade requires: no unfinished upgrade, no unresolved conflicts, and no newer paccel or template behind the project."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..catalog.template import Template
from ..errors import PreconditionError, StateError
from ..files.tree import File, Tree
from ..merge.languages import language_of, parses
from ..merge.markers import has_markers, has_own_markers
from ..merge.text import decode
from ..project.state import MANIFEST_PATH, Manifest
from . import apply
from .change import FileChange
from .git import unmerged_files
from .journal import read_journal

if TYPE_CHECKING:
    from packaging.version import Version

_MAX_FINDINGS = 10
_MERGED = {"merged", "conflict", "moved", "updated"}


def refuse_unfinished(root: Path) -> None:
    """Raise PreconditionError if an upgrade is unfinished."""
    journal = read_journal(root)
    if journal is None:
        return
    if journal.phase == "resolve":
        left = apply.unresolved(root, journal)
        if journal.findings and not left:
            found = "; ".join(str(finding) for finding in journal.findings[:_MAX_FINDINGS])
            raise PreconditionError(
                f"The last upgrade is not finished: the check found {found}; resolve this and run `paccel upgrade"
                " --continue`, keep it with `paccel upgrade --accept`, or go back with `paccel upgrade --abort`"
            )
        names = ", ".join(f"`{path}`" for path in left or journal.conflicts)
        what = f"resolve the conflicts in {names}, then" if left else f"the conflicts in {names} are resolved;"
        raise PreconditionError(
            f"The last upgrade is not finished: {what} run `paccel upgrade --continue`, or go back with"
            " `paccel upgrade --abort`"
        )
    raise PreconditionError(
        "The last upgrade was interrupted: finish it with `paccel upgrade --continue`, or go back with `paccel upgrade --abort`"
    )


def refuse_newer(manifest: Manifest) -> None:
    """Check that no newer paccel made the project, as this one would revert its changes.

    Raises:
        PreconditionError: A newer paccel made it.
        StateError: The version in the manifest is not one.
    """
    if manifest.paccel == __version__:
        return
    made, here = _version_of(manifest.paccel), _version_of(__version__)
    if made is None or here is None:
        raise StateError(
            f"`{MANIFEST_PATH}` says that paccel `{manifest.paccel}` made the project, which is not a version number",
            "restore the file from your backup or from git, or run `paccel adopt`",
        )
    if made > here:
        raise PreconditionError(
            f"The project was made by paccel {made}, which is newer than this paccel {here}: run `pip install -U paccel`"
        )


def refuse_older_release(manifest: Manifest, template: Template) -> None:
    """Raise PreconditionError if the template is an older release than the one that made the project."""
    if manifest.template.release == template.ref.release:
        return
    made, offered = _version_of(manifest.template.release), _version_of(template.ref.release)
    # A template may name its releases freely: names that are not version numbers have no order.
    if made is not None and offered is not None and offered < made:
        source = manifest.template.source
        raise PreconditionError(
            f"The project was made from release {made} of its template, but `{source}` is release {offered}: update it"
            f" there, or go back on purpose with `--template {source}`"
        )


def _version_of(text: str) -> "Version | None":
    """A version in the order of PEP 440, without its local part (`+…`); None if the text is not a version."""
    from packaging.version import InvalidVersion, Version  # slow to import, and rarely needed

    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return None


def refuse_conflicts(root: Path, changes: Sequence[FileChange], templates: Sequence[Tree]) -> None:
    """Raise PreconditionError if a file to merge has unresolved conflicts; `templates` as for `conflicted`."""
    files = {change.moved_from or change.path: change.before for change in changes if change.status in _MERGED}
    found = conflicted(root, {path: file for path, file in files.items() if file is not None}, templates)
    if found:
        names = ", ".join(f"`{path}`" for path in found)
        raise PreconditionError(
            f"There are conflict markers in {names}: resolve these conflicts first, or leave the file out with `--skip"
            f" {found[0]}`"
        )


def conflicted(root: Path, files: Mapping[str, File], templates: Sequence[Tree]) -> list[str]:
    """The files with unresolved conflicts of paccel or git; a text that only shows conflict markers does not count.

    Args:
        root: The project.
        files: Some or all of its files.
        templates: Renders; if they have markers in a file, these are text.
    """
    marked = {path: file.content for path, file in files.items() if has_markers(file.content)}
    unmerged = unmerged_files(root, marked)
    texts = {path for path in marked for tree in templates if path in tree and has_markers(tree[path].content)}
    return [
        path
        for path, content in marked.items()
        if path in unmerged
        or (
            path not in texts
            and (has_own_markers(content) or not parses(language_of(path), "\n".join(decode(content).lines)))
        )
    ]
