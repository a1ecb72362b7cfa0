"""A template under test, and the projects that it generates."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ..catalog.answers import resolve_answers
from ..catalog.catalog import bundled_names, load_template
from ..catalog.questions import Answer
from ..catalog.released import files_at, last_release, template_at
from ..catalog.secrets import hide
from ..catalog.template import Template
from ..errors import UsageError
from ..files.tree import File, Tree, read_tree, write_tree
from ..project.compare import as_generated, compare, modes_tell
from ..project.folder import create_project
from ..project.state import Manifest
from ..render.render import render_folders, render_formatted
from ..upgrade.upgrade import Outcome, upgrade
from .draws import FixedDraws

PROJECT = "my-project"
SECONDS = 600

_MAX_LABEL = 80
_MAX_OUTPUT = 8000


class TemplateTester(NamedTuple):
    """A template under test.

    Attributes:
        source: A folder, or the name of a bundled template.
        base: The folder that relative paths start from.
        snapshots: The folder of all snapshots.
        scratch: A folder for generated projects.
        update: Whether to write snapshots instead of comparing with them.
    """

    source: str
    base: Path
    snapshots: Path
    scratch: Path
    update: bool

    def at(self, source: str | Path) -> "TemplateTester":
        """Return a tester for another template: a folder, relative to the rootdir, or the name of a bundled template."""
        known = str(source) in bundled_names()
        return self._replace(source=str(source) if known else str(self.base / source))

    def render(self, answers: Mapping[str, object] = {}, /, **more: object) -> "GeneratedProject":
        """Generate a project with these answers, and the defaults for all other questions.

        Raises:
            UsageError: There is no such question, or its answer is not valid.
            TemplateError: The template cannot be read or rendered.
        """
        return self._generate(self._template(), {**answers, **more})

    def released(
        self, answers: Mapping[str, object] = {}, /, *, since: str | None = None, **more: object
    ) -> "GeneratedProject":
        """Generate a project as the last release did, to be edited and upgraded to today's template.

        Args:
            answers: Answers to the questions of that version.
            since: A git tag, branch or commit, or a folder with that version of the template. None: the newest tag.
            more: More answers.

        Raises:
            UsageError: As for `render`.
            TemplateError: There is no such version.
        """
        given = {**answers, **more}
        today = self._template()
        if since is not None and (self.base / since).is_dir():
            return self._generate(load_template(str(self.base / since)), given, today)
        version = since or last_release(Path(self.source))
        # Users got the files of the snapshot; today, paccel may render the same template differently.
        snapshot = files_at(self._folder(today) / label_of(given), version)
        return self._generate(template_at(Path(self.source), version), given, today, snapshot)

    def _template(self) -> Template:
        if not self.source:
            raise UsageError(
                "There is no `cookiecutter.json` above this test: set `paccel_template` in pytest's settings, or use"
                " `paccel_template.at(FOLDER)`"
            )
        return load_template(self.source)

    def _folder(self, template: Template) -> Path:
        return self.snapshots / template.name

    def _generate(
        self,
        template: Template,
        given: Mapping[str, object],
        today: Template | None = None,
        snapshot: Mapping[str, bytes] = {},
    ) -> "GeneratedProject":
        draws = FixedDraws()
        answers = resolve_answers(template, given, project_name=PROJECT, draws=draws)
        stored = hide(template.questions, answers)
        rendered = render_formatted(template, answers, draws=draws)
        tree = rendered.tree
        baseline = render_formatted(template, stored, draws=draws) if stored != answers else rendered
        if snapshot:
            tree = {path: File(content, path in tree and tree[path].executable) for path, content in snapshot.items()}
            baseline = baseline._replace(tree=tree, unformatted={})
        ref = template.ref._replace(source=(today or template).source)
        manifest = Manifest.of(ref, stored, baseline.tree, unformatted=baseline.unformatted, drawn=draws.to_json())
        folders = list(render_folders(template, answers))
        return GeneratedProject(
            tree=dict(tree),
            answers=answers,
            label=label_of(given),
            snapshots=self._folder(today or template),
            update=self.update,
            scratch=self.scratch,
            create=lambda root: create_project(root, manifest, tree, baseline.tree, folders),
        )


@dataclass(frozen=True)
class GeneratedProject:
    """A project that was generated in a test.

    Attributes:
        tree: Its files as generated.
        answers: The answers to all questions.
        label: The answers that were given, as a name.
        snapshots: The folder of the template's snapshots.
        update: Whether to write snapshots instead of comparing with them.
        scratch: A folder for generated projects.
        create: Writes it to a folder.
    """

    tree: Tree
    answers: Mapping[str, Answer]
    label: str
    snapshots: Path
    update: bool
    scratch: Path
    create: Callable[[Path], None]

    @cached_property
    def root(self) -> Path:
        """Its folder, which is written at the first access: a snapshot test needs none."""
        root, number = self.scratch / PROJECT, 1
        while root.exists():
            number += 1
            root = self.scratch / str(number) / PROJECT
        self.create(root)
        return root

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return (self.root / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        """Write a file; its folder is created if needed."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(text.encode())

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text in a file, as a user would. Fails unless it occurs exactly once."""
        text = self.read(path)
        if text.count(old) != 1:
            pytest.fail(f"`{path}` has this {text.count(old)} times, not once:\n{old}", pytrace=False)
        self.write(path, text.replace(old, new))

    def check_snapshot(self, label: str = "") -> None:
        """Fail if the generated files differ from the snapshot, a folder with the same files.

        `--update-snapshots` writes the snapshot.

        Args:
            label: The name of the snapshot. Default: the answers.
        """
        folder = self.snapshots / (label or self.label)
        if self.update:
            shutil.rmtree(folder, ignore_errors=True)
            write_tree(folder, self.tree)
        kept: Tree = read_tree(folder, ignore=())
        if os.name == "nt":  # where a checkout has other line ends, and no modes
            modes = modes_tell(self.tree, kept)
            kept = {
                path: as_generated(self.tree[path], file, modes) if path in self.tree else file
                for path, file in kept.items()
            }
        _fail_if_different(folder, "".join(file.text for file in compare(kept, self.tree)))

    def check_difference(self, other: "GeneratedProject", label: str = "") -> None:
        """Fail if the difference from another project is not that of the snapshot, a file `LABEL.diff`.

        It shows what an answer changes. `--update-snapshots` writes the snapshot.
        """
        path = self.snapshots / f"{label or self.label}.diff"
        now = "".join(file.text for file in compare(other.tree, self.tree)).encode()
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(now)
        kept = {path.name: File(path.read_bytes())} if path.is_file() else {}
        _fail_if_different(path, "".join(file.text for file in compare(kept, {path.name: File(now)})))

    def run(self, *command: str, seconds: float = SECONDS) -> str:
        """Run a command in the project and return its output; fail with the output if it fails. `python` is this Python."""
        words = [sys.executable if word == "python" and not number else word for number, word in enumerate(command)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        shown = " ".join(command)
        try:
            done = subprocess.run(
                words,
                cwd=self.root,
                env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"`{shown}` took more than {seconds:g} s in {self.root}", pytrace=False)
        except OSError as error:
            pytest.fail(f"`{shown}` cannot be run: {error.strerror}", pytrace=False)
        if done.returncode:
            pytest.fail(
                f"`{shown}` ended with exit code {done.returncode} in {self.root}\n{done.stdout[-_MAX_OUTPUT:]}",
                pytrace=False,
            )
        return done.stdout

    def run_tests(self, *arguments: str, seconds: float = SECONDS) -> str:
        """Run the project's tests with pytest; fail if one fails, or if there are none."""
        return self.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, seconds=seconds)

    def upgrade(self, conflicts: Iterable[str] = ()) -> Outcome:
        """Upgrade to today's template, and fail unless exactly the files `conflicts` have conflicts.

        Raises:
            PaccelError: The project cannot be upgraded.
        """
        outcome = upgrade(self.root)
        unexpected, missing = sorted({*outcome.conflicts} - {*conflicts}), sorted({*conflicts} - {*outcome.conflicts})
        if unexpected or missing:
            lines = [
                f"conflict in {change.path}: {change.reason}" for change in outcome.changes if change.path in unexpected
            ]
            lines += [f"no conflict in {path}" for path in missing]
            texts = [f"--- {path}\n{self.read(path)}" for path in unexpected if (self.root / path).is_file()]
            pytest.fail("\n".join([*lines, *texts]), pytrace=False)
        return outcome


def label_of(answers: Mapping[str, Any]) -> str:
    """Return a name for a snapshot: `default`, or the answers, such as `dataset-tissue,half_precision-true`."""
    words = [
        f"{name}-{'+'.join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value}"
        for name, value in answers.items()
    ]
    text = re.sub(r"[^\w.,+-]+", "_", ",".join(words)) or "default"
    if len(text) > _MAX_LABEL or text.endswith("."):
        return f"{text[: _MAX_LABEL - 9].rstrip('.')}-{sha256(text.encode()).hexdigest()[:8]}"
    return text


def _fail_if_different(snapshot: Path, difference: str) -> None:
    if difference:
        how = "differs from" if snapshot.exists() else "has no"
        pytest.fail(
            f"The generated project {how} snapshot {snapshot}: `-` is the snapshot, `+` is now; if the change is intended, run"
            f" `pytest --update-snapshots`\n{difference}",
            pytrace=False,
        )
