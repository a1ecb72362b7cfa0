"""`paccel.toml`: what a template declares beyond cookiecutter's own format. Every key is optional."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from .. import __version__
from ..errors import PreconditionError, TemplateError
from ..files.tree import check_path
from .api import ApiName, parse_new_name
from .toml_table import Table

METADATA_FILE = "paccel.toml"

MAX_RENAMES = 1000
MAX_RULE_BYTES = 64 * 1024


class Extra(NamedTuple):
    """A layer that is rendered if the answers have every value in `when`."""

    layer: str
    when: Mapping[str, str | bool]


class QuestionHelp(NamedTuple):
    """The settings of a question.

    Attributes:
        help: Text for prompts and `paccel show`.
        choices: Choice -> its text for prompts and `paccel show`.
        default: For `multiple`, the choices that are selected by default.
        multiple: Whether the answer is a list of choices.
        package: Whether the answer must be a package name; `project_name` is then the folder's name.
        secret: Whether the answer is hidden while it is typed, and never stored.
        when: The question is asked only if this holds: values of earlier answers, or a Jinja expression about them.
        validator: A regular expression that must match the whole answer, or a Jinja expression (with `{{`) that must be
            true; it sees the answer as `value`.
        message: The error message for an answer that the validator rejects.
    """

    help: str = ""
    choices: Mapping[str, str] = {}
    default: tuple[str, ...] = ()
    multiple: bool = False
    package: bool = False
    secret: bool = False
    when: str | Mapping[str, str | bool] = ""
    validator: str = ""
    message: str = ""


class Move(NamedTuple):
    """A file that the template has renamed."""

    old: str
    new: str


class RenamedAnswer(NamedTuple):
    """A question that was renamed; `values` maps old names of choices to new ones."""

    old: str
    new: str
    values: Mapping[str, str]


class RenamedApi(NamedTuple):
    """A name in the project's Python code, or in a library, that was renamed.

    Attributes:
        old: The old name.
        new: The new name.
        since: The template's version that renamed it; empty if the rename applies to projects of every version.
    """

    old: ApiName
    new: ApiName
    since: str = ""


class Rewrite(NamedTuple):
    """An ast-grep rule, in YAML, for code that needs more than a new name."""

    rule: str
    since: str = ""


class ChangedMeaning(NamedTuple):
    """A name that stays, but means something else since a version; `text` explains the change."""

    name: ApiName
    text: str
    since: str = ""


class Change(NamedTuple):
    """A line of the template's changelog; without `files`, it is about every file."""

    version: str
    text: str
    files: tuple[str, ...] = ()


