"""Recreate the lost `.paccel/` of a project: the new baseline is today's render of its template, with the likeliest answers.

The project's files stay as they are. Every difference from the render counts as the user's edit from then on, so an upgrade
never overwrites it, even if it comes from an older template: that cannot be known.
"""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..catalog.answers import resolve_answers
from ..catalog.catalog import bundled_names, load_template
from ..catalog.questions import Answer, check_project_name
from ..catalog.secrets import hide
from ..catalog.template import Template
from ..errors import PaccelError, PreconditionError, StateError, UsageError
from ..files import disk
from ..files.likeness import likeness
from ..files.scratch import remove
from ..files.tree import PROJECT_FILE, STATE_DIR, Tree
from ..project.compare import same
from ..project.folder import read_paths
from ..project.state import MANIFEST_PATH, Manifest, read_manifest, read_state, write_state
from ..render.formatter import Formatted
from ..render.render import render_formatted
from ..sandbox.draws import Draws
from ..upgrade.git import modes_count
from ..upgrade.journal import read_journal
from ..upgrade.preconditions import refuse_newer
from ..vendor.rewrite import in_project
from ..vendor.runtime import find_vendored

LEAST_LIKENESS = 0.4
"""A folder that shares a smaller fraction of a template's lines is not a project of that template."""

MAX_SEARCHED = 3
"""The number of templates whose answers are tried: those whose default projects are most similar."""

SEARCH_SECONDS = 120.0


@dataclass(frozen=True)
class Adoption:
    """The template and answers that were found for a project.

    Attributes:
        manifest: The new manifest.
        tree: The new baseline.
        likeness: The fraction of lines that project and render have in common, 0 to 1.
        edited: Files that differ from the render.
        missing: Files that the project lacks; they count as deleted by the user.
        complete: Whether all answers were tried in time. If not, another one may fit better.
    """

    manifest: Manifest
    tree: Tree
    likeness: float
    edited: tuple[str, ...]
    missing: tuple[str, ...]
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "template": self.manifest.template.name,
            "source": self.manifest.template.source,
            "answers": dict(self.manifest.answers),
            "likeness": round(self.likeness, 3),
            "files": len(self.tree),
            "edited": list(self.edited),
            "missing": list(self.missing),
            "complete": self.complete,
        }


def adopt(
    root: Path,
    *,
    template: str | None = None,
    answers: Mapping[str, object] | None = None,
    dry_run: bool = False,
    seconds: float = SEARCH_SECONDS,
    tell: Callable[[str], None] = lambda text: None,
) -> Adoption:
    """Find the template and answers whose render is most similar to the project, and write it as the baseline.

    Args:
        root: The project's folder.
        template: The source of its template. None: the most similar bundled one.
        answers: Known answers; the others are found by trying each choice.
        dry_run: Write nothing.
        seconds: How long to search for answers.
        tell: Takes a line of progress.

    Raises:
        PreconditionError: The project has a valid `.paccel`, an upgrade is unfinished, or another paccel command is
            working in the project.
        UsageError: The folder does not look like a project of the template.
        TemplateError: The template cannot be found or rendered.
    """
    _refuse_valid(root)
    search = _Search(root, answers or {}, seconds, tell)
    fit = search.best([load_template(source) for source in (bundled_names() if template is None else [template])])
    if fit.likeness < LEAST_LIKENESS:
        raise UsageError(
            f"`{root}` does not look like a project of these templates: the most similar one, `{fit.template.name}`, shares"
            f" only {fit.likeness:.0%} of its lines; pass the template with `--template`, and answers with `--set`"
        )
    stored = hide(fit.template.questions, fit.answers)
    rendered = fit.rendered if stored == fit.answers else render_formatted(fit.template, stored, draws=fit.draws)
    vendored = find_vendored(root)
    tree = in_project(rendered.tree, vendored)
    here = read_paths(root, tree)
    modes = modes_count(root, tree, here)
    recorded = fit.template.recorded_in(root).ref
    adoption = Adoption(
        manifest=Manifest.of(
            recorded, stored, tree, unformatted=rendered.unformatted, drawn=fit.draws.to_json()
        )._replace(vendored=vendored),
        tree=tree,
        likeness=fit.likeness,
        edited=tuple(path for path, file in tree.items() if path in here and not same(file, here[path], modes)),
        missing=tuple(path for path in tree if path not in here),
        complete=search.complete,
    )
    if not dry_run:
        _write(root, adoption)
    return adoption


