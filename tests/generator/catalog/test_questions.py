"""Answers are checked before anything is made of them, all at once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paccel.catalog.questions import Question, check_project_name, parse_questions, read_answers, resolve_answers
from paccel.errors import TemplateError, UsageError

ENTRIES = {
    "project_name": "my-project",
    "data": ["digits", "mnist", "folder"],
    "ema": False,
    "author": "",
    "slug": "{{ cookiecutter.project_name | lower | replace('-', '_') }}",
    "_private": "x",
    "__rendered": "{{ cookiecutter.slug }}",
    "table": {"a": 1},
}


def asker(entries: dict[str, Any] | None = None) -> Any:
    return SimpleNamespace(name="demo", questions=parse_questions(entries or ENTRIES, "demo"), constants={})


def test_the_kinds_come_from_the_defaults() -> None:
    kinds = {question.name: (question.kind, question.default) for question in asker().questions}
    assert kinds == {
        "project_name": ("text", "my-project"),
        "data": ("choice", "digits"),
        "ema": ("bool", False),
        "author": ("text", ""),
        "slug": ("text", ENTRIES["slug"]),
    }


def test_defaults_follow_earlier_answers() -> None:
    assert resolve_answers(asker(), {}, project_name="My-Net") == {
        "project_name": "My-Net",
        "data": "digits",
        "ema": False,
        "author": "",
        "slug": "my_net",
    }


def test_choices_may_follow_earlier_answers() -> None:
    template = asker({"size": ["8", "16"], "name": ["net-{{ cookiecutter.size }}", "other"]})
    assert resolve_answers(template, {"size": 16}) == {"size": "16", "name": "net-16"}
    with pytest.raises(UsageError, match="`net-16`"):
        resolve_answers(template, {"size": 16, "name": "net-8"})


@pytest.mark.parametrize("word", ["true", "True", "YES", "y", "on", "1", True])
def test_yes_has_many_spellings(word: object) -> None:
    assert resolve_answers(asker(), {"ema": word})["ema"] is True


@pytest.mark.parametrize("word", ["false", "no", "N", "off", "0", False])
def test_no_has_many_spellings(word: object) -> None:
    assert resolve_answers(asker(), {"ema": word})["ema"] is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"emaa": "1"}, r"`emaa` is not a question of `demo`; did you mean `ema`\?"),
        ({"_private": "1"}, "`_private` is not a question"),
        ({"table": "1"}, "`table` is not a question"),
        ({"ema": "maybe"}, "`ema=maybe` is neither `true` nor `false`"),
        ({"ema": 1}, "`ema=1` is neither"),
        ({"ema": None}, "neither"),
        (
            {"data": "mnst"},
            r"`data=mnst` is not valid; choose from `digits`, `mnist`, `folder`; did you mean `mnist`\?",
        ),
        ({"data": ""}, "is not valid"),
        ({"data": True}, "`data` takes text, not true or false"),
        ({"author": ["a"]}, "`author` takes text, not a list"),
        ({"author": {"a": "b"}}, "`author` takes text, not a table"),
        ({"author": "a\nb"}, "one line of printable text"),
        ({"author": "a\x1b[31m"}, "printable"),
        ({"author": "\udcff"}, "printable"),
        ({"project_name": "my project"}, r"did you mean `my-project`\?"),
    ],
)
def test_what_is_no_answer_is_explained(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_answers(asker(), given)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_answers(asker(), {"emaa": "1", "data": "x", "ema": "maybe"}, project_name="-x-")
    text = str(caught.value)
    assert all(part in text for part in ("emaa", "data=x", "ema=maybe", "`-x-` is not a valid project name"))
    assert len(text.splitlines()) == 5


def test_asking_leaves_out_what_is_given_and_the_project_name() -> None:
    asked: list[Question] = []

    def ask(question: Question) -> str | bool:
        asked.append(question)
        return question.default

    answers = resolve_answers(asker(), {"data": "mnist"}, project_name="Net", ask=ask)
    assert [question.name for question in asked] == ["ema", "author", "slug"]
    assert asked[-1].default == "net"
    assert answers["data"] == "mnist"


def test_nothing_is_asked_when_a_given_answer_is_wrong() -> None:
    def ask(question: Question) -> str | bool:
        raise AssertionError(question)

    with pytest.raises(UsageError, match="slugg"):
        resolve_answers(asker(), {"slugg": "x"}, ask=ask)


@pytest.mark.parametrize("name", ["a", "my-project", "My_Project.2", "0x", "a" * 80])
def test_names_of_packages_are_names_of_projects(name: str) -> None:
    assert check_project_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".a", "a b", "a/b", "ä", "a\n", "a;b", "٣"])
def test_other_names_are_not(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid project name"):
        check_project_name(name)


@pytest.mark.parametrize("entries", [{"a": []}, {"a": ["x", "x"]}, {"a": None}])
def test_entries_without_meaning_are_the_templates_fault(entries: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match="`a`"):
        parse_questions(entries, "demo/cookiecutter.json")


def test_a_default_that_cannot_be_rendered_is_the_templates_fault() -> None:
    with pytest.raises(TemplateError, match=r"default of `a`.*`cookiecutter.b` is not defined"):
        resolve_answers(asker({"a": "{{ cookiecutter.b }}"}), {})


def test_cookiecutters_own_prompts_are_the_help() -> None:
    entries = {"a": "", "b": ["x", "y"], "__prompts__": {"a": "An a", "b": {"__prompt__": "A b", "x": "The x"}}}
    first, second = parse_questions(entries, "demo")
    assert (first.help, second.help, dict(second.choice_help)) == ("An a", "A b", {"x": "The x"})


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", 'data = "mnist"\nema = true\n'), ("a.json", '{"data": "mnist", "ema": true}')]
)
def test_answers_come_from_toml_and_json(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_answers(tmp_path / name) == {"data": "mnist", "ema": True}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "a = ", "not valid TOML"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", "[1]", "must contain a table"),
        ("a.yaml", "a: 1", r"`\*.toml` or `\*.json`"),
        ("missing.toml", None, "cannot be read: No such file"),
    ],
)
def test_a_broken_answers_file_is_explained(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_answers(tmp_path / name)
