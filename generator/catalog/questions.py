"""The questions of a template, and the answers to them.

A question is an entry of `cookiecutter.json`: true or false is a yes-or-no question, a list is a choice with its default
first, anything else is text. Entries that begin with `_` are not questions. `paccel.toml` may say more about a question.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from unicodedata import category, normalize

from ..errors import TemplateError, UsageError, did_you_mean
from ..sandbox.context import Context
from ..sandbox.draws import Draws
from ..sandbox.patterns import search
from .metadata import QuestionHelp
from .secrets import is_hidden

Answer = str | bool | list[str]
Kind = Literal["text", "bool", "choice", "choices"]

PROJECT_NAME = "project_name"
"""The question that `new` answers with the folder's name, without asking."""

_YES = {"true", "t", "yes", "y", "on", "1"}
_NO = {"false", "f", "no", "n", "off", "0"}
_PROJECT_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"


class Question(NamedTuple):
    """One question of a template; `default` and `choices` may be Jinja text about earlier answers.

    Attributes:
        name: Its entry in `cookiecutter.json`.
        kind: What answers it; "choices" are several at once.
        default: The answer if there is no other.
        choices: The possible answers, or parts of an answer.
        help: What prompts say about it.
        choice_help: Choice -> what they say about that.
        settings: What else `paccel.toml` says about it.
        check: Raises UsageError for an answer that the question's validator refuses.
    """

    name: str
    kind: Kind
    default: Answer
    choices: tuple[str, ...] = ()
    help: str = ""
    choice_help: Mapping[str, str] = {}
    settings: QuestionHelp = QuestionHelp()
    check: Callable[[Answer], None] = lambda answer: None

    @property
    def secret(self) -> bool:
        """Whether its answer is neither shown nor stored."""
        return self.settings.secret

    @property
    def is_folder(self) -> bool:
        """Whether the folder's name answers it, without asking."""
        return self.name == PROJECT_NAME and self.settings.package

    @property
    def variable(self) -> str:
        """The environment variable that may hold a secret answer."""
        return f"PACCEL_SECRET_{self.name.upper()}"

    def described(self, settings: QuestionHelp, where: str) -> "Question":
        """Return the question with what the `paccel.toml` at `where` says about it.

        Raises:
            TemplateError: That does not go with the question.
        """
        for choice in [*settings.choices, *settings.default]:
            if choice not in self.choices:
                raise TemplateError(
                    f"`{where}` documents `{choice}`, which is not a choice of `{self.name}`"
                    f"{did_you_mean(choice, self.choices)}"
                )
        for key, on, kinds in (
            ("multiple", settings.multiple, ("choice", "choices")),
            ("secret", settings.secret, ("text",)),
            ("package", settings.package, ("text",)),
        ):
            if on and self.kind not in kinds:
                kind = {"text": "text", "bool": "true or false"}.get(self.kind, "a choice")
                raise TemplateError(f"`{where}` has `{key}` for `{self.name}`, whose answer is {kind}")
        if settings.default and not settings.multiple:
            raise TemplateError(f"`{where}` has `default` for `{self.name}`, which is not `multiple`")
        merged = settings._replace(
            **{key: old for key, old in self.settings._asdict().items() if not getattr(settings, key)}
        )
        return self._replace(
            kind="choices" if merged.multiple else self.kind,
            default=[*merged.default] if merged.multiple else self.default,
            help=settings.help or self.help,
            choice_help={**self.choice_help, **settings.choices},
            settings=merged,
        )

    def parse(self, value: object) -> Answer:
        """Turn a typed or stored value into an answer.

        Raises:
            UsageError: It is not an answer to this question.
        """
        answer = self._read(value)
        self.check(answer)
        return answer

    def _read(self, value: object) -> Answer:
        if self.kind == "bool":
            word = str(value).strip().lower()
            if isinstance(value, (str, bool)) and word in _YES | _NO:
                return word in _YES
            raise UsageError(f"`{self.name}={value}` is neither `true` nor `false`")
        if self.kind == "choices":
            return self._several(value)
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            if isinstance(value, bool) and str(value) in self.choices:
                return str(value)  # choices that are not text in `cookiecutter.json`
            kind = {bool: "true or false", list: "a list", dict: "a table"}.get(type(value), type(value).__name__)
            raise UsageError(f"`{self.name}` takes text, not {kind}")
        if self.kind == "choice":
            return self._choice(str(value))
        text = str(value).replace("\r\n", "\n")
        if self.settings.package:
            return check_project_name(text)
        if any(category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
            shown = "what it has" if self.secret else f"{text!a}"
            raise UsageError(f"`{self.name}` takes text without control characters, not {shown}")
        return text

    def _choice(self, text: str) -> str:
        spellings = [choice for choice in self.choices if choice.lower() == text.lower()]
        if text in self.choices:
            return text
        if len(spellings) == 1:
            return spellings[0]
        offered = ", ".join(f"`{choice}`" for choice in self.choices)
        raise UsageError(f"`{self.name}={text}` is not valid; choose from {offered}{did_you_mean(text, self.choices)}")

    def _several(self, value: object) -> list[str]:
        """Read several choices: a list, or text with commas; they come back in the order of the choices."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise UsageError(f"`{self.name}` takes a list of choices, like `{','.join(self.choices[:2])}`")
        chosen = {self._choice(part) for part in value}
        return [choice for choice in self.choices if choice in chosen]


class HasQuestions(Protocol):
    """What `resolve_answers` needs of a template."""

    @property
    def name(self) -> str: ...
    @property
    def questions(self) -> tuple[Question, ...]: ...
    @property
    def entries(self) -> Mapping[str, Any]: ...


Ask = Callable[[Question], Answer]
"""Asks the user one question, whose default and choices are rendered."""


def is_answer(value: object) -> bool:
    """Return whether a value is an answer to some question."""
    return isinstance(value, (str, bool)) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def check_project_name(name: str) -> str:
    """Return `name` if it is one that Python's packaging accepts (PEP 508).

    Raises:
        UsageError: It is not.
    """
    if re.fullmatch(_PROJECT_NAME, name):
        return name
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode()  # letters without their accents
    better = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")
    hint = f"; did you mean `{better}`?" if better else ""
    raise UsageError(
        f"`{name}` is not a valid project name: use letters, digits, `-`, `_` and `.`, with a letter or digit first and last{hint}"
    )


def read_answers(path: Path) -> dict[str, object]:
    """Read an answers file, TOML or JSON by its name: question -> value.

    It may also be a file in which cookiecutter keeps the answers for a replay, or cruft's `.cruft.json`.

    Raises:
        UsageError: It cannot be read, or is not a table.
    """
    if path.suffix not in {".toml", ".json"}:
        raise UsageError(f"`{path}` must be named `*.toml` or `*.json`")
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"`{path}` is not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f'`{path}` must contain a table of answers, like `{{"ema": true}}`')
    context = data.get("context", data)  # where cruft has what is a whole replay file of cookiecutter
    kept = context.get("cookiecutter") if isinstance(context, dict) else None
    if isinstance(kept, dict):  # the constants of the template stand there too
        return {name: value for name, value in kept.items() if name[:1] != "_" and not isinstance(value, dict)}
    return data


def parse_questions(entries: Mapping[str, Any], where: str) -> tuple[Question, ...]:
    """Read the questions of one `cookiecutter.json`; `where` names it in errors.

    Tables (cookiecutter's dictionary variables) are constants, not questions.

    Raises:
        TemplateError: A question has no choices, or a text is not Unicode.
    """
    try:
        json.dumps(entries, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise TemplateError(
            f"`{where}` has half a character (a lone surrogate, like `\\ud800`), or is nested too deeply"
        ) from error
    prompts = entries.get("__prompts__", {})
    questions = []
    for name, value in entries.items():
        if name.startswith("_") or isinstance(value, dict):
            continue
        prompt = prompts.get(name, "") if isinstance(prompts, dict) else ""
        choice_help = {key: str(text) for key, text in prompt.items()} if isinstance(prompt, dict) else {}
        text = choice_help.pop("__prompt__", "") if isinstance(prompt, dict) else str(prompt)
        if isinstance(value, bool):
            questions.append(Question(name, "bool", value, (), text))
        elif isinstance(value, list):
            choices = tuple(dict.fromkeys(str(choice) for choice in value))
            if not choices:
                raise TemplateError(f"The choices of `{name}` in `{where}` are empty")
            questions.append(Question(name, "choice", choices[0], choices, text, choice_help))
        else:
            questions.append(Question(name, "text", "" if value is None else str(value), (), text))
    return tuple(questions)


def resolve_answers(
    template: HasQuestions,
    given: Mapping[str, object],
    *,
    project_name: str | None = None,
    ask: Ask | None = None,
    draws: Draws | None = None,
    checked: bool = True,
) -> dict[str, Answer]:
    """Answer every question of `template`: from `given`, else by `ask`, else with the default.

    A question that its `when` switches off has the default, even if it is in `given`: see `without_effect`.

    Args:
        template: Whose questions they are.
        given: Question -> value, as typed (`"true"`) or typed already (`True`).
        project_name: The folder's name. It answers the question of that name without asking if that takes the name of a
            package; else it is the default.
        ask: Called for each question that is not in `given`, in order. None: use the defaults.
        draws: What the template draws at random, or reads from the clock.
        checked: Whether a default must pass the question's validator.

    Raises:
        UsageError: Unknown questions and impossible answers, all in one message.
        TemplateError: A default cannot be rendered.
    """
    draws = draws or Draws()
    if ask is not None:  # check what was given before asking the first question
        resolve_answers(template, given, project_name=project_name, draws=draws, checked=False)
    questions = {question.name: question for question in template.questions}
    values = dict(given)
    problems = [
        f"`{name}` is not a question of `{template.name}`{did_you_mean(name, questions)}"
        for name in values
        if name not in questions
    ]
    answers: dict[str, Answer] = {}
    context = Context(template.entries, template.name, draws)
    draws.places |= {*template.entries}
    for name in context.order():
        if name not in questions:
            _add_fixed(context, name)
            continue
        # A question that is passed over has its default, whatever it was answered when it was last asked.
        asked = questions[name].is_folder or _is_asked(questions[name], context)
        question = _rendered(questions[name], context, named=name not in values or not asked)
        if name == PROJECT_NAME and project_name is not None:
            if question.is_folder:
                values.setdefault(name, project_name)
            elif question.kind == "text":
                question = question._replace(default=project_name)
        question = question._replace(check=partial(_check, question, context))
        try:
            if not asked:
                answer = question.default
            elif name in values:
                answer = question.parse(values[name])
            else:
                if question.secret:
                    question = question._replace(default=os.environ.get(question.variable, question.default))
                if ask is not None:
                    answer = ask(question)
                else:
                    answer = (question if checked else questions[name]).parse(question.default)
        except UsageError as error:
            problems.append(str(error))
            answer = question.default
        answers[name] = answer
        context.add_answer(name, answer)
    if problems:
        raise UsageError(
            problems[0] if len(problems) == 1 else "\n  ".join(["These answers cannot be used:", *problems])
        )
    return answers


def _add_fixed(context: Context, name: str) -> None:
    """Add an entry that is no question."""
    if name.startswith("_"):
        # One that names a question of a layer, asked later, is there for the files, not for the defaults.
        with suppress(TemplateError):
            context.add_private(name)
    elif not isinstance(context.entries[name], dict):  # a template fixes this answer
        context.values[name] = context.entries[name]


def without_effect(template: HasQuestions, given: Iterable[str], answers: Mapping[str, Answer]) -> list[str]:
    """Say of each question in `given` that is not asked after these answers that what it was given has no effect."""
    context = Context(template.entries, template.name, Draws())
    for name in context.order():
        if name in answers:
            context.add_answer(name, answers[name])
        else:
            _add_fixed(context, name)
    return [
        f"`{question.name}` has its default: with these answers, the template does not ask for it"
        for question in template.questions
        if question.name in {*given} and not question.is_folder and not _is_asked(question, context)
    ]


def holds(when: Mapping[str, str | bool], answers: Mapping[str, Answer]) -> bool:
    """Return whether every answer is as in `when`, or, of several choices, has what is there."""
    return all(
        value in answer if isinstance(answer := answers.get(name), list) else answer == value
        for name, value in when.items()
    )


def _rendered(question: Question, context: Context, named: bool) -> Question:
    """Render the default, if it is used, and the choices, which may be Jinja text about the answers so far."""
    if question.choices:
        choices = tuple(dict.fromkeys(str(option) for option in context.options(question.name)))
        default = choices[0] if question.kind == "choice" else question.default
        return question._replace(choices=choices, default=default)
    if not named or not isinstance(question.default, str):
        return question
    where = f"The default of `{question.name}` in `{context.name}`"
    return question._replace(default=context.text(question.default, where, question.name, False))


def _is_asked(question: Question, context: Context) -> bool:
    """Return whether the question makes sense after the answers so far."""
    when = question.settings.when
    if not isinstance(when, str):
        return holds(when, context.values)
    return not when or _is_true(when, f"`when` of `{question.name}`", context, {})


def _check(question: Question, context: Context, answer: Answer) -> None:
    """Raise UsageError if the question's validator refuses an answer."""
    validator = question.settings.validator
    if not validator or is_hidden(answer):
        return
    parts = answer if isinstance(answer, list) else [str(answer).lower() if isinstance(answer, bool) else answer]
    if any(mark in validator for mark in context.marks):
        valid = _is_true(validator, f"`validator` of `{question.name}`", context, {"value": answer})
    else:
        valid = None not in search(validator, parts, f"`validator` of `{question.name}`", whole=True)
    if not valid:
        given = "" if question.secret else f"={','.join(parts)}"
        reason = question.settings.message or f"it must match `{validator}`"
        raise UsageError(f"`{question.name}{given}` is not valid: {reason}")


def _is_true(condition: str, where: str, context: Context, names: dict[str, Any]) -> bool:
    """Evaluate a Jinja expression, or a text with one in it, which is true unless it is a no or nothing."""
    with context.rendering(f"{where} in `{context.name}`", where, False):
        if any(mark in condition for mark in context.marks):
            value: Any = context.environment.from_string(condition).render(context.names | names)
        else:
            value = context.environment.compile_expression(condition)(context.names | names)
    return value.strip().lower() not in _NO | {"", "none"} if isinstance(value, str) else bool(value)
