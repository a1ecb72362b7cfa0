"""The Jinja environment of a template: like cookiecutter's own, but sandboxed, as a template may come from anywhere."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, nodes
from jinja2.exceptions import SecurityError, TemplateNotFound
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.ext import Extension
from jinja2.loaders import split_template_path
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from ..errors import TemplateError
from ..files.tree import Tree

_ALLOWED_EXTENSIONS = ("jinja2.ext.", "cookiecutter.extensions.")


class CookiecutterExtensions(Extension):
    """The extensions that cookiecutter has in every template, imported when a template uses one.

    Importing them (`arrow`, `slugify`) takes as long as rendering a template.
    """

    tags = {"now"}  # noqa: RUF012  # Jinja's own type

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.extend(datetime_format="%Y-%m-%d")
        for name, extension in (("jsonify", "JsonifyExtension"), ("slugify", "SlugifyExtension")):
            environment.filters[name] = self._lazy(name, extension, environment.filters)
        for name, extension in (("random_ascii_string", "RandomStringExtension"), ("uuid4", "UUIDExtension")):
            environment.globals[name] = self._lazy(name, extension, environment.globals)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        from cookiecutter.extensions import TimeExtension

        self.environment.add_extension(TimeExtension)
        return self.environment.extensions[TimeExtension.identifier].parse(parser)

    def _lazy(self, name: str, extension: str, names: Mapping[str, Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            from cookiecutter import extensions

            getattr(extensions, extension)(self.environment)  # puts the real one in the place of this one
            return names[name](*arguments, **options)

        return call


class TemplateEnvironment(SandboxedEnvironment):
    """Undefined names are errors, and a template can only reach the Python objects that it is given."""

    def preprocess(self, source: str, name: str | None = None, filename: str | None = None) -> str:
        """Keep the blank line after a line statement, which Jinja would remove together with it."""
        text = str(super().preprocess(source, name, filename))
        if self.line_statement_prefix is None:
            return text
        statement = rf"^([ \t]*{re.escape(self.line_statement_prefix)}.*\n)(?=[ \t]*\n)"
        nothing = f"{self.variable_start_string} '' {self.variable_end_string}"
        return re.sub(statement, rf"\g<1>{nothing}", text, flags=re.MULTILINE)


def make_environment(constants: Mapping[str, Any], where: str) -> TemplateEnvironment:
    """Build the environment that a `cookiecutter.json` asks for.

    Args:
        constants: Its entries that are not questions.
        where: The template's name, for errors.

    Raises:
        TemplateError: It asks for an extension that would run the template's code, or for options that Jinja lacks.
    """
    for extension in constants.get("_extensions", []):
        if not str(extension).startswith(_ALLOWED_EXTENSIONS):
            raise TemplateError(
                f"`{where}` uses the Jinja extension `{extension}`, but paccel never runs code from a template: only"
                " extensions in `jinja2.ext` and `cookiecutter.extensions` work"
            )
    options = constants.get("_jinja2_env_vars", {})
    try:
        return TemplateEnvironment(
            undefined=StrictUndefined,
            extensions=[CookiecutterExtensions, *map(str, constants.get("_extensions", []))],
            keep_trailing_newline=True,
            **options,
        )
    except Exception as error:  # the options are the template's, and Jinja does not check them in one place
        raise TemplateError(f"`_jinja2_env_vars` or `_extensions` of `{where}` cannot be used: {error}") from error


class TreeLoader(BaseLoader):
    """Loads what a file of a layer may include: the layer's files by path, then the partials.

    Attributes:
        names: The paths of all texts loaded so far, as errors name them.
    """

    def __init__(self, project: Tree, partials: Tree, partials_dir: str) -> None:
        self.places = [("", project), (f"{partials_dir}/", partials)]
        self.names: set[str] = set()

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        path = "/".join(split_template_path(template))
        for prefix, tree in self.places:
            if path in tree:
                self.names.add(prefix + path)
                return text_of(tree[path].content).read(), prefix + path, lambda: True
        raise TemplateNotFound(template)


def text_of(content: bytes) -> io.TextIOWrapper:
    """Open the text of a file as Python does: any line ends are read as `\\n`."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def render_text(environment: TemplateEnvironment, text: str, context: Mapping[str, Any], where: str) -> str:
    """Render a short text of a template: a default, a private variable, a path. `where` names it in errors.

    Raises:
        TemplateError: It cannot be rendered.
    """
    try:
        return environment.from_string(text).render(cookiecutter=context)
    except Exception as error:  # a template's expressions raise whatever Python raises
        raise TemplateError(f"{where} cannot be rendered: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Say in one line what went wrong inside a template."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, TemplateNotFound):
        return f"it includes `{error.name}`, which does not exist"
    if isinstance(error, SecurityError):
        return f"{text} (templates are rendered in a sandbox)"
    if text.startswith("'dict object' has no attribute "):
        return f"`cookiecutter.{text.split()[-1].strip(chr(39))}` is not defined"
    name = type(error).__name__
    return text if isinstance(error, JinjaError) or text == name else f"{name}: {text}"