def _write(root: Path, adoption: Adoption) -> None:
    made = not (root / STATE_DIR).is_dir()
    try:
        if made:
            disk.make_folder(root / STATE_DIR)
        with disk.locked(root):
            _refuse_valid(root)  # again: another command may have written it meanwhile
            write_state(root, adoption.manifest, adoption.tree)
    except BaseException as error:
        if made and not (root / MANIFEST_PATH).exists():  # without it, the project would count as damaged
            remove(root / STATE_DIR)
        if isinstance(error, OSError):
            raise PreconditionError(f"`{root / STATE_DIR}` cannot be written: {error.strerror}") from error
        raise


def _refuse_valid(root: Path) -> None:
    """Raise PreconditionError if the project has a valid `.paccel`, or an unfinished upgrade."""
    if read_journal(root) is not None:
        raise PreconditionError(
            "The last upgrade is not finished: run `paccel upgrade --continue` or `paccel upgrade --abort` first"
        )
    if (root / MANIFEST_PATH).exists():
        try:
            refuse_newer(read_manifest(root))
            read_state(root)
        except StateError:
            return  # damaged, so it can be adopted
        raise PreconditionError(f"`{root}` has a valid `{STATE_DIR}` already: use `paccel upgrade`")


class _Fit(NamedTuple):
    """A template with answers, its render, and the fraction of lines that it shares with the project."""

    template: Template
    answers: Mapping[str, Answer]
    draws: Draws
    rendered: Formatted
    likeness: float


class _Search:
    """Searches for the template and answers whose render is most similar to a project.

    Attributes:
        complete: Whether all answers were tried in time.
    """

    def __init__(self, root: Path, given: Mapping[str, object], seconds: float, tell: Callable[[str], None]) -> None:
        self.root, self.given, self.tell = root, given, tell
        self.end = time.monotonic() + seconds
        self.complete = True

    def best(self, templates: Sequence[Template]) -> _Fit:
        """Search the answers of those templates whose default projects are most similar, and return the best fit."""
        fits = sorted((self._with_defaults(template) for template in templates), key=lambda fit: -fit.likeness)
        return max((self._with_answers(fit) for fit in fits[:MAX_SEARCHED]), key=lambda fit: fit.likeness)

    def _with_defaults(self, template: Template) -> _Fit:
        self.tell(f"Comparing with `{template.name}`")
        draws = Draws()
        answers = resolve_answers(template, self.given, project_name=_project_name(self.root), draws=draws)
        rendered = render_formatted(template, answers, draws=draws)
        return _Fit(template, answers, draws, rendered, self._shared_lines(rendered.tree))

    def _with_answers(self, fit: _Fit) -> _Fit:
        """Try each choice of one question after the other, and keep it if the render becomes more similar."""
        for question in fit.template.questions:
            values: tuple[Answer, ...] = (True, False) if question.kind == "bool" else question.choices
            for value in values if question.name not in self.given else ():
                if value == fit.answers[question.name]:
                    continue
                if time.monotonic() > self.end:
                    self.complete = False
                    return fit
                typed = str(value).lower() if isinstance(value, bool) else value
                self.tell(f"Comparing with `{fit.template.name}`: `{question.name}={typed}`")
                try:
                    answers = resolve_answers(fit.template, {**fit.answers, question.name: value}, draws=fit.draws)
                    rendered = render_formatted(fit.template, answers, fit.rendered, fit.draws)
                except PaccelError:
                    continue  # the template refuses this combination
                shared = self._shared_lines(rendered.tree)
                if shared > fit.likeness:
                    fit = fit._replace(answers=answers, rendered=rendered, likeness=shared)
        return fit

    def _shared_lines(self, tree: Tree) -> float:
        """Return the fraction of lines that project and render have in common, over the files of the render."""
        here = read_paths(self.root, tree)
        return likeness((file.content, here[path].content if path in here else b"") for path, file in tree.items())


def _project_name(root: Path) -> str:
    """Return the name in the project's `pyproject.toml`, else the name of its folder."""
    try:
        (file,) = read_paths(root, [PROJECT_FILE]).values()
        return check_project_name(str(tomllib.loads(file.content.decode())["project"]["name"]))
    except (ValueError, KeyError, TypeError, RecursionError):  # no file, not TOML, or no name
        return root.absolute().name
