"""Ask questions at a terminal."""

from typing import Any

import click

from ..catalog.questions import Answer, Question
from ..errors import UsageError
from .report import answer_text, question_lines


def ask(question: Question) -> Answer:
    """Show a question with its choices and default, and return the answer; ask again after a wrong one.

    Raises:
        click.Abort: Ctrl-C, or the end of the input.
    """
    lines = question_lines(question)
    click.echo("\n".join(lines), err=True)
    hint = {"bool": " (true or false)", "choices": " (several: a,b)"}.get(question.kind, "")
    # On standard error, so that standard output has nothing but the command's result.
    return _prompt(
        f"  {question.name}{hint}",
        default=answer_text(question.default),
        value_proc=_parser(question),
        hide_input=question.secret,
        show_default=not question.secret,
        err=True,
    )


def _parser(question: Question) -> Any:
    def parse(text: str) -> Answer:
        try:
            return question.parse(text)
        except UsageError as error:
            raise click.UsageError(str(error)) from error

    return parse


def _prompt(text: str, **options: Any) -> Answer:
    answer: Answer = click.prompt(text, **options)
    return answer
