"""Questions at a terminal."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from paccel.catalog.metadata import QuestionHelp
from paccel.catalog.questions import Question
from paccel.cli.prompt import ask
from paccel.errors import UsageError


def typed(question: Question, *lines: str) -> tuple[Any, str]:
    """Return the answer to a question, and the output, after these lines were typed."""
    answers: list[Any] = []

    @click.command()
    def command() -> None:
        answers.append(ask(question))

    result = CliRunner().invoke(command, input="".join(f"{line}\n" for line in lines))
    assert result.exit_code == 0, result.output
    return answers[0], result.output


def refuse_short(answer: object) -> None:
    if len(str(answer)) < 3:
        raise UsageError("give three letters")


def test_a_wrong_answer_is_asked_again_with_the_reason() -> None:
    answer, shown = typed(Question("name", "text", "", check=refuse_short), "ab", "abc")
    assert (answer, "give three letters" in shown) == ("abc", True)


def test_a_secret_is_not_shown() -> None:
    question = Question("key", "text", "from-environment", settings=QuestionHelp(secret=True))
    answer, shown = typed(question, "s3cret")
    assert (answer, "s3cret" in shown, "from-environment" in shown) == ("s3cret", False, False)
    assert typed(question, "")[0] == "from-environment"


@pytest.mark.parametrize(("line", "answer"), [("a, C", ["a", "c"]), ("", ["b"])])
def test_several_choices_are_typed_with_commas(line: str, answer: list[str]) -> None:
    given, shown = typed(Question("t", "choices", ["b"], ("a", "b", "c")), line)
    assert (given, "[b]" in shown) == (answer, True)


@pytest.mark.parametrize("text", ["日本語のプロジェクト", "👩‍👩‍👧 family", "e\u0301", "{{ x }}"])
def test_any_letters_can_be_typed(text: str) -> None:
    assert typed(Question("name", "text", text), "")[0] == text
    assert typed(Question("name", "text", "x"), text)[0] == text
