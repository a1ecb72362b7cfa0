"""Carry a project's stored answers over to the questions of the template as it is today."""

from collections.abc import Mapping

from ..errors import UsageError
from ..sandbox.draws import Draws
from .answers import resolve_answers, without_effect
from .questions import Answer
from .template import Template


def carry_answers(
    stored: Mapping[str, Answer], template: Template, changed: Mapping[str, object], draws: Draws | None = None
) -> tuple[dict[str, Answer], list[str]]:
    """Answer today's questions: from `changed`, else from `stored`, else with the default.

    Args:
        stored: The manifest's answers. The template's declared renames are applied to them in order.
        template: Today's template.
        changed: Question -> value, as typed.
        draws: The template's random values and its clock.

    Returns:
        The answers, and a note for each one that is new, renamed, dropped, or changed without effect.

    Raises:
        UsageError: A value does not answer its question, or no longer does.
    """
    names = {question.name for question in template.questions}
    carried: dict[str, object] = dict(stored)
    notes: list[str] = []
    for renamed in template.metadata.renamed_answers:
        if renamed.old not in carried or (renamed.old in names and renamed.old != renamed.new):
            continue
        value = carried.pop(renamed.old)
        word = str(value).lower() if isinstance(value, bool) else str(value)
        new_value = renamed.values.get(word, value)
        carried.setdefault(renamed.new, new_value)
        if (renamed.old, value) != (renamed.new, new_value):
            notes.append(f"the answer `{renamed.old}={_text(value)}` is now `{renamed.new}={_text(new_value)}`")
    dropped = {*template.metadata.dropped_answers}
    for name in sorted(carried.keys() - names):
        value = carried.pop(name)
        why = "the template dropped this question" if name in dropped else "the template no longer has this question"
        notes.append(f"the answer `{name}={_text(value)}` is dropped: {why}")
    carried |= changed
    secret = {question.name for question in template.questions if question.secret}
    try:
        answers = resolve_answers(template, carried, draws=draws)
    except UsageError as error:
        if not _fails(template, {name: value for name, value in carried.items() if name not in changed}):
            raise  # the stored answers are valid: the typed one is wrong
        raise UsageError(f"{error}\nChange the answer with `paccel set KEY=VALUE`") from error
    notes += [
        f"new question `{name}`, answered with its default `{_text(answer)}`: `paccel set {name}=…` changes it"
        for name, answer in answers.items()
        if name not in carried and name not in secret
    ]
    return answers, notes + without_effect(template, changed, answers)


def _fails(template: Template, answers: Mapping[str, object]) -> bool:
    try:
        resolve_answers(template, answers)
    except UsageError:
        return True
    return False


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
