"""Give a project that lost its `.paccel/` a baseline again: today's render of its template, with the likeliest answers.

Nothing of the project is touched. What differs from the render counts as the user's edits from then on, so an upgrade
never overwrites it; it can only not know which of the differences are an older template's.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog.catalog import Template, bundled_names, load_template
from ..catalog.questions import Answer, check_project_name, resolve_answers
from ..errors import PaccelError, PreconditionError, UsageError
from ..files import disk
from ..files.tree import STATE_DIR, File, Tree
from ..project.folder import read_paths
from ..project.state import MANIFEST_PATH, Manifest, read_state, write_state
from ..render.render import render
from ..upgrade.journal import read_journal

LEAST_LIKENESS = 0.4
"""Less of a template's lines in a folder than this, and it is not a project of that template."""


@dataclass(frozen=True)
class Adoption:
    """What a project was taken for.

    Attributes:
        manifest: What was, or would be, written.
        likeness: How much of the render's lines the project has, 0 to 1.
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
    """Find template and answers that give the most of what is in `root`, and write a baseline of them.

    Args:
        root: The project's folder.
        template: Its source; None: the likeliest of the bundled ones.
        answers: Those that are known; the others are found by trying each choice.
        dry_run: Write nothing.

    Raises:
        PreconditionError: The project's state is sound, or an upgrade is under way.
        UsageError: The folder does not look like a project of the template.
        TemplateError: The template cannot be found or rendered.
    """
    if read_journal(root) is not None:
        raise PreconditionError("An upgrade is under way: `paccel upgrade --continue` or `--abort` it first")
    if (root / MANIFEST_PATH).exists():
        try:
            read_state(root)
        except PreconditionError:
            pass  # damaged: that is what adopting is for
        else:
            raise PreconditionError(f"`{root}` has a sound `{STATE_DIR}` already: `paccel upgrade` works on it")
    found = [load_template(source) for source in ([template] if template else bundled_names())]
    best = max((_fit(root, candidate, answers or {}) for candidate in found), key=lambda fit: fit.likeness)
    if best.likeness < LEAST_LIKENESS:
        raise UsageError(
            f"`{root}` does not look like a project of `{best.manifest.template.name}`: it has"
            f" {best.likeness:.0%} of the template's lines; name the template with `--template`, and answers with `--set`"
        )
    if not dry_run:
        try:
            if not (root / STATE_DIR).is_dir():
                disk.make_folder(root / STATE_DIR)
            write_state(root, best.manifest, best.tree)
        except OSError as error:
            raise PreconditionError(f"`{root / STATE_DIR}` cannot be written: {error.strerror}") from error
    return best


def _fit(root: Path, template: Template, given: Mapping[str, object]) -> Adoption:
    """The best answers to one template's questions, each question tried by itself."""
    name = _project_name(root)
    answers = resolve_answers(template, given, project_name=name)
    tree = render(template, answers)
    score = _likeness(root, tree)
    for question in template.questions:
        values: tuple[Answer, ...] = (True, False) if question.kind == "bool" else question.choices
        for value in values if question.name not in given else ():
            if value == answers[question.name]:
                continue
            try:
                other = resolve_answers(template, {**answers, question.name: value})
                rendered = render(template, other)
            except PaccelError:
                continue  # a choice that does not go with the others
            likeness = _likeness(root, rendered)
            if likeness > score:
                answers, tree, score = other, rendered, likeness
    here = read_paths(root, tree)
    return Adoption(
        manifest=Manifest.of(template.ref, answers, tree),
        tree=tree,
        likeness=score,
        edited=tuple(path for path, file in tree.items() if path in here and here[path] != file),
        missing=tuple(path for path in tree if path not in here),
    )


def _likeness(root: Path, tree: Tree) -> float:
    """The share of lines that project and render have in common, over the files of the render."""
    here = read_paths(root, tree)
    common = total = 0
    for path, file in tree.items():
        a, b = _lines(file), _lines(here.get(path))
        common += 2 * (a & b).total()
        total += a.total() + b.total()
    return common / total if total else 0.0


def _lines(file: File | None) -> Counter[bytes]:
    return Counter(line.strip() for line in file.content.split(b"\n") if line.strip()) if file else Counter()


def _project_name(root: Path) -> str:
    """The name in the project's `pyproject.toml`, else its folder's."""
    try:
        name = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        return check_project_name(str(name))
    except (OSError, ValueError, KeyError, TypeError):
        return root.absolute().name
