"""The questions of a template, and the answers to them.

A question is an entry of `cookiecutter.json`: true or false is a yes-or-no question, a list is a choice with its default
first, anything else is text. Entries that begin with `_` are not questions.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from unicodedata import normalize

from ..errors import TemplateError, UsageError

Answer = str | bool
Kind = Literal["text", "bool", "choice"]

PROJECT_NAME = "project_name"
"""The question that `new` answers with the folder's name, without asking."""

_YES = {"true", "yes", "y", "on", "1"}
_NO = {"false", "no", "n", "off", "0"}
_PROJECT_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"


class Question(NamedTuple):
    """One question of a template; `default` and `choices` may be Jinja text about earlier answers."""

    name: str
    kind: Kind
    default: Answer
    choices: tuple[str, ...] = ()
    help: str = ""
    choice_help: Mapping[str, str] = {}

    def parse(self, value: object) -> Answer:
        """Turn a typed or stored value into an answer.

        Raises:
            UsageError: It is not an answer to this question.
        """
        if self.kind == "bool":
            word = str(value).strip().lower()
            if isinstance(value, (str, bool)) and word in _YES | _NO:
                return word in _YES
            raise UsageError(f"`{self.name}={value}` is neither `true` nor `false`")
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            kind = {bool: "true or false", list: "a list", dict: "a table"}.get(type(value), type(value).__name__)
            raise UsageError(f"`{self.name}` takes text, not {kind}")
        text = str(value)
        if self.kind == "choice":
            if text not in self.choices:
                offered = ", ".join(f"`{choice}`" for choice in self.choices)
                hint = did_you_mean(text, self.choices)
                raise UsageError(f"`{self.name}={text}` is not valid; choose from {offered}{hint}")
        elif self.name == PROJECT_NAME:
            check_project_name(text)
        elif not text.isprintable():
            raise UsageError(f"`{self.name}` takes one line of printable text, not {text!a}")
        return text


class HasQuestions(Protocol):
    """What `resolve_answers` needs of a template."""

    @property
    def name(self) -> str: ...
    @property
    def questions(self) -> tuple[Question, ...]: ...
    @property
    def constants(self) -> Mapping[str, Any]: ...


Ask = Callable[[Question], Answer]
"""Asks the user one question, whose default and choices are rendered."""


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

    Raises:
        UsageError: It cannot be read, or is not a table.
    """
    if path.suffix not in {".toml", ".json"}:
        raise UsageError(f"`{path}` must be named `*.toml` or `*.json`")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"`{path}` is not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f'`{path}` must contain a table of answers, like `{{"ema": true}}`')
    return data


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest of `known`, or nothing."""
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean `{lowered[near[0]]}`?" if near else ""


def parse_questions(entries: Mapping[str, Any], where: str) -> tuple[Question, ...]:
    """Read the questions of one `cookiecutter.json`; `where` names it in errors.

    Tables (cookiecutter's dictionary variables) are constants, not questions.

    Raises:
        TemplateError: A question has no choices or duplicate ones, or an entry is of another type.
    """
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
            choices = tuple(str(choice) for choice in value)
            if not choices or len(set(choices)) < len(choices):
                raise TemplateError(f"The choices of `{name}` in `{where}` are empty or have duplicates")
            questions.append(Question(name, "choice", choices[0], choices, text, choice_help))
        elif isinstance(value, (str, int, float)):
            questions.append(Question(name, "text", str(value), (), text))
        else:
            raise TemplateError(f"`{name}` in `{where}` is neither text, nor true or false, nor a list of choices")
    return tuple(questions)


def resolve_answers(
    template: HasQuestions, given: Mapping[str, object], *, project_name: str | None = None, ask: Ask | None = None
) -> dict[str, Answer]:
    """Answer every question of `template`: from `given`, else by `ask`, else with the default.

    Args:
        template: Whose questions they are.
        given: Question -> value, as typed (`"true"`) or typed already (`True`).
        project_name: The answer to the question of that name, if the template asks it and `given` has no answer.
        ask: Called for each question that is not in `given`, in order. None: use the defaults.

    Raises:
        UsageError: Unknown questions and impossible answers, all in one message.
        TemplateError: A default cannot be rendered.
    """
    if ask is not None:  # check what was given before asking the first question
        resolve_answers(template, given, project_name=project_name)
    names = [question.name for question in template.questions]
    values = dict(given)
    if project_name is not None and PROJECT_NAME in names:
        values.setdefault(PROJECT_NAME, project_name)
    problems = [
        f"`{name}` is not a question of `{template.name}`{did_you_mean(name, names)}"
        for name in values
        if name not in names
    ]
    answers: dict[str, Answer] = {}
    for question in template.questions:
        try:
            ready = _render_question(template, question, answers)
            if ready.name in values:
                answers[ready.name] = ready.parse(values[ready.name])
            elif ask is None:
                answers[ready.name] = ready.parse(ready.default)
            else:
                answers[ready.name] = ask(ready)
        except UsageError as error:
            problems.append(str(error))
            answers[question.name] = question.default
    if problems:
        raise UsageError(
            problems[0] if len(problems) == 1 else "\n  ".join(["These answers cannot be used:", *problems])
        )
    return answers


def _render_question(template: HasQuestions, question: Question, answers: Mapping[str, Answer]) -> Question:
    """Render the default and the choices where they are Jinja text about the answers so far."""
    texts = [question.default, *question.choices]
    if not any(isinstance(text, str) and "{" in text for text in texts):
        return question
    from .jinja import make_environment, render_text  # loads Jinja, which few questions need

    environment = make_environment(template.constants, template.name)
    where = f"The default of `{question.name}` in `{template.name}`"
    default, *choices = (
        render_text(environment, text, answers, where) if isinstance(text, str) else text for text in texts
    )
    return question._replace(default=default, choices=tuple(str(choice) for choice in choices))
