"""cookiecutter's own Jinja extensions, with recorded random values and time limits."""

import functools
from collections.abc import Callable
from typing import Any, cast

from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from .patterns import call


class CookiecutterExtensions(Extension):
    """The extensions that cookiecutter enables in every template, imported on first use.

    Importing them (`arrow`, `slugify`) takes as long as rendering a template.
    """

    tags = {"now"}  # noqa: RUF012  # Jinja's own type

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.extend(datetime_format="%Y-%m-%d")
        environment.filters["jsonify"] = _lazy("JsonifyExtension", "jsonify")
        environment.filters["slugify"] = _slugify
        environment.globals["random_ascii_string"] = _lazy("RandomStringExtension", "random_ascii_string")
        environment.globals["uuid4"] = _lazy("UUIDExtension", "uuid4")

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        extension = _time_extension()
        self.environment.add_extension(extension)
        return self.environment.extensions[extension.identifier].parse(parser)


def _slugify(*arguments: Any, **options: Any) -> str:
    """cookiecutter's filter `slugify`. If the template gives a regular expression, it runs with a time limit."""
    if len(arguments) > 10 or options.get("regex_pattern") is not None:
        return call("slugify", "slugify", arguments, options, "`regex_pattern` of `slugify`")
    return str(_real_slugify(*arguments, **options))


def _lazy(extension: str, name: str) -> Callable[..., Any]:
    """A filter or function of one of cookiecutter's extensions, which is imported at the first call."""

    @functools.cache
    def real() -> Callable[..., Any]:
        from cookiecutter import extensions

        scratch = Environment()
        getattr(extensions, extension)(scratch)
        return cast(Callable[..., Any], scratch.filters.get(name) or scratch.globals[name])

    return lambda *arguments, **options: real()(*arguments, **options)


_real_slugify = _lazy("SlugifyExtension", "slugify")


@functools.cache
def _time_extension() -> type[Extension]:
    """cookiecutter's `{% now %}`, with the clock of `Draws`."""
    import arrow
    from cookiecutter.extensions import TimeExtension

    class DrawnTime(TimeExtension):  # type: ignore[misc]
        def _now(self, timezone: str, datetime_format: str | None) -> str:
            return self._text(arrow.get(self.environment.draws.now()).to(timezone), datetime_format)

        def _datetime(self, timezone: str, operator: str, offset: str, datetime_format: str | None) -> str:
            steps: dict[str, Any] = {}
            for part in offset.split(","):
                unit, value = part.split("=")
                steps[unit.strip()] = float(operator + value.strip())
            return self._text(arrow.get(self.environment.draws.now()).to(timezone).shift(**steps), datetime_format)

        def _text(self, moment: arrow.Arrow, datetime_format: str | None) -> str:
            return moment.strftime(self.environment.datetime_format if datetime_format is None else datetime_format)

    return DrawnTime
