"""Stored answers are carried over to the questions of today's template."""

from types import SimpleNamespace
from typing import Any

import pytest

from paccel.catalog.metadata import Metadata, RenamedAnswer
from paccel.catalog.migrate import carry_answers
from paccel.catalog.questions import parse_questions
from paccel.errors import UsageError


def template(questions: dict[str, Any], *renamed: tuple[str, str, dict[str, str]]) -> Any:
    metadata = Metadata(renamed_answers=tuple(RenamedAnswer(*some) for some in renamed))
    return SimpleNamespace(
        name="demo", questions=parse_questions(questions, "demo"), entries=questions, metadata=metadata
    )


def test_an_answer_stays_with_its_question_while_that_is_asked() -> None:
    """A later question may reuse the name of a renamed one: an answer to it is not renamed."""
    found = template({"log": "no", "tracker": "none"}, ("log", "tracker", {}))
    assert carry_answers({"log": "yes"}, found, {})[0] == {"log": "yes", "tracker": "none"}


def test_an_answer_under_the_new_name_wins_over_one_under_the_old() -> None:
    found = template({"tracker": "none"}, ("log", "tracker", {}))
    assert carry_answers({"log": "old", "tracker": "new"}, found, {})[0] == {"tracker": "new"}


def test_yes_and_no_become_choices_as_they_are_written() -> None:
    found = template({"size": ["small", "large"]}, ("large", "size", {"true": "large", "false": "small"}))
    answers, notes = carry_answers({"large": True}, found, {})
    assert answers == {"size": "large"}
    assert notes == ["the answer `large=true` is now `size=large`"]


def test_only_where_a_stored_answer_is_wrong_another_is_asked_for() -> None:
    found = template({"size": ["small", "large"]})
    with pytest.raises(UsageError, match="Change the answer with"):
        carry_answers({"size": "medium"}, found, {})
    with pytest.raises(UsageError) as wrong:
        carry_answers({"size": "small"}, found, {"size": "huge"})
    assert "Change the answer with" not in str(wrong.value)
