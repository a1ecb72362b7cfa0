"""Ask questions at a terminal."""

import click

from ..catalog.questions import Answer, Question
from ..errors import UsageError
from .report import answer_text, question_lines


def ask(question: Question) -> Answer:
    """Show a question with its choices and default, and return the answer. An invalid answer is asked for again.

    Raises:
        click.Abort: Ctrl-C, or the end of the input.
    """

    def parse(text: str) -> Answer:
        try:
            return question.parse(text)
        except UsageError as error:
            raise click.UsageError(str(error)) from error

    # On standard error: standard output has only the result of the command.
    click.echo("\n".join(question_lines(question)), err=True)
    hint = {"bool": " (true or false)", "choices": " (several: a,b)"}.get(question.kind, "")
    answer: Answer = click.prompt(
        f"  {question.name}{hint}",
        default=answer_text(question.default),
        value_proc=parse,
        hide_input=question.secret,
        show_default=not question.secret,
        err=True,
    )
    return answer
