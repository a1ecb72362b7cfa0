"""The Jinja environment of a template: like cookiecutter's, but sandboxed, because a template may come from anywhere."""

import functools
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any, cast

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateNotFound
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from ..errors import TemplateError
from .budget import Budget, TooMuch, check_format, check_operator, check_product, check_size, check_slow, weight
from .draws import Draws
from .extensions import CookiecutterExtensions

_ALLOWED_EXTENSIONS = ("jinja2.ext.", "cookiecutter.extensions.")
_BUILT_IN_EXTENSIONS = {
    "jinja2_time.TimeExtension",  # `{% now %}`, before cookiecutter included it
    *(f"cookiecutter.extensions.{name}Extension" for name in ("Jsonify", "RandomString", "Slugify", "Time", "UUID")),
}
_GROWING_FILTERS = {"batch", "center", "format", "indent", "join", "jsonify", "replace", "slice", "tojson", "wordwrap"}
"""Filters whose result may be larger than their arguments."""
_SLOW_FILTERS = {"wordwrap"}
"""Filters that a crafted text makes quadratically slow, in one step that nothing can interrupt."""
_RANDOM_FUNCTIONS = ("random_ascii_string", "uuid4", "lipsum")


class RandomFunction:
    """A random function for templates. Its values are drawn once per project and then recorded."""

    def __init__(self, draws: Draws, name: str, draw: Callable[..., str]) -> None:
        self._draws, self._name, self._draw = draws, name, draw

    def __call__(self, *arguments: Any, **options: Any) -> str:
        return self.at("", "", *arguments, **options)

    def at(self, template: str, line: str, *arguments: Any, **options: Any) -> str:
        """Return the value of a call in `line` of `template`."""
        value = self._draws.value(self._name, template, line, lambda: str(self._draw(*arguments, **options)))
        is_html = self._name == "lipsum" and options.get("html", arguments[1:2] != (False,))
        return Markup(value) if is_html else value


