"""Random values and the time in a template: drawn once per project, and the same in every later render.

A value belongs to a *site*: the line of the template that draws it. When a line changes or its file moves, the line that
replaces it inherits its values.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..files.tree import Tree

Values = dict[str, dict[str, list[str]]]
"""Place -> site -> the values drawn there, in order. A place is a file of the template or an entry of `cookiecutter.json`,
with a colon before a part of it."""

SHORTEST = 4
"""Shorter values are not searched for in a project without a record: they occur anywhere."""


class Draws:
    """The random values of a project.

    Args:
        recorded: The result of `to_json` after the project's last render.

    Attributes:
        places: The places of today's template. Values of other places can be inherited.
        includes: The files of today's template that can be included.
    """

    def __init__(self, recorded: Mapping[str, Any] = {}) -> None:
        self.places: set[str] = set()
        self.includes: set[str] = set()
        self._time: str | None = recorded.get("time")
        self._values: Values = {
            place: {site: [*values] for site, values in sites.items()}
            for place, sites in recorded.get("values", {}).items()
        }
        self._sites: dict[str, set[str]] = {}
        self._place = ""
        self._drawn: dict[str, int] = {}  # site -> number of values drawn since `begin`
        self._keeps = True

    def to_json(self) -> dict[str, Any]:
        """Return the record for the manifest: the time and the values, if there are any."""
        time = {"time": self._time} if self._time is not None else {}
        return time | ({"values": self._values} if self._values else {})

    def begin(self, place: str, keep: bool = True) -> None:
        """Start to render a place; its values are recorded if `keep`."""
        self._place, self._drawn, self._keeps = place, {}, keep

    def add_sites(self, template: str, sites: Iterable[str]) -> None:
        """Declare the sites of a template. They can inherit the values of sites that are gone."""
        self._sites[template] = set(sites)

    def now(self) -> datetime:
        """Return the time at which the project was created."""
        if self._time is None:
            self._time = datetime.now(UTC).isoformat(timespec="seconds")
        return datetime.fromisoformat(self._time)

    def value(self, function: str, template: str, line: str, draw: Callable[[], str]) -> str:
        """Return the next value of a line: the recorded one, an inherited one, or a new one.

        Args:
            function: The name of the random function, which occurs in the line.
            template: The file with the line, which the current place may include; empty for an entry.
            line: The line, as in `add_sites`.
            draw: Draws a new value.
        """
        site = _site(self._place, template, line)
        number = self._drawn.get(site, 0)
        self._drawn[site] = number + 1
        if not self._keeps:
            return draw()
        values = self._values.get(self._place, {}).get(site) or self._inherited(function, template, line)
        if number >= len(values):
            values.append(draw())
        self._values.setdefault(self._place, {})[site] = values
        return values[number]

    def _inherited(self, function: str, template: str, line: str) -> list[str]:
        """Take the values of a line that is gone: the same line elsewhere, or another line of this template."""
        site = _site(self._place, template, line)
        for place, sites in self._values.items():
            if place.partition(":")[0] not in self.places and site in sites:
                return sites.pop(site)
        here = self._values.get(self._place, {})
        today = {_site(self._place, template, other) for other in self._sites.get(template, ())}
        gone = {old: self._included(old) for old in here if old not in today and function in old}
        for old, included in gone.items():
            if not included and (old == line or old.endswith(f": {line}")):  # the included file was renamed
                return here.pop(old)
        own = "" if template == self._place else template
        return next((here.pop(old) for old, included in gone.items() if included == own), [])

    def _included(self, site: str) -> str:
        """Return the included file of a site; empty if the site is in the place itself, or in a file that is gone."""
        template, colon, _ = site.partition(": ")
        return template if colon and template in self.includes else ""

    def recover(self, drawn: Tree, made: Tree) -> bool:
        """Find the values of a project without a record in its files; return whether there were any.

        Args:
            drawn: A render with new values.
            made: The project's files as they were generated.
        """
        lists = [values for sites in self._values.values() for values in sites.values()]
        new = sorted({value for values in lists for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
        old = {value: found for value in new if (found := _replaced(value, new, drawn, made)) is not None}
        for values in lists:
            values[:] = [old.get(value, value) for value in values]
        return bool(old)


def is_record(data: Mapping[str, Any]) -> bool:
    """Return whether `data` is what `Draws.to_json` returns."""
    places = data.get("values", {})
    if not isinstance(places, dict) or not all(isinstance(sites, dict) for sites in places.values()):
        return False
    lists = [values for sites in places.values() for values in sites.values()]
    if not all(isinstance(values, list) and all(isinstance(value, str) for value in values) for values in lists):
        return False
    try:
        return "time" not in data or datetime.fromisoformat(data["time"]).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _site(place: str, template: str, line: str) -> str:
    return line if template in ("", place) else f"{template}: {line}"


def _replaced(value: str, values: Sequence[str], drawn: Tree, made: Tree) -> str | None:
    """Return the text in `made` at the places where `drawn` has `value`, if it is the same at all of them."""
    found = set()
    for path, file in drawn.items():
        if value.encode() not in file.content or path not in made:
            continue
        old = made[path].content.decode(errors="replace").splitlines()
        for line in file.content.decode(errors="replace").splitlines():
            if value in line:
                shape = re.escape(line).replace(re.escape(value), f"(?P<value>.{{{len(value)}}})", 1)
                for other in values:
                    same = "(?P=value)" if other == value else f".{{{len(other)}}}"
                    shape = shape.replace(re.escape(other), same)
                found |= {match["value"] for match in map(re.compile(shape).fullmatch, old) if match}
    return found.pop() if len(found) == 1 else None
