"""`paccel.toml`: what a template says about itself beyond cookiecutter's own format. Every key is optional."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from .. import __version__
from ..errors import PreconditionError, TemplateError, did_you_mean
from ..files.tree import check_path
from .api import ApiName, parse_new_name

METADATA_FILE = "paccel.toml"

MAX_RENAMES = 1000
MAX_RULE_BYTES = 64 * 1024


class Extra(NamedTuple):
    """A layer that is rendered when every answer in `when` is as given there."""

    layer: str
    when: Mapping[str, str | bool]


class QuestionHelp(NamedTuple):
    """What `paccel.toml` says about a question.

    Attributes:
        help: What prompts and `paccel show` say about it.
        choices: Choice -> what they say about that.
        default: The choices that are on without an answer, for `multiple`.
        multiple: Several of the choices can be answered.
        package: The answer is a name that Python's packaging accepts; `project_name` is then the folder's name.
        secret: The answer is not shown while it is typed, and not stored.
        when: The question is asked only if this holds: earlier answers, or a Jinja expression about them.
        validator: A regular expression that the whole answer must match, or a Jinja expression (with `{{`) that must be
            true, in which `value` is the answer.
        message: What to say of an answer that fails it.
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
    """A question that has another name now, with those of its choices that have other names too."""

    old: str
    new: str
    values: Mapping[str, str]


class RenamedApi(NamedTuple):
    """Something in the project's Python code, or in a library, that has another name now.

    Attributes:
        old: What it was.
        new: What it is now.
        since: The template's version that renamed it; empty for any.
    """

    old: ApiName
    new: ApiName
    since: str = ""


class Rewrite(NamedTuple):
    """A rule of ast-grep, in YAML, for uses that a new name alone does not mend."""

    rule: str
    since: str = ""


class ChangedMeaning(NamedTuple):
    """Something that is called as before, but means something else since a version; `text` says what."""

    name: ApiName
    text: str
    since: str = ""


class Change(NamedTuple):
    """A line of the template's changelog; no `files` means all."""

    version: str
    text: str
    files: tuple[str, ...] = ()


class Metadata(NamedTuple):
    """The content of one `paccel.toml`.

    `reaches` is the expected result of a run with the default answers, and where it was measured. `fixed` are answers
    that a template gives to its layers' questions itself, so that they are not asked. `once` are patterns of files that
    are generated once and then belong to the user.
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
        source: What `--template` was given, without secrets: a bundled name, a URL, or a path, absolute or relative to the
            project.
        name: The template's own name.
        digest: SHA-256 over the content of all its layers, in hexadecimal.
        release: The newest version in its changelog; empty without one.
        commit: The git commit that it was rendered from; empty where it is not from git.
    """

    source: str
    name: str
    digest: str
    release: str = ""
    commit: str = ""


def parse_metadata(text: str, where: str) -> Metadata:
    """Read the text of a `paccel.toml`; `where` names it in errors.

    Raises:
        TemplateError: It is not TOML, a value is of the wrong type, or keys are unknown (all problems at once).
        PreconditionError: It needs a newer paccel.
    """
    if not text:
        return Metadata()
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TemplateError(f"`{where}` is not valid TOML: {error}") from error
    problems: list[str] = []
    top = _Table(data, "", problems)
    _check_version(top.text("requires_paccel"), where)  # first: what else is unknown may be newer than this paccel
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
        renamed_api=_renamed_api(top, problems),
        rewrites=tuple(Rewrite(t.text("rule", need=True), t.text("since")) for t in top.tables("rewrites")),
        changed_meaning=_changed_meaning(top, problems),
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


def _renamed_api(top: "_Table", problems: list[str]) -> tuple[RenamedApi, ...]:
    found: list[RenamedApi] = []
    for table in top.tables("renamed_api"):
        old, new, since = table.text("from", need=True), table.text("to", need=True), table.text("since")
        if old and new:
            try:
                name = ApiName.parse(old)
                found.append(RenamedApi(name, parse_new_name(new, name), since))
            except TemplateError as error:
                problems.append(f"`{table.name[:-1]}`: {error}")
    return tuple(found)


