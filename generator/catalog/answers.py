"""Answer the questions of a template: from a file or the command line, at a prompt, or with the defaults."""

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import TemplateError, UsageError, did_you_mean
from ..sandbox.context import Context
from ..sandbox.draws import Draws
from ..sandbox.patterns import search
from .questions import NO, PROJECT_NAME, Answer, Question, holds
from .secrets import is_hidden
from .template import Template

Ask = Callable[[Question], Answer]
"""A function that asks the user one question; the default and choices are already rendered."""


def read_answers(path: Path) -> dict[str, object]:
    """Read a `.toml` or `.json` file of answers: question -> value.

    cookiecutter's replay files and cruft's `.cruft.json` work too.

    Raises:
        UsageError: The file cannot be read, or is not a table.
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
    replay = data.get("context", data)  # cruft keeps cookiecutter's replay file under `context`
    kept = replay.get("cookiecutter") if isinstance(replay, dict) else None
    if isinstance(kept, dict):  # with the template's constants among the answers
        return {name: value for name, value in kept.items() if name[:1] != "_" and not isinstance(value, dict)}
    return data


def resolve_answers(
    template: Template,
    given: Mapping[str, object],
    *,
    project_name: str | None = None,
    ask: Ask | None = None,
    draws: Draws | None = None,
    checked: bool = True,
) -> dict[str, Answer]:
    """Answer every question of `template`: from `given`, else by `ask`, else with the default.

    A question that its `when` turns off gets its default, even if it is in `given`; `without_effect` reports it.

    Args:
        template: The template.
        given: Question -> value, as typed (`"true"`) or parsed (`True`).
        project_name: The folder's name. Where `project_name` must be a package name, this answers it without asking;
            elsewhere, this is its default.
        ask: Called for each question that is not in `given`, in order. None: use the defaults.
        draws: The template's random values and its clock.
        checked: Whether a default must pass the question's validator.

    Raises:
        UsageError: Questions are unknown or answers are invalid; one message lists all of them.
        TemplateError: A default cannot be rendered.
    """
    draws = draws or Draws()
    if ask is not None:  # check the given answers before asking the first question
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
            _add_constant(context, name)
            continue
        # A question that is not asked gets its default, whatever answer an earlier render had.
        asked = questions[name].is_folder or _is_asked(questions[name], context)
        question = _rendered(questions[name], context, uses_default=name not in values or not asked)
        if name == PROJECT_NAME and project_name is not None:
            if question.is_folder:
                values.setdefault(name, project_name)
            elif question.kind == "text":
                question = question._replace(default=project_name)
        if question.secret and asked and name not in values:
            question = question._replace(default=os.environ.get(question.variable, question.default))
        unchecked, question = question, question._replace(check=partial(_check, question, context))
        try:
            if not asked:
                answer = question.default
            elif name in values:
                answer = question.parse(values[name])
            elif ask is not None:
                answer = ask(question)
            else:
                answer = (question if checked else unchecked).parse(question.default)
        except UsageError as error:
            problems.append(str(error))
            answer = question.default
        answers[name] = answer
        context.add_answer(name, answer)
    if problems:
        raise UsageError(
            problems[0] if len(problems) == 1 else "\n  ".join(["These answers are not valid:", *problems])
        )
    return answers


def _add_constant(context: Context, name: str) -> None:
    """Add an entry that is not a question."""
    if name.startswith("_"):
        # It may use the question of a layer, which is asked later. Files can use such an entry, defaults cannot.
        with suppress(TemplateError):
            context.add_private(name)
    elif not isinstance(context.entries[name], dict):  # an answer that the template fixes
        context.values[name] = context.entries[name]


def without_effect(template: Template, given: Iterable[str], answers: Mapping[str, Answer]) -> list[str]:
    """Return a warning for each question in `given` whose value is ignored, because the other answers turn it off."""
    context = Context(template.entries, template.name)
    for name in context.order():
        if name in answers:
            context.add_answer(name, answers[name])
        else:
            _add_constant(context, name)
    return [
        f"`{question.name}` uses its default: with these answers, the template does not ask for it"
        for question in template.questions
        if question.name in {*given} and not question.is_folder and not _is_asked(question, context)
    ]


def _rendered(question: Question, context: Context, uses_default: bool) -> Question:
    """Render the choices, and the default if it is used: both may be Jinja text about the answers so far."""
    if question.choices:
        choices = tuple(dict.fromkeys(str(option) for option in context.options(question.name)))
        default = choices[0] if question.kind == "choice" else question.default
        return question._replace(choices=choices, default=default)
    if not uses_default or not isinstance(question.default, str):
        return question
    where = f"The default of `{question.name}` in `{context.name}`"
    return question._replace(default=context.text(question.default, where, question.name, False))


def _is_asked(question: Question, context: Context) -> bool:
    """Return whether the question's `when` holds for the answers so far."""
    when = question.settings.when
    if not isinstance(when, str):
        return holds(when, context.values)
    return not when or _is_true(when, f"`when` of `{question.name}`", context, {})


def _check(question: Question, context: Context, answer: Answer) -> None:
    """Raise UsageError if the question's validator rejects an answer."""
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
    """Evaluate a Jinja expression; a Jinja text is true unless it renders to nothing or to a word for no."""
    with context.rendering(f"{where} in `{context.name}`", where, False):
        if any(mark in condition for mark in context.marks):
            value: Any = context.environment.from_string(condition).render(context.names | names)
        else:
            value = context.environment.compile_expression(condition)(context.names | names)
    return value.strip().lower() not in NO | {"", "none"} if isinstance(value, str) else bool(value)
