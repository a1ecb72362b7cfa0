"""Answers are checked before anything is rendered, and one message lists all problems."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paccel.catalog.answers import read_answers, resolve_answers, without_effect
from paccel.catalog.metadata import QuestionHelp
from paccel.catalog.questions import Question, parse_questions
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


def asker(entries: dict[str, Any] | None = None, **settings: QuestionHelp) -> Any:
    entries = entries or ENTRIES
    questions = (q.described(settings.get(q.name, QuestionHelp()), "demo") for q in parse_questions(entries, "demo"))
    return SimpleNamespace(name="demo", questions=tuple(questions), entries=entries)


def packager(entries: dict[str, Any] | None = None) -> Any:
    """A template that asks for a package name, like the bundled ones."""
    return asker(entries, project_name=QuestionHelp(package=True))


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
    assert resolve_answers(template, {"size": 16}, checked=False) == {"size": "16", "name": "net-16"}
    with pytest.raises(UsageError, match="`net-16`"):
        resolve_answers(template, {"size": 16, "name": "net-8"})


@pytest.mark.parametrize("word", ["true", "True", "t", "YES", "y", "on", "1", True])
def test_yes_has_many_spellings(word: object) -> None:
    assert resolve_answers(asker(), {"ema": word})["ema"] is True


@pytest.mark.parametrize("word", ["false", "F", "no", "N", "off", "0", False])
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
        ({"author": "a\x1b[31m"}, "control characters"),
        ({"author": "a\0"}, "control characters"),
        ({"author": "\udcff"}, "control characters"),
        ({"project_name": "my project"}, r"did you mean `my-project`\?"),
    ],
)
def test_what_is_no_answer_is_explained(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_answers(packager(), given)


@pytest.mark.parametrize(
    "text",
    [
        "a\nb",
        "tab\there",
        "日本語のプロジェクト",
        "👩‍👩‍👧",
        "🏳️‍🌈 flag",
        "e\u0301",
        "\u202btext",
        "{{ 1 + 1 }}",
        "{% if %}",
        "a" * 10000,
    ],
)
def test_any_text_is_an_answer(text: str) -> None:
    assert resolve_answers(asker(), {"author": text})["author"] == text


def test_a_name_in_words_is_a_name_where_no_package_is_asked_for() -> None:
    words = {"project_name": "My Awesome Project", "repo": "{{ cookiecutter.project_name.lower().replace(' ', '_') }}"}
    assert resolve_answers(asker(words), {"project_name": "Crop Yield"}) == {
        "project_name": "Crop Yield",
        "repo": "crop_yield",
    }
    assert resolve_answers(asker(words), {}, project_name="crop yield")["repo"] == "crop_yield"


def test_a_choice_in_another_case_is_the_choice() -> None:
    assert resolve_answers(asker({"license": ["MIT", "BSD"]}), {"license": "mit"}) == {"license": "MIT"}
    with pytest.raises(UsageError, match="choose from"):
        resolve_answers(asker({"license": ["MIT", "mit"]}), {"license": "Mit"})


def test_all_problems_come_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_answers(packager(), {"emaa": "1", "data": "x", "ema": "maybe"}, project_name="-x-")
    text = str(caught.value)
    assert all(part in text for part in ("emaa", "data=x", "ema=maybe", "`-x-` is not a valid project name"))
    assert len(text.splitlines()) == 5


def test_asking_leaves_out_what_is_given_and_the_project_name() -> None:
    asked: list[Question] = []

    def ask(question: Question) -> str | bool:
        asked.append(question)
        return question.default

    answers = resolve_answers(packager(), {"data": "mnist"}, project_name="Net", ask=ask)
    assert [question.name for question in asked] == ["ema", "author", "slug"]
    assert asked[-1].default == "net"
    assert answers["data"] == "mnist"


def test_nothing_is_asked_when_a_given_answer_is_wrong() -> None:
    def ask(question: Question) -> str | bool:
        raise AssertionError(question)

    with pytest.raises(UsageError, match="slugg"):
        resolve_answers(asker(), {"slugg": "x"}, ask=ask)


def test_defaults_and_choices_see_private_entries() -> None:
    entries = {
        "name": "My Net",
        "_licenses": {"MIT": "The {{ MIT }}"},
        "__slug": "{{ cookiecutter.name | lower | replace(' ', '_') }}",
        "__names": ["{{ cookiecutter.__slug }}", {"deep": "{{ cookiecutter.__slug }}!"}],
        "package": "{{ cookiecutter.__slug }}",
        "kind": ["{{ cookiecutter.__names[1].deep }}", "{{ cookiecutter._licenses.MIT }}"],
    }
    assert resolve_answers(asker(entries), {"name": "Your Net"}) == {
        "name": "Your Net",
        "package": "your_net",
        "kind": "your_net!",
    }
    assert resolve_answers(asker(entries), {"kind": "The {{ MIT }}"})["kind"] == "The {{ MIT }}"


def test_defaults_have_the_templates_own_delimiters() -> None:
    marks = {"variable_start_string": "<<", "variable_end_string": ">>"}
    entries = {"name": "net", "package": "<< cookiecutter.name >>{{ 1 }}", "_jinja2_env_vars": marks}
    assert resolve_answers(asker(entries), {})["package"] == "net{{ 1 }}"


# --- what `paccel.toml` says about questions -----------------------------------------------------------------------

TRACKERS = {"tracker": ["none", "wandb"], "wandb_project": "{{ cookiecutter.tracker }}-runs", "size": "8"}


@pytest.mark.parametrize(
    "when",
    [{"tracker": "wandb"}, "cookiecutter.tracker == 'wandb'", "{{ cookiecutter.tracker == 'wandb' }}"],
)
def test_a_question_is_asked_only_when_it_makes_sense(when: Any) -> None:
    template = asker(TRACKERS, wandb_project=QuestionHelp(when=when, validator="wandb-.*"))
    asked: list[str] = []

    def ask(question: Question) -> Any:
        asked.append(question.name)
        return question.default

    answers = resolve_answers(template, {}, ask=ask)
    assert (asked, answers["wandb_project"]) == (["tracker", "size"], "none-runs")
    asked.clear()
    resolve_answers(template, {"tracker": "wandb"}, ask=ask)
    assert asked == ["wandb_project", "size"]


@pytest.mark.parametrize("when", [{"tracker": "wandb"}, "{{ cookiecutter.tracker == cookiecutter._on }}"])
def test_a_question_that_is_switched_off_has_its_default_whatever_it_was_answered(when: Any) -> None:
    template = asker({"_on": "wandb", **TRACKERS}, wandb_project=QuestionHelp(when=when))
    given = {"tracker": "wandb", "wandb_project": "mine"}
    answers = resolve_answers(template, given)
    assert (answers["wandb_project"], without_effect(template, given, answers)) == ("mine", [])
    off = resolve_answers(template, given | {"tracker": "none"})
    assert off["wandb_project"] == "none-runs"
    said = "`wandb_project` uses its default: with these answers, the template does not ask for it"
    assert without_effect(template, given, off) == [said]
    assert without_effect(template, ["tracker"], off) == []


@pytest.mark.parametrize("validator", ["[0-9]+", "{{ value | int > 4 }}", "{% if value.isdigit() %}yes{% endif %}"])
def test_a_validator_says_what_is_wrong(validator: str) -> None:
    template = asker(TRACKERS, size=QuestionHelp(validator=validator, message="give a number"))
    assert resolve_answers(template, {"size": "16"})["size"] == "16"
    with pytest.raises(UsageError, match=r"^`size=no1` is not valid: give a number$"):
        resolve_answers(template, {"size": "no1"})


def test_a_default_must_be_valid_too_where_it_is_used() -> None:
    template = asker({"email": ""}, email=QuestionHelp(validator=".+@.+"))
    with pytest.raises(UsageError, match=r"`email=` is not valid: it must match `\.\+@\.\+`"):
        resolve_answers(template, {})
    assert resolve_answers(template, {}, checked=False) == {"email": ""}


def test_the_validator_answers_at_the_prompt() -> None:
    template = asker({"email": ""}, email=QuestionHelp(validator=".+@.+"))

    def ask(question: Question) -> Any:
        with pytest.raises(UsageError, match="not valid"):
            question.parse("me")
        return question.parse("me@here")

    assert resolve_answers(template, {}, ask=ask) == {"email": "me@here"}


@pytest.mark.parametrize("validator", ["(", "{{ value.nothing.more }}", "{{ 'a' * 10**9 }}"])
def test_a_validator_that_cannot_be_used_is_the_templates_fault(validator: str) -> None:
    with pytest.raises(TemplateError, match="`validator` of `size`"):
        resolve_answers(asker(TRACKERS, size=QuestionHelp(validator=validator)), {})


@pytest.mark.slow
def test_a_pattern_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.sandbox.patterns.SECONDS", 0.5)
    with pytest.raises(TemplateError, match=r"`validator` of `size` takes more than 0\.5 seconds"):
        resolve_answers(asker(TRACKERS, size=QuestionHelp(validator="(a+)+$")), {"size": "a" * 50 + "!"})


@pytest.mark.parametrize(
    ("given", "answer"), [({}, ["b"]), ({"t": "c, A"}, ["a", "c"]), ({"t": ["c"]}, ["c"]), ({"t": ""}, [])]
)
def test_several_choices_make_a_list(given: dict[str, object], answer: list[str]) -> None:
    template = asker({"t": ["a", "b", "c"]}, t=QuestionHelp(multiple=True, default=("b",)))
    assert resolve_answers(template, given) == {"t": answer}
    with pytest.raises(UsageError, match="`t=d` is not valid; choose from"):
        resolve_answers(template, {"t": "a,d"})


def test_a_secret_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    template = asker({"key": ""}, key=QuestionHelp(secret=True, validator="[a-z0-9]*"))
    assert resolve_answers(template, {}) == {"key": ""}
    monkeypatch.setenv("PACCEL_SECRET_KEY", "s3cret")
    assert resolve_answers(template, {}) == {"key": "s3cret"}
    assert resolve_answers(template, {"key": "typed"}) == {"key": "typed"}
    for wrong in ("S3CRET", "s3cret\0"):
        with pytest.raises(UsageError) as caught:
            resolve_answers(template, {"key": wrong})
        assert wrong[:6] not in str(caught.value)


def test_a_default_that_cannot_be_rendered_is_the_templates_fault() -> None:
    with pytest.raises(TemplateError, match=r"default of `a`.*`cookiecutter.b` is not defined"):
        resolve_answers(asker({"a": "{{ cookiecutter.b }}"}), {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'data = "mnist"\nema = true\n'),
        ("a.json", '{"data": "mnist", "ema": true}'),
        ("replay.json", '{"cookiecutter": {"data": "mnist", "ema": true, "_p": "", "t": {}}, "_cookiecutter": {}}'),
        (".cruft.json", '{"commit": "", "context": {"cookiecutter": {"data": "mnist", "ema": true, "_p": ""}}}'),
    ],
)
def test_answers_come_from_toml_and_json_and_from_cookiecutters_own_files(tmp_path: Path, name: str, text: str) -> None:
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
