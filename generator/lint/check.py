"""Find mistakes in a template: `paccel check-template`."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ..catalog.catalog import bundled_names, bundled_root, load_template
from ..catalog.released import last_release, template_at
from ..catalog.template import Template
from ..errors import TemplateError
from ..files.git import GitError, run_git
from .branches import check_branches
from .finding import Finding, without_silenced
from .history import check_history
from .lookalikes import check_lookalikes
from .names import check_names
from .renders import check_draws, check_renders
from .sources import read_sources
from .versions import check_versions


class Report(NamedTuple):
    """The result of a check.

    Attributes:
        template: The template's name.
        findings: The mistakes, sorted by file and line.
        since: The earlier version that it was compared with; empty for none.
    """

    template: str
    findings: tuple[Finding, ...]
    since: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "template": self.template,
            "since": self.since,
            "findings": [finding.to_json() for finding in self.findings],
        }


def check_template(source: str, since: str | None = None) -> Report:
    """Find mistakes in a template.

    Args:
        source: Its folder, or the name of a bundled template.
        since: The version that existing projects were generated from: a git tag, branch or commit, or a folder. None: the
            newest tag, if there is one.

    Raises:
        TemplateError: The template, or its earlier version, cannot be read.
    """
    bundled = source in bundled_names()
    folder = bundled_root() / source if bundled else Path(os.path.abspath(source))
    if not bundled and not folder.is_dir():
        raise TemplateError(
            f"`{source}` is not a folder: give the folder of a template, which has a `cookiecutter.json`"
        )
    template = load_template(source if bundled else str(folder))
    sources = read_sources(template, folder)
    findings = [
        *sources.findings,
        *check_names(sources),
        *check_lookalikes(sources),
        *check_branches(sources),
        *check_versions(sources),
    ]
    known = {(finding.path, finding.line) for finding in findings}
    findings += [*check_renders(sources, known), *check_draws(sources)]
    old, version = _earlier(folder, since, bundled)
    if old is not None:
        findings += check_history(sources, old)
    return Report(template.name, tuple(without_silenced(findings, sources.files)), version)


def _earlier(folder: Path, since: str | None, bundled: bool) -> tuple[Template | None, str]:
    """Load the earlier version to compare with, and return it with its name; None if there is none."""
    if since is not None and Path(since).is_dir():
        return load_template(os.path.abspath(since)), since
    if since is not None:
        return template_at(folder, since), since
    if bundled:
        return None, ""
    try:
        # Fails for a folder that git ignores or does not track: it has no earlier version.
        run_git("ls-files", "--error-unmatch", "cookiecutter.json", folder=folder, seconds=30)
        version = last_release(folder)
        return template_at(folder, version), version
    except (GitError, TemplateError):
        return None, ""
