"""The Jinja environment of a template: cookiecutter's own, in a sandbox, because a template may come from anywhere."""

import re
from collections.abc import Mapping
from typing import Any

from cookiecutter.environment import StrictEnvironment
from jinja2.exceptions import SecurityError, TemplateNotFound
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.sandbox import SandboxedEnvironment

from .errors import TemplateError

_ALLOWED_EXTENSIONS = ("jinja2.ext.", "cookiecutter.extensions.")


class TemplateEnvironment(SandboxedEnvironment, StrictEnvironment):  # type: ignore[misc]  # cookiecutter is untyped
    """Undefined names are errors, and a template reaches no Python object beyond what it is given."""

    def preprocess(self, source: str, name: str | None = None, filename: str | None = None) -> str:
        """Keep the blank line behind a line statement, which Jinja would swallow as if it were a part of it."""
        text = str(super().preprocess(source, name, filename))
        if self.line_statement_prefix is None:
            return text
        statement = rf"^([ \t]*{re.escape(self.line_statement_prefix)}.*\n)(?=[ \t]*\n)"
        nothing = f"{self.variable_start_string} '' {self.variable_end_string}"
        return re.sub(statement, rf"\g<1>{nothing}", text, flags=re.MULTILINE)


def make_environment(settings: Mapping[str, Any], where: str) -> TemplateEnvironment:
    """Build the environment that a `cookiecutter.json` asks for; `where` names the template in errors.

    Raises:
        TemplateError: It asks for an extension that would run the template's code, or for options that Jinja lacks.
    """
    for extension in settings.get("_extensions", []):
        if not str(extension).startswith(_ALLOWED_EXTENSIONS):
            raise TemplateError(
                f"`{where}` asks for the Jinja extension `{extension}`: paccel runs no code of a template, only"
                " extensions in `jinja2.ext` and `cookiecutter.extensions`"
            )
    options = settings.get("_jinja2_env_vars", {})
    try:
        return TemplateEnvironment(context={"cookiecutter": settings}, keep_trailing_newline=True, **options)
    except Exception as error:  # the options are the template's, and Jinja does not check them in one place
        raise TemplateError(f"`_jinja2_env_vars` or `_extensions` of `{where}` cannot be used: {error}") from error


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
