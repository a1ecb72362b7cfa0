"""The questions of a template, and which values answer them.

A question is an entry of `cookiecutter.json`: true or false makes a yes-or-no question, a list makes a choice (its first
item is the default), anything else makes a text. Entries that begin with `_` are not questions. `paccel.toml` adds help,
conditions and validators.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from unicodedata import category, normalize

from ..errors import TemplateError, UsageError, did_you_mean
from .metadata import QuestionHelp

Answer = str | bool | list[str]
Kind = Literal["text", "bool", "choice", "choices"]

PROJECT_NAME = "project_name"
"""The question that `paccel new` answers with the folder's name, without asking."""

YES = {"true", "t", "yes", "y", "on", "1"}
NO = {"false", "f", "no", "n", "off", "0"}


class Question(NamedTuple):
    """One question of a template; `default` and `choices` may be Jinja text about earlier answers.

    Attributes:
        name: Its entry in `cookiecutter.json`.
        kind: The type of its answer; "choices" means several choices at once.
        default: The answer that is used if nobody gives one.
        choices: The options of a choice.
        help: Text for prompts and `paccel show`.
        choice_help: Choice -> its text for prompts and `paccel show`.
        settings: Its table in `paccel.toml`.
        check: Raises UsageError for an answer that the validator rejects.
    """

    name: str
    kind: Kind
    default: Answer
    choices: tuple[str, ...] = ()
    help: str = ""
    choice_help: Mapping[str, str] = {}
    settings: QuestionHelp = QuestionHelp()
    check: Callable[[Answer], None] = lambda answer: None

    @property
    def secret(self) -> bool:
        """Whether its answer is never shown or stored."""
        return self.settings.secret

    @property
    def is_folder(self) -> bool:
        """Whether the project folder's name answers it, without asking."""
        return self.name == PROJECT_NAME and self.settings.package

    @property
    def variable(self) -> str:
        """The environment variable that may hold a secret answer."""
        return f"PACCEL_SECRET_{self.name.upper()}"

    def described(self, settings: QuestionHelp, where: str) -> "Question":
        """Return the question with its settings from the `paccel.toml` at `where`.

        Raises:
            TemplateError: A setting does not fit the question.
        """
        for choice in [*settings.choices, *settings.default]:
            if choice not in self.choices:
                raise TemplateError(
                    f"`{where}` documents `{choice}`, which is not a choice of `{self.name}`"
                    f"{did_you_mean(choice, self.choices)}"
                )
        for key, on, kinds in (
            ("multiple", settings.multiple, ("choice", "choices")),
            ("secret", settings.secret, ("text",)),
            ("package", settings.package, ("text",)),
        ):
            if on and self.kind not in kinds:
                kind = {"text": "text", "bool": "true or false"}.get(self.kind, "a choice")
                raise TemplateError(f"`{where}` has `{key}` for `{self.name}`, whose answer is {kind}")
        if settings.default and not settings.multiple:
            raise TemplateError(f"`{where}` has `default` for `{self.name}`, which is not `multiple`")
        merged = settings._replace(
            **{key: old for key, old in self.settings._asdict().items() if not getattr(settings, key)}
        )
        return self._replace(
            kind="choices" if merged.multiple else self.kind,
            default=[*merged.default] if merged.multiple else self.default,
            help=settings.help or self.help,
            choice_help={**self.choice_help, **settings.choices},
            settings=merged,
        )

    def parse(self, value: object) -> Answer:
        """Turn a typed or stored value into an answer.

        Raises:
            UsageError: The value does not answer this question.
        """
        answer = self._read(value)
        self.check(answer)
        return answer

    def _read(self, value: object) -> Answer:
        if self.kind == "bool":
            word = str(value).strip().lower()
            if isinstance(value, (str, bool)) and word in YES | NO:
                return word in YES
            raise UsageError(f"`{self.name}={value}` is neither `true` nor `false`")
        if self.kind == "choices":
            return self._several(value)
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            if isinstance(value, bool) and str(value) in self.choices:
                return str(value)  # choices that are not text in `cookiecutter.json`
            kind = {bool: "true or false", list: "a list", dict: "a table"}.get(type(value), type(value).__name__)
            raise UsageError(f"`{self.name}` takes text, not {kind}")
        if self.kind == "choice":
            return self._choice(str(value))
        text = str(value).replace("\r\n", "\n")
        if self.settings.package:
            return check_project_name(text)
        if any(category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
            shown = "" if self.secret else f", not {text!a}"
            raise UsageError(f"`{self.name}` takes text without control characters{shown}")
        return text

    def _choice(self, text: str) -> str:
        """Find a choice by its text; upper and lower case count only where two choices differ in nothing else."""
        if text in self.choices:
            return text
        spellings = [choice for choice in self.choices if choice.lower() == text.lower()]
        if len(spellings) == 1:
            return spellings[0]
        offered = ", ".join(f"`{choice}`" for choice in self.choices)
        raise UsageError(f"`{self.name}={text}` is not valid; choose from {offered}{did_you_mean(text, self.choices)}")

    def _several(self, value: object) -> list[str]:
        """Read several choices, from a list or from text with commas; return them in the template's order."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise UsageError(f"`{self.name}` takes a list of choices, like `{','.join(self.choices[:2])}`")
        chosen = {self._choice(part) for part in value}
        return [choice for choice in self.choices if choice in chosen]


def is_answer(value: object) -> bool:
    """Return whether a value has the type of an answer."""
    return isinstance(value, (str, bool)) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def check_project_name(name: str) -> str:
    """Return `name` if it is a valid package name (PEP 508).

    Raises:
        UsageError: It is not valid.
    """
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        return name
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode()  # without accents
    better = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")
    hint = f"; did you mean `{better}`?" if better else ""
    raise UsageError(
        f"`{name}` is not a valid project name: use letters, digits, `-`, `_` and `.`, with a letter or digit first and last{hint}"
    )


def parse_questions(entries: Mapping[str, Any], where: str) -> tuple[Question, ...]:
    """Read the questions of one `cookiecutter.json`; `where` names the file in errors.

    Tables (cookiecutter's dictionary variables) are constants, not questions.

    Raises:
        TemplateError: A list of choices is empty, a text is not valid Unicode, or the file is nested too deeply.
    """
    try:
        json.dumps(entries, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise TemplateError(
            f"`{where}` has invalid Unicode (a lone surrogate, like `\\ud800`), or is nested too deeply"
        ) from error
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
            choices = tuple(dict.fromkeys(str(choice) for choice in value))
            if not choices:
                raise TemplateError(f"The choices of `{name}` in `{where}` are empty")
            questions.append(Question(name, "choice", choices[0], choices, text, choice_help))
        else:
            questions.append(Question(name, "text", "" if value is None else str(value), (), text))
    return tuple(questions)


def holds(when: Mapping[str, str | bool], answers: Mapping[str, Answer]) -> bool:
    """Return whether the answers have every value in `when`; an answer of several choices must include the value."""
    return all(
        value in answer if isinstance(answer := answers.get(name), list) else answer == value
        for name, value in when.items()
    )
