"""The template's two sides of an upgrade: the files as generated, and as the template renders them now.

What is merged contains the secret answers; what `.paccel` stores has stand-ins for them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .. import __version__
from ..catalog.answers import resolve_answers
from ..catalog.catalog import load_recorded
from ..catalog.questions import Answer
from ..catalog.secrets import is_hidden, paths_with_secrets, recover, reveal
from ..catalog.template import Template
from ..errors import PaccelError, StateError
from ..files.tree import File, Tree
from ..project.compare import spellings
from ..project.folder import read_paths
from ..project.state import Manifest, read_state
from ..render.formatter import Formatted
from ..sandbox.draws import Draws
from ..vendor.rewrite import in_project, without_copy
from ..vendor.runtime import Vendored


class Renders(NamedTuple):
    """Two renders of the template.

    Attributes:
        base: The files as generated.
        theirs: The files as rendered now.
        stored_base: `base` as stored in `.paccel`.
        stored: `theirs` as stored in `.paccel`.
        unknown: Paths whose generated content is lost.
        notes: What the user should know about secret answers.
        lost: What the user should know about a lost baseline.
    """

    base: Tree
    theirs: Tree
    stored_base: Tree
    stored: Formatted
    unknown: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def read_renders(
    root: Path,
    before: Manifest,
    template: Template,
    answers: Mapping[str, Answer],
    stored: Mapping[str, Answer],
    draws: Draws,
    vendored: Vendored | None,
) -> Renders:
    """Read the baseline of a project and render its template.

    Args:
        root: The project.
        before: Its manifest.
        template: The template to render.
        answers: The answers; a secret one is a stand-in, unless it is new.
        stored: The answers as stored in `.paccel`.
        draws: What the template draws at random.
        vendored: The copy of the runtime in the project.

    Raises:
        StateError: The baseline cannot be read now.
        TemplateError: The template cannot be rendered.
    """
    base, unknown, lost = _read_baseline(root, before)
    known = Formatted(without_copy(base, before.vendored), before.unformatted)
    earlier = known if before.paccel == __version__ else None
    rendered = _render(template, stored, earlier, draws, vendored)
    if not before.drawn and draws.recover(rendered.tree, base):  # made by a paccel that did not record them
        rendered = _render(template, stored, earlier, draws, vendored)
    secrets = recover(base, read_paths(root, paths_with_secrets(base)))
    notes = tuple(
        f"the secret answer `{name}` is not stored, and is not in your files: set it again with `paccel set {name}=…`"
        for name, answer in answers.items()
        if is_hidden(answer) and name not in secrets
    )
    recovered = {name: answer for name, answer in secrets.items() if name in stored and is_hidden(answers[name])}
    revealed = {**answers, **recovered}
    if stored == revealed:
        return Renders(base, rendered.tree, base, rendered, unknown, notes, lost)
    # Only new files are rendered with the answers. In the others the stand-ins are replaced, exactly as in the baseline, so
    # that the two differ only in what the template changed.
    new = _render(template, revealed, None, draws, vendored).tree
    changed = {name: str(answer) for name, answer in revealed.items() if stored[name] != answer}
    theirs = {**new, **reveal({path: file for path, file in rendered.tree.items() if path in base}, changed)}
    return Renders(reveal(base, secrets), theirs, base, rendered, unknown, notes, lost)


def _render(
    template: Template,
    answers: Mapping[str, Answer],
    earlier: Formatted | None,
    draws: Draws,
    vendored: Vendored | None,
) -> Formatted:
    from ..render.render import render_formatted  # imports Jinja, which is not needed if a project is up to date

    rendered = render_formatted(template, answers, earlier, draws)
    return rendered._replace(tree=in_project(rendered.tree, vendored))


def _read_baseline(root: Path, manifest: Manifest) -> tuple[Tree, frozenset[str], tuple[str, ...]]:
    """Read the baseline, or recover what is possible if it is lost: (files, paths of lost files, notes)."""
    try:
        return read_state(root)[1], frozenset(), ()
    except StateError as error:
        if isinstance(error.__cause__, OSError):
            raise  # it exists, but cannot be read now
        problem = error.problem
    try:
        template = load_recorded(manifest.template, root, as_rendered=True)
        draws = Draws(manifest.drawn)
        answers = resolve_answers(template, manifest.answers, draws=draws)
        tree = _render(template, answers, None, draws, manifest.vendored).tree
        if {path: (file.sha256, file.executable) for path, file in tree.items()} == dict(manifest.files):
            return tree, frozenset(), (f"{problem}; it was rendered again",)
    except PaccelError:
        pass  # the old template is gone, or does not render now
    # The manifest has the hash of each generated file: an unedited file is its own baseline.
    base: dict[str, File] = {}
    for path, file in read_paths(root, manifest.files).items():
        sha256, executable = manifest.files[path]
        for content in spellings(file.content):
            generated = File(content, executable)
            if generated.sha256 == sha256:
                base[path] = generated
    unknown = frozenset(manifest.files) - frozenset(base)
    return base, unknown, (f"{problem}; files that you edited are kept and not merged",)
