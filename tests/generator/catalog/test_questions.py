"""Questions are read from `cookiecutter.json` and `paccel.toml`; settings that do not fit are errors of the template."""

from typing import Any

import pytest

from paccel.catalog.metadata import QuestionHelp
from paccel.catalog.questions import check_project_name, parse_questions
from paccel.errors import TemplateError, UsageError


def test_the_kinds_come_from_the_defaults() -> None:
    entries = {
        "name": "net",
        "data": ["digits", "mnist"],
        "ema": False,
        "author": "",
        "_private": "x",
        "table": {"a": 1},
    }
    kinds = {question.name: (question.kind, question.default) for question in parse_questions(entries, "demo")}
    assert kinds == {
        "name": ("text", "net"),
        "data": ("choice", "digits"),
        "ema": ("bool", False),
        "author": ("text", ""),
    }


@pytest.mark.parametrize("name", ["a", "my-project", "My_Project.2", "0x", "a" * 80])
def test_names_of_packages_are_names_of_projects(name: str) -> None:
    assert check_project_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".a", "a b", "a/b", "ä", "a\n", "a;b", "٣"])
def test_other_names_are_not(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid project name"):
        check_project_name(name)


@pytest.mark.parametrize(
    ("entries", "message"),
    [({"a": []}, "`a`.*empty"), ({"a": "\ud800"}, "lone surrogate"), ({"_x": ["\udfff"]}, "lone surrogate")],
)
def test_entries_without_meaning_are_the_templates_fault(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        parse_questions(entries, "demo/cookiecutter.json")


def test_a_choice_that_is_there_twice_is_one() -> None:
    (question,) = parse_questions({"a": ["x", "y", "x"]}, "demo")
    assert question.choices == ("x", "y")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (QuestionHelp(multiple=True), "`multiple` for `size`, whose answer is text"),
        (QuestionHelp(default=("8",)), "documents `8`, which is not a choice"),
        (QuestionHelp(choices={"8": "eight"}), "documents `8`, which is not a choice"),
    ],
)
def test_settings_that_do_not_go_with_a_question_are_explained(settings: QuestionHelp, message: str) -> None:
    (question,) = parse_questions({"size": "8"}, "demo")
    with pytest.raises(TemplateError, match=message):
        question.described(settings, "demo")


def test_cookiecutters_own_prompts_are_the_help() -> None:
    entries = {"a": "", "b": ["x", "y"], "__prompts__": {"a": "An a", "b": {"__prompt__": "A b", "x": "The x"}}}
    first, second = parse_questions(entries, "demo")
    assert (first.help, second.help, dict(second.choice_help)) == ("An a", "A b", {"x": "The x"})