def _changed_meaning(top: "_Table", problems: list[str]) -> tuple[ChangedMeaning, ...]:
    found: list[ChangedMeaning] = []
    for table in top.tables("changed_meaning"):
        name, text, since = table.text("name", need=True), table.text("text", need=True), table.text("since")
        if name:
            try:
                found.append(ChangedMeaning(ApiName.parse(name), text, since))
            except TemplateError as error:
                problems.append(f"`{table.name[:-1]}`: {error}")
    return tuple(found)


def _check_version(least: str, where: str) -> None:
    """Refuse a template that needs a newer paccel than this one."""
    if not least:
        return
    found = re.fullmatch(r"(?:>=)?\s*([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})", least.strip())
    if found is None:
        raise TemplateError(f"`requires_paccel` of `{where}` must be a least version, like `>=0.2`, not `{least}`")
    if _numbers(found[1]) > _numbers(__version__):
        raise PreconditionError(
            f"`{where}` needs paccel {found[1]} or newer, and this is paccel {__version__}: run `pip install -U paccel`"
        )


def _numbers(version: str) -> list[int]:
    numbers = [int(number) for number in re.match(r"[0-9.]*[0-9]", version)[0].split(".")]  # type: ignore[index]
    return numbers + [0] * (4 - len(numbers))


class _Table:
    """A TOML table that is read key by key; wrong, missing and unknown keys are added to `problems`."""

    def __init__(self, data: Mapping[str, Any], name: str, problems: list[str]) -> None:
        self.rest = dict(data)
        self.name = name
        self.problems = problems
        self.children: list[_Table] = []
        self.known: set[str] = set()

    def _take(self, key: str, kind: type | tuple[type, ...], empty: Any, need: bool = False) -> Any:
        self.known.add(key)
        if key not in self.rest and need:
            self.problems.append(f"`{self.name}{key}` is missing")
        value = self.rest.pop(key, empty)
        if isinstance(value, kind):
            return value
        expected = {str: "text", list: "a list", dict: "a table", bool: "true or false"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        self._wrong(key, " or ".join(expected[one] for one in kinds))
        return empty

    def _wrong(self, key: str, expected: str) -> None:
        self.problems.append(f"`{self.name}{key}` must be {expected}")

    def _child(self, data: Mapping[str, Any], name: str) -> "_Table":
        child = _Table(data, f"{self.name}{name}.", self.problems)
        self.children.append(child)
        return child

    def text(self, key: str, need: bool = False) -> str:
        return str(self._take(key, str, "", need))

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._take(key, list, [])
        if not all(isinstance(value, str) for value in values):
            self._wrong(key, "a list of texts")
        return tuple(str(value) for value in values)

    def flag(self, key: str) -> bool:
        return bool(self._take(key, bool, False))

    def condition(self, key: str) -> str | dict[str, str | bool]:
        if isinstance(self.rest.get(key), dict):
            return self.answers(key)
        return str(self._take(key, (str, dict), ""))

    def table(self, key: str) -> "_Table":
        return self._child(self._take(key, dict, {}), key)

    def mapping(self, key: str) -> dict[str, str]:
        values = self._take(key, dict, {})
        if not all(isinstance(value, str) for value in values.values()):
            self._wrong(key, "a table of texts")
        return {name: str(value) for name, value in values.items()}

    def answers(self, key: str, need: bool = True) -> dict[str, str | bool]:
        values = self._take(key, dict, {}, need=need)
        if not all(isinstance(value, (str, bool)) for value in values.values()):
            self._wrong(key, "a table of answers (text, true or false)")
        return dict(values)

    def tables(self, key: str) -> list["_Table"]:
        values = self._take(key, list, [])
        if not all(isinstance(value, dict) for value in values):
            self._wrong(key, "a list of tables")
            return []
        return [self._child(value, f"{key}[{index}]") for index, value in enumerate(values)]

    def named_tables(self, key: str) -> dict[str, "_Table"]:
        values = self._take(key, dict, {})
        if not all(isinstance(value, dict) for value in values.values()):
            self._wrong(key, "a table of tables")
            return {}
        return {name: self._child(value, f"{key}.{name}") for name, value in values.items()}

    def finish(self) -> None:
        self.problems.extend(
            f"`{self.name}{key}` is not a known key{did_you_mean(key, self.known)}" for key in self.rest
        )
        for child in self.children:
            child.finish()
