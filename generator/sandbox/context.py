"""The values of `cookiecutter.…` in a template, built entry by entry like cookiecutter's `prompt_for_config`.

Entries that begin with `__` are rendered, others that begin with `_` are constants, tables are rendered last. All other
entries are questions; their values are the answers.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import TemplateError
from .budget import Budget
from .draws import Draws

if TYPE_CHECKING:
    from .environment import TemplateEnvironment

_MARKS = {
    "block_start_string": "{%",
    "variable_start_string": "{{",
    "comment_start_string": "{#",
    "line_statement_prefix": "",
    "line_comment_prefix": "",
}


class Context:
    """The context of a template, or of one of its layers, while it is being built.

    Args:
        entries: The content of `cookiecutter.json`.
        name: The template's or layer's name, for errors.
        draws: The template's random values and its clock.
        budget: The limits of the render.

    Attributes:
        values: Name -> value of the entries added so far.

    Raises:
        TemplateError: A Jinja option has the wrong type or is not allowed.
    """

    def __init__(
        self, entries: Mapping[str, Any], name: str, draws: Draws | None = None, budget: Budget | None = None
    ) -> None:
        self.entries = entries
        self.name = name
        self.draws = draws or Draws()
        self.budget = budget or Budget()
        self.values: dict[str, Any] = OrderedDict()  # a template may print it
        if entries.get("_extensions") or not isinstance(entries.get("_jinja2_env_vars", {}), dict):
            _ = self.environment  # rejects invalid options, even if nothing needs Jinja

    @cached_property
    def environment(self) -> "TemplateEnvironment":
        """The Jinja environment, built on first use: importing Jinja takes a fifth of an upgrade that does not need it."""
        from .environment import make_environment

        return make_environment(self.entries, self.name, self.draws, self.budget)

    @cached_property
    def marks(self) -> list[str]:
        """The strings that begin Jinja syntax in this template. A text without them renders to itself."""
        given = self.entries.get("_jinja2_env_vars", {})
        return [str(mark) for mark in (given.get(name, usual) for name, usual in _MARKS.items()) if mark]

    @cached_property
    def names(self) -> dict[str, Any]:
        """The global names in files: `cookiecutter`, and `_cookiecutter` with the unrendered questions."""
        asked = {name: value for name, value in self.entries.items() if not name.startswith("_")}
        return {"cookiecutter": self.values, "_cookiecutter": OrderedDict(asked)}

    def text(self, text: str, where: str, place: str, keep: bool = True) -> str:
        """Render one short text: a default, a private variable, a path.

        Args:
            text: The text.
            where: A description of the text, for errors.
            place: Its place, for `Draws`.
            keep: Whether to record the random values that it draws.

        Raises:
            TemplateError: The text cannot be rendered.
        """
        if "\r" not in text and not any(mark in text for mark in self.marks):
            return text
        with self.rendering(where, place, keep):
            return self.environment.from_string(text).render(self.names)

    def render(self, raw: Any, where: str, place: str, keep: bool = True) -> Any:
        """Render an entry at all depths: texts and numbers become texts; true, false and null stay.

        Raises:
            TemplateError: The entry cannot be rendered.
        """
        try:
            return self._at_depth(raw, where, place, keep)
        except RecursionError as error:
            raise TemplateError(f"{where} is nested too deeply") from error

    def _at_depth(self, raw: Any, where: str, place: str, keep: bool) -> Any:
        if raw is None or isinstance(raw, bool):
            return raw
        if isinstance(raw, dict):
            return {
                self._at_depth(key, where, f"{place}:{key}:", keep): self._at_depth(
                    value, where, f"{place}:{key}", keep
                )
                for key, value in raw.items()
            }
        if isinstance(raw, list):
            return [self._at_depth(value, where, f"{place}:{index}", keep) for index, value in enumerate(raw)]
        return self.text(str(raw), where, place, keep)

    def add_private(self, name: str) -> None:
        """Add an entry that begins with `_`; it is rendered if it begins with `__`.

        Raises:
            TemplateError: The entry cannot be rendered.
        """
        self.values[name] = self._entry(name) if name.startswith("__") else self.entries[name]

    def add_tables(self) -> None:
        """Add the tables, which may use every other entry.

        Raises:
            TemplateError: A table cannot be rendered.
        """
        for name, raw in self.entries.items():
            if isinstance(raw, dict) and (name.startswith("__") or not name.startswith("_")) and name != "__prompts__":
                self.values[name] = self._entry(name)

    def add_answer(self, name: str, answer: Any) -> None:
        """Add the answer to a question. The value of a choice keeps its type, which need not be text."""
        raw = self.entries.get(name)
        if isinstance(raw, list) and isinstance(answer, str):
            answer = next((option for option in self.options(name) if str(option) == answer), answer)
        self.values[name] = None if raw is None and name in self.entries and answer == "" else answer

    def options(self, name: str) -> list[Any]:
        """Return the rendered choices of a question.

        Raises:
            TemplateError: A choice cannot be rendered.
        """
        return [
            self.render(choice, f"A choice of `{name}` in `{self.name}`", name, False) for choice in self.entries[name]
        ]

    def order(self) -> list[str]:
        """Return the names of the entries in their order, without cookiecutter's texts for prompts."""
        return [name for name in self.entries if name != "__prompts__"]

    @contextmanager
    def rendering(self, where: str, place: str, keep: bool = True) -> Iterator[None]:
        """Render in this block: limits start anew, and every error becomes a TemplateError that names `where`."""
        self.budget.begin()
        self.draws.begin(place, keep)
        try:
            yield
        except TemplateError:
            raise
        except Exception as error:  # a template's expressions can raise anything
            from .environment import describe

            raise TemplateError(f"{where} cannot be rendered: {describe(error)}") from error

    def _entry(self, name: str) -> Any:
        return self.render(self.entries[name], f"`{name}` of `{self.name}`", name)
