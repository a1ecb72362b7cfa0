"""Read a TOML table key by key, and collect everything that is wrong with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import TemplateError, did_you_mean


class Table:
    """A TOML table. Each method reads one key; wrong, missing and unknown keys are added to `problems`.

    Args:
        data: The table.
        name: Its dotted name with a dot at the end, for problems; empty for the whole file.
        problems: A list that all tables of a file share.
    """

    def __init__(self, data: Mapping[str, Any], name: str, problems: list[str]) -> None:
        self.rest = dict(data)
        self.name = name
        self.problems = problems
        self.children: list[Table] = []
        self.known: set[str] = set()

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Turn a TemplateError in the block into a problem of this table."""
        try:
            yield
        except TemplateError as error:
            self.problems.append(f"`{self.name[:-1]}`: {error}")

    def text(self, key: str, need: bool = False) -> str:
        return str(self._take(key, str, "", need))

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self._items(key, [], str, "a list of texts"))

    def flag(self, key: str) -> bool:
        return bool(self._take(key, bool, False))

    def condition(self, key: str) -> str | dict[str, str | bool]:
        """Read an expression, or a table of answers."""
        if isinstance(self.rest.get(key), dict):
            return self.answers(key)
        return str(self._take(key, (str, dict), ""))

    def table(self, key: str) -> "Table":
        return self._child(self._take(key, dict, {}), key)

    def mapping(self, key: str) -> dict[str, str]:
        """Read a table of texts."""
        return dict(self._items(key, {}, str, "a table of texts"))

    def answers(self, key: str, need: bool = True) -> dict[str, str | bool]:
        """Read a table of answers: text, true or false."""
        return dict(self._items(key, {}, (str, bool), "a table of answers (text, true or false)", need))

    def tables(self, key: str) -> list["Table"]:
        """Read an array of tables: `[[key]]`."""
        values = self._items(key, [], dict, "a list of tables")
        return [self._child(value, f"{key}[{index}]") for index, value in enumerate(values)]

    def named_tables(self, key: str) -> dict[str, "Table"]:
        """Read a table of tables: `[key.NAME]`."""
        values = self._items(key, {}, dict, "a table of tables")
        return {name: self._child(value, f"{key}.{name}") for name, value in values.items()}

    def finish(self) -> None:
        """Report the keys that nobody read, here and in the tables below."""
        self.problems.extend(
            f"`{self.name}{key}` is not a known key{did_you_mean(key, self.known)}" for key in self.rest
        )
        for child in self.children:
            child.finish()

    def _items(self, key: str, empty: Any, kind: type | tuple[type, ...], expected: str, need: bool = False) -> Any:
        """Return a list or table whose values are of one kind, else `empty`."""
        values = self._take(key, type(empty), empty, need)
        if all(isinstance(value, kind) for value in (values.values() if isinstance(values, dict) else values)):
            return values
        self._wrong(key, expected)
        return empty

    def _take(self, key: str, kind: type | tuple[type, ...], empty: Any, need: bool = False) -> Any:
        self.known.add(key)
        if key not in self.rest and need:
            self.problems.append(f"`{self.name}{key}` is missing")
        value = self.rest.pop(key, empty)
        if isinstance(value, kind):
            return value
        expected = {str: "text", list: "a list", dict: "a table", bool: "true or false"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        self._wrong(key, " or ".join(expected[one] for one in kinds))
        return empty

    def _wrong(self, key: str, expected: str) -> None:
        self.problems.append(f"`{self.name}{key}` must be {expected}")

    def _child(self, data: Mapping[str, Any], name: str) -> "Table":
        child = Table(data, f"{self.name}{name}.", self.problems)
        self.children.append(child)
        return child
