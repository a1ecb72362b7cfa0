"""What `cookiecutter.…` means in a template: its entries one by one, as cookiecutter's `prompt_for_config` makes them.

Names that begin with `_` are constants, names with `__` are rendered, tables are rendered last; the rest are questions, of
which the answers are given.
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
    """The context of a template, or of one layer of it, as far as it is known.

    Args:
        entries: The content of `cookiecutter.json`.
        name: The template's or layer's name, for errors.
        draws: What is random, or from the clock.
        budget: What rendering may take.

    Attributes:
        values: Name -> value, in the order of the entries.

    Raises:
        TemplateError: An option for Jinja is of the wrong type, or asks for something that a template cannot have.
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
            _ = self.environment  # refuses what a template cannot have, whether or not it would be used

    @cached_property
    def environment(self) -> "TemplateEnvironment":
        """The Jinja environment. Importing Jinja takes a fifth of an upgrade in which no file needs it."""
        from .environment import make_environment

        return make_environment(self.entries, self.name, self.draws, self.budget)

    @cached_property
    def marks(self) -> list[str]:
        """What Jinja syntax begins with in this template: a text without any of it renders to itself."""
        given = self.entries.get("_jinja2_env_vars", {})
        return [str(mark) for mark in (given.get(name, usual) for name, usual in _MARKS.items()) if mark]

    @cached_property
    def names(self) -> dict[str, Any]:
        """What files can name: `cookiecutter`, and the entries as they are in `_cookiecutter`."""
        asked = {name: value for name, value in self.entries.items() if not name.startswith("_")}
        return {"cookiecutter": self.values, "_cookiecutter": OrderedDict(asked)}

    def text(self, text: str, where: str, place: str, keep: bool = True) -> str:
        """Render one short text: a default, a private variable, a path.

        Args:
            text: The text.
            where: What it is, for errors.
            place: What it is, for `Draws`.
            keep: Whether what it draws is recorded.

        Raises:
            TemplateError: It cannot be rendered.
        """
        if "\r" not in text and not any(mark in text for mark in self.marks):
            return text
        with self.rendering(where, place, keep):
            return self.environment.from_string(text).render(self.names)

    def render(self, raw: Any, where: str, place: str, keep: bool = True) -> Any:
        """Render an entry, at all depths: texts and numbers become texts; true, false and null stay.

        Raises:
            TemplateError: It cannot be rendered.
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
        """Add an entry that begins with `_`: two of them are rendered.

        Raises:
            TemplateError: It cannot be rendered.
        """
        raw = self.entries[name]
        if name.startswith("__"):
            raw = self._entry(name)
        self.values[name] = raw

    def add_tables(self) -> None:
        """Add the tables, which may name every other entry.

        Raises:
            TemplateError: One cannot be rendered.
        """
        for name, raw in self.entries.items():
            if isinstance(raw, dict) and (name.startswith("__") or not name.startswith("_")) and name != "__prompts__":
                self.values[name] = self._entry(name)

    def add_answer(self, name: str, answer: Any) -> None:
        """Add the answer to a question: of a choice, what is chosen, which need not be text."""
        raw = self.entries.get(name)
        if isinstance(raw, list) and isinstance(answer, str):
            answer = next((option for option in self.options(name) if str(option) == answer), answer)
        self.values[name] = None if raw is None and name in self.entries and answer == "" else answer

    def options(self, name: str) -> list[Any]:
        """Return the rendered choices of a question.

        Raises:
            TemplateError: One cannot be rendered.
        """
        return [
            self.render(choice, f"A choice of `{name}` in `{self.name}`", name, False) for choice in self.entries[name]
        ]

    def order(self) -> list[str]:
        """Return the names of the entries in their order, without what only prompts use."""
        return [name for name in self.entries if name != "__prompts__"]

    @contextmanager
    def rendering(self, where: str, place: str, keep: bool = True) -> Iterator[None]:
        """Render something within the bounds; what fails becomes a TemplateError that names `where`."""
        self.budget.begin()
        self.draws.begin(place, keep)
        try:
            yield
        except TemplateError:
            raise
        except Exception as error:  # a template's expressions raise whatever Python raises
            from .environment import describe

            raise TemplateError(f"{where} cannot be rendered: {describe(error)}") from error

    def _entry(self, name: str) -> Any:
        return self.render(self.entries[name], f"`{name}` of `{self.name}`", name)
