"""Give a project that lost its `.paccel/` a new baseline: today's render of its template, with the likeliest answers.

The project's own files stay as they are. What differs from the render counts as the user's edits from then on, so an
upgrade never overwrites it; which of the differences come from an older template cannot be known.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog.catalog import Template, bundled_names, load_template
from ..catalog.questions import Answer, check_project_name, resolve_answers
from ..errors import PaccelError, PreconditionError, UsageError
from ..files import disk
from ..files.likeness import likeness
from ..files.tree import STATE_DIR, Tree
from ..project.folder import read_paths
from ..project.state import MANIFEST_PATH, Manifest, read_state, write_state
from ..render.render import render_formatted
from ..upgrade.journal import read_journal

LEAST_LIKENESS = 0.4
"""A folder that has less of a template's lines than this is not a project of that template."""


@dataclass(frozen=True)
class Adoption:
    """The template and answers that were found for a project.

    Attributes:
        manifest: What was written, or would be.
        tree: The new baseline.
        likeness: The share of lines that project and render have in common, 0 to 1.
        edited: Files that differ from the render.
        missing: Files that the project does not have; they count as deleted by the user.
    """

    manifest: Manifest
    tree: Tree
    likeness: float
    edited: tuple[str, ...]
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "template": self.manifest.template.name,
            "source": self.manifest.template.source,
            "answers": dict(self.manifest.answers),
            "likeness": round(self.likeness, 3),
            "files": len(self.tree),
            "edited": list(self.edited),
            "missing": list(self.missing),
        }


def adopt(
    root: Path,
    *,
    template: str | None = None,
    answers: Mapping[str, object] | None = None,
    dry_run: bool = False,
) -> Adoption:
    """Find the template and answers whose render is most like the files in `root`, and write it as the baseline.

    Args:
        root: The project's folder.
        template: Its source; None: the likeliest of the bundled ones.
        answers: The known ones; the others are found by trying each choice.
        dry_run: Write nothing.

    Raises:
        PreconditionError: The project has a valid `.paccel`, an upgrade is unfinished, or another paccel command is
            working in the project.
        UsageError: The folder does not look like a project of the template.
        TemplateError: The template cannot be found or rendered.
    """
    _refuse_valid(root)
    found = [load_template(source) for source in ([template] if template else bundled_names())]
    best = max((_fit(root, candidate, answers or {}) for candidate in found), key=lambda fit: fit.likeness)
    if best.likeness < LEAST_LIKENESS:
        raise UsageError(
            f"`{root}` does not look like a project of any of these templates: the most similar one,"
            f" `{best.manifest.template.name}`, shares {best.likeness:.0%} of its lines; give the template with"
            " `--template`, and answers with `--set`"
        )
    if not dry_run:
        try:
            if not (root / STATE_DIR).is_dir():
                disk.make_folder(root / STATE_DIR)
            with disk.locked(root):
                _refuse_valid(root)  # again: another command may have written meanwhile
                write_state(root, best.manifest, best.tree)
        except OSError as error:
            raise PreconditionError(f"`{root / STATE_DIR}` cannot be written: {error.strerror}") from error
    return best


def _refuse_valid(root: Path) -> None:
    """Raise PreconditionError if the project needs no adopting, or must not be adopted now."""
    if read_journal(root) is not None:
        raise PreconditionError(
            "The last upgrade is not finished: run `paccel upgrade --continue` or `paccel upgrade --abort` first"
        )
    if (root / MANIFEST_PATH).exists():
        try:
            read_state(root)
        except PreconditionError:
            return  # damaged: that is what adopting is for
        raise PreconditionError(f"`{root}` has a valid `{STATE_DIR}` already: use `paccel upgrade`")


def _fit(root: Path, template: Template, given: Mapping[str, object]) -> Adoption:
    """Find the best answers to one template's questions, trying each question by itself."""
    name = _project_name(root)
    answers = resolve_answers(template, given, project_name=name)
    rendered = render_formatted(template, answers)
    score = _shared_lines(root, rendered.tree)
    for question in template.questions:
        values: tuple[Answer, ...] = (True, False) if question.kind == "bool" else question.choices
        for value in values if question.name not in given else ():
            if value == answers[question.name]:
                continue
            try:
                other = resolve_answers(template, {**answers, question.name: value})
                other_rendered = render_formatted(template, other, rendered)
            except PaccelError:
                continue  # a choice that does not go with the others
            other_score = _shared_lines(root, other_rendered.tree)
            if other_score > score:
                answers, rendered, score = other, other_rendered, other_score
    tree = rendered.tree
    here = read_paths(root, tree)
    return Adoption(
        manifest=Manifest.of(template.ref, answers, tree, unformatted=rendered.unformatted),
        tree=tree,
        likeness=score,
        edited=tuple(path for path, file in tree.items() if path in here and here[path] != file),
        missing=tuple(path for path in tree if path not in here),
    )


def _shared_lines(root: Path, tree: Tree) -> float:
    """The share of lines that project and render have in common, over the files of the render."""
    here = read_paths(root, tree)
    return likeness((file.content, here[path].content if path in here else b"") for path, file in tree.items())


def _project_name(root: Path) -> str:
    """The name in the project's `pyproject.toml`, else its folder's."""
    try:
        name = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        return check_project_name(str(name))
    except (OSError, ValueError, KeyError, TypeError):
        return root.absolute().name