class TemplateEnvironment(SandboxedEnvironment):
    """A Jinja sandbox with limits. Undefined names are errors.

    Attributes:
        draws: The template's random values and its clock.
        budget: The limits of the render.
    """

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, draws: Draws, budget: Budget, **options: Any) -> None:
        super().__init__(**options)
        self.draws, self.budget = draws, budget
        for name in _GROWING_FILTERS | _SLOW_FILTERS:
            self.filters[name] = self._limited(name, self.filters[name])
        for name in _RANDOM_FUNCTIONS:
            function = self._limited(name, cast(Callable[..., Any], self.globals[name]))
            self.globals[name] = RandomFunction(draws, name, function)
        self.filters["random"] = _random
        self.finalize = self.count_output

    def preprocess(self, source: str, name: str | None = None, filename: str | None = None) -> str:
        """Keep the blank line after a line statement, which Jinja would remove with the statement."""
        text = str(super().preprocess(source, name, filename))
        if self.line_statement_prefix is None:
            return text
        statement = rf"^([ \t]*{re.escape(self.line_statement_prefix)}.*\n)(?=[ \t]*\n)"
        nothing = f"{self.variable_start_string} '' {self.variable_end_string}"
        return re.sub(statement, lambda found: found[1] + nothing, text, flags=re.MULTILINE)

    def compile(  # type: ignore[override]
        self,
        source: str | nodes.Template,
        name: str | None = None,
        filename: str | None = None,
        raw: bool = False,
        defer_init: bool = False,
    ) -> str | CodeType:
        """Compile a template so that its loops check the budget and its random calls know their line."""
        if isinstance(source, str):
            instrument = _Instrument(name or "", source.splitlines())
            source = instrument.visit(self.parse(source, name, filename)).set_environment(self)
            self.draws.add_sites(name or "", instrument.sites)
        return super().compile(source, name, filename, raw=raw, defer_init=defer_init)  # type: ignore[call-overload, no-any-return]

    def call(__self, __context: Context, __callable: Any, *arguments: Any, **options: Any) -> Any:
        """Call a function for a template, within the limits."""
        __self.budget.check()
        method = getattr(__callable, "__wrapped__", __callable)  # the sandbox wraps `str.format`
        owner = getattr(method, "__self__", None)
        given = [*arguments, *options.values()]
        if isinstance(owner, (str, bytes)) and method.__name__.startswith("format"):
            check_format(owner, given)
        elif isinstance(owner, (str, bytes)):
            check_product(owner, given)
        elif isinstance(owner, int):
            check_product("", given)
        elif isinstance(owner, list):
            check_size(len(owner) + weight(given))
        result = super().call(__context, __callable, *arguments, **options)
        if isinstance(result, (str, bytes, list)):
            check_size(len(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator, within the limits."""
        check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def count_loop(self, items: Iterable[Any], size: int) -> Iterator[Any]:
        """Yield the items of a loop; its body has `size` characters of text."""
        for item in items:
            self.budget.spend(size)
            yield item

    def check_joined(self, text: str) -> str:
        """Return the result of `~`, unless it is too long."""
        check_size(len(text))
        return text

    def count_output(self, value: Any) -> Any:
        """Return the value of an expression in the text, after counting its size."""
        self.budget.spend(weight(value))
        return value

    def at_line(self, function: Any, template: str, line: str) -> Any:
        """Return a random function as it is called in `line` of `template`."""
        return functools.partial(function.at, template, line) if isinstance(function, RandomFunction) else function

    def _limited(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter or function that checks the limits before each call."""

        @functools.wraps(function)  # keeps Jinja's attributes, such as `jinja_pass_arg`
        def limited(*arguments: Any, **options: Any) -> Any:
            self.budget.check()
            first = int(hasattr(function, "jinja_pass_arg"))
            value, given = arguments[first : first + 1], [*arguments[first + 1 :], *options.values()]
            if name == "format":
                check_format(value[0], given)
            elif name == "lipsum":
                check_size(math.prod(abs(n) for n in [*value, *given] if isinstance(n, int)) * 2**10)
            elif name == "random_ascii_string":
                check_size(max((abs(n) for n in [*value, *given] if isinstance(n, int)), default=0) * 2**6)
            elif value:
                check_product(value[0], given)
            if name in _SLOW_FILTERS and value:
                check_slow(value[0], name)
            return function(*arguments, **options)

        return limited


class _Instrument(NodeTransformer):
    """Inserts calls of the environment into a parsed template: in loops, at `~`, and where it draws random values."""

    def __init__(self, template: str, lines: list[str]) -> None:
        self.template, self.lines = template, lines
        self.sites: list[str] = []

    def visit_For(self, node: nodes.For) -> nodes.Node:  # Jinja finds visitors by this name
        size = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _environment_call("count_loop", cast(nodes.Expr, node.iter), nodes.Const(size))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _environment_call("check_joined", node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.node, nodes.Name) and node.node.name in _RANDOM_FUNCTIONS:
            node.node = _environment_call("at_line", node.node, *self._site(node))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        if node.name == "random":
            node.args += self._site(node)
        return node

    def _site(self, node: nodes.Node) -> list[nodes.Expr]:
        """Return the template and line of a node as constants; the line is numbered if it occurs more than once."""
        line = self.lines[node.lineno - 1].strip() if node.lineno <= len(self.lines) else ""
        same = sum(site == line or site.startswith(f"{line} #") for site in self.sites)
        self.sites.append(f"{line} #{same + 1}" if same else line)
        return [nodes.Const(self.template), nodes.Const(self.sites[-1])]


def _environment_call(method: str, *arguments: nodes.Expr) -> nodes.Call:
    lineno = arguments[0].lineno
    function = nodes.EnvironmentAttribute(method, lineno=lineno)
    return nodes.Call(function, [*arguments], [], None, None, lineno=lineno)


@pass_context
def _random(context: Context, values: Sequence[Any], template: str = "", line: str = "") -> Any:
    """Jinja's filter `random`, drawn once per project."""
    texts = [str(value) for value in values]
    draws: Draws = context.environment.draws  # type: ignore[attr-defined]
    text = draws.value("random", template, line, lambda: random.choice(texts) if texts else "")
    if not texts:
        return context.environment.undefined("No random item, sequence was empty.")
    return values[texts.index(text)] if text in texts else random.choice(values)


def make_environment(
    entries: Mapping[str, Any], where: str, draws: Draws | None = None, budget: Budget | None = None
) -> TemplateEnvironment:
    """Build the environment that a `cookiecutter.json` configures.

    Args:
        entries: The content of `cookiecutter.json`.
        where: The template's name, for errors.
        draws: The template's random values and its clock.
        budget: The limits of the render.

    Raises:
        TemplateError: An extension would run the template's code, or Jinja does not have an option.
    """
    wanted, options = entries.get("_extensions", []), entries.get("_jinja2_env_vars", {})
    if not isinstance(wanted, list) or not isinstance(options, dict):
        raise TemplateError(f"`_extensions` of `{where}` must be a list, and `_jinja2_env_vars` a table")
    extensions = [name for name in map(str, wanted) if name not in _BUILT_IN_EXTENSIONS]
    for extension in extensions:
        if not extension.startswith(_ALLOWED_EXTENSIONS):
            raise TemplateError(
                f"`{where}` uses the Jinja extension `{extension}`, but paccel never runs code from a template: only"
                " extensions in `jinja2.ext` and `cookiecutter.extensions` work"
            )
    try:
        return TemplateEnvironment(
            draws or Draws(),
            budget or Budget(),
            undefined=StrictUndefined,
            extensions=[CookiecutterExtensions, *extensions],
            keep_trailing_newline=True,
            **options,
        )
    except Exception as error:  # Jinja does not check its options in one place
        raise TemplateError(f"`_jinja2_env_vars` or `_extensions` of `{where}` cannot be used: {error}") from error


def describe(error: Exception) -> str:
    """Describe an error of a template in one line."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, TemplateNotFound):
        return f"it includes `{error.name}`, which does not exist"
    if isinstance(error, SecurityError):
        return f"{text} (templates are rendered in a sandbox)"
    if isinstance(error, TooMuch):
        return text
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or includes or calls itself endlessly"
    missing = re.fullmatch(r"'.*[dD]ict object' has no attribute '(.*)'", text)
    if missing is not None:
        return f"`cookiecutter.{missing[1]}` is not defined"
    name = type(error).__name__
    return text if isinstance(error, JinjaError) or text == name else f"{name}: {text}"