class Metadata(NamedTuple):
    """The content of one `paccel.toml`.

    Attributes:
        title: The template's title in `paccel list`.
        description: One or two sentences about it.
        reaches: The result of a run with the default answers, and the hardware that it was measured on.
        layers: Folders beside the template that are rendered before it.
        replaces: Files of earlier layers that this layer replaces.
        extras: Layers that depend on the answers.
        fixed: Answers to questions of its layers, which are then not asked.
        questions: Question -> its settings.
        once: Patterns of files that are generated once and then belong to the user.
        moved: Renamed files.
        renamed_answers: Renamed questions.
        dropped_answers: Removed questions.
        renamed_api: Renamed names in Python code.
        rewrites: Rules that rewrite Python code.
        changed_meaning: Names with a new meaning.
        changes: The changelog.
    """

    title: str = ""
    description: str = ""
    reaches: str = ""
    layers: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()
    fixed: Mapping[str, str | bool] = {}
    questions: Mapping[str, QuestionHelp] = {}
    once: tuple[str, ...] = ()
    moved: tuple[Move, ...] = ()
    renamed_answers: tuple[RenamedAnswer, ...] = ()
    dropped_answers: tuple[str, ...] = ()
    renamed_api: tuple[RenamedApi, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    changed_meaning: tuple[ChangedMeaning, ...] = ()
    changes: tuple[Change, ...] = ()


class TemplateRef(NamedTuple):
    """The template that made a project.

    Attributes:
        source: The value of `--template`, without secrets: a bundled name, a URL, or a path, absolute or relative to the
            project.
        name: The template's own name.
        digest: SHA-256 over the content of all its layers, in hexadecimal.
        release: The newest version in its changelog; empty if there is none.
        commit: The git commit that was rendered; empty for other sources.
    """

    source: str
    name: str
    digest: str
    release: str = ""
    commit: str = ""


def parse_metadata(text: str, where: str) -> Metadata:
    """Read the text of a `paccel.toml`; `where` names the file in errors.

    Raises:
        TemplateError: The text is not TOML, or has unknown keys or wrong types; one message lists all problems.
        PreconditionError: The template needs a newer paccel.
    """
    if not text:
        return Metadata()
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TemplateError(f"`{where}` is not valid TOML: {error}") from error
    problems: list[str] = []
    top = Table(data, "", problems)
    _check_version(top.text("requires_paccel"), where)  # first, as unknown keys may be those of a newer paccel
    metadata = Metadata(
        title=top.text("title"),
        description=top.text("description"),
        reaches=top.text("reaches"),
        layers=top.texts("layers"),
        replaces=top.texts("replaces"),
        extras=tuple(Extra(t.text("layer", need=True), t.answers("when")) for t in top.tables("extras")),
        fixed=top.answers("fixed", need=False),
        questions={
            name: QuestionHelp(
                help=t.text("help"),
                choices=t.mapping("choices"),
                default=t.texts("default"),
                multiple=t.flag("multiple"),
                package=t.flag("package"),
                secret=t.flag("secret"),
                when=t.condition("when"),
                validator=t.text("validator"),
                message=t.text("message"),
            )
            for name, t in top.named_tables("questions").items()
        },
        once=top.table("files").texts("once"),
        moved=tuple(Move(t.text("from", need=True), t.text("to", need=True)) for t in top.tables("moved")),
        renamed_answers=tuple(
            RenamedAnswer(t.text("from", need=True), t.text("to", need=True), t.mapping("values"))
            for t in top.tables("renamed_answers")
        ),
        dropped_answers=tuple(t.text("name", need=True) for t in top.tables("dropped_answers")),
        renamed_api=_renamed_api(top),
        rewrites=tuple(Rewrite(t.text("rule", need=True), t.text("since")) for t in top.tables("rewrites")),
        changed_meaning=_changed_meaning(top),
        changes=tuple(
            Change(t.text("version", need=True), t.text("text", need=True), t.texts("files"))
            for t in top.tables("changes")
        ),
    )
    top.finish()
    for name in [*metadata.layers, *(extra.layer for extra in metadata.extras)]:
        if len(PurePosixPath(name).parts) != 1 or name in {".", ".."} or "\\" in name:
            problems.append(f"the layer `{name}` is not the name of a folder beside the template")
    for path in [*metadata.replaces, *(path for move in metadata.moved for path in (move.old, move.new))]:
        try:
            check_path(path)
        except TemplateError as error:
            problems.append(str(error))
    if len(metadata.renamed_api) + len(metadata.rewrites) + len(metadata.changed_meaning) > MAX_RENAMES:
        problems.append(f"there are more than {MAX_RENAMES} `renamed_api`, `rewrites` and `changed_meaning`")
    if any(len(rewrite.rule.encode()) > MAX_RULE_BYTES for rewrite in metadata.rewrites):
        problems.append(f"a rule of `rewrites` is longer than {MAX_RULE_BYTES // 1024} KiB")
    if problems:
        raise TemplateError("\n  ".join([f"`{where}` cannot be used:", *problems]))
    return metadata


def _renamed_api(top: Table) -> tuple[RenamedApi, ...]:
    found: list[RenamedApi] = []
    for table in top.tables("renamed_api"):
        old, new, since = table.text("from", need=True), table.text("to", need=True), table.text("since")
        if old and new:
            with table.reporting_errors():
                name = ApiName.parse(old)
                found.append(RenamedApi(name, parse_new_name(new, name), since))
    return tuple(found)


def _changed_meaning(top: Table) -> tuple[ChangedMeaning, ...]:
    found: list[ChangedMeaning] = []
    for table in top.tables("changed_meaning"):
        name, text, since = table.text("name", need=True), table.text("text", need=True), table.text("since")
        if name:
            with table.reporting_errors():
                found.append(ChangedMeaning(ApiName.parse(name), text, since))
    return tuple(found)


def _check_version(least: str, where: str) -> None:
    """Refuse a template that needs a newer paccel than this one."""
    if not least:
        return
    found = re.fullmatch(r"(?:>=)?\s*([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})", least.strip())
    if found is None:
        raise TemplateError(f"`requires_paccel` of `{where}` must be a minimum version, like `>=0.2`, not `{least}`")
    from packaging.version import Version  # few templates need it

    if Version(found[1]) > Version(Version(__version__).base_version):
        raise PreconditionError(
            f"`{where}` needs paccel {found[1]} or newer, and this is paccel {__version__}: run `pip install -U paccel`"
        )
