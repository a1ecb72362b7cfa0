"""Find branches that no choice reaches, by evaluating each condition with all choices of its questions."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import combinations, product
from typing import Any, NamedTuple, cast

from jinja2 import nodes

from ..catalog.questions import Question, parse_questions
from ..catalog.template import Layer
from ..sandbox.environment import TemplateEnvironment
from .finding import Finding
from .names import references
from .sources import Source, Sources, all_layers

MAX_COMBINATIONS = 4096
MAX_CHOICES_AT_ONCE = 8

_RANDOM = {"now", "random", "lipsum", "uuid4", "random_ascii_string"}


class Condition(NamedTuple):
    """A Jinja test, and whether it has to be true or false."""

    test: nodes.Node
    holds: bool


class _Decider:
    """Decides whether some choice of answers meets several conditions."""

    def __init__(self, environment: TemplateEnvironment, options: Mapping[str, list[Any]]) -> None:
        self.environment, self.options = environment, options
        self._values: dict[tuple[str, tuple[Any, ...]], bool] = {}

    def questions(self, test: nodes.Node) -> tuple[str, ...] | None:
        """Return the questions that a condition depends on; None if it also depends on something without choices."""
        names = {found.name for found in references(_output(test))}
        others = {node.name for node in _output(test).find_all(nodes.Name)} - {"cookiecutter"}
        drawn = {node.name for node in _output(test).find_all(nodes.Filter)} & _RANDOM
        return None if others or drawn or not names <= self.options.keys() else tuple(sorted(names))

    def possible(self, conditions: list[Condition]) -> bool:
        """Whether some choice meets all conditions that depend on choices alone."""
        known = [(condition, self.questions(condition.test)) for condition in conditions]
        decided = [(condition, names) for condition, names in known if names is not None]
        asked = sorted({name for _, names in decided for name in names})
        size = 1
        for name in asked:
            size *= len(self.options[name])
        if size > MAX_COMBINATIONS:
            return True
        for values in product(*(self.options[name] for name in asked)):
            answers = dict(zip(asked, values, strict=True))
            if all(self._value(condition.test, names, answers) == condition.holds for condition, names in decided):
                return True
        return False

    def _value(self, test: nodes.Node, names: tuple[str, ...], answers: Mapping[str, Any]) -> bool:
        key = repr(test), tuple(repr(answers[name]) for name in names)
        if key not in self._values:
            chosen = nodes.CondExpr(cast(nodes.Expr, test), nodes.Const("1"), nodes.Const(""), lineno=1)
            text = nodes.Template([nodes.Output([chosen], lineno=1)], lineno=1)
            text.set_environment(self.environment)
            self.environment.budget.begin()
            rendered = self.environment.from_string(text).render(cookiecutter={name: answers[name] for name in names})
            self._values[key] = bool(rendered)
        return self._values[key]


def _output(test: nodes.Node) -> nodes.Output:
    """Wrap a condition in a node, so that `find_all` finds the condition itself too."""
    return nodes.Output([cast(nodes.Expr, test)])


def check_branches(sources: Sources) -> Iterator[Finding]:
    """Find branches of `if` in files and paths, and questions' `when`, that no choice reaches."""
    template = sources.template
    deciders = {
        id(layer): _Decider(sources.environment(layer), _options(sources, layer)) for layer in all_layers(template)
    }
    paths = {(id(source.layer), source.target): source for source in sources.texts if source.kind == "path"}
    when = {id(layer): extra.when for extra, layer in template.extras}
    for source in sources.texts:
        if source.tree is None or (source.kind == "partial" and source.path.startswith("../")):
            continue  # a branch of a shared partial may serve another template
        layer = source.layer
        around = _when(when.get(id(layer), {}))
        path = paths.get((id(layer), source.target)) if source.kind == "file" else None
        if path is not None and path.tree is not None:
            around += _whole(path.tree)
        with suppress(Exception):  # of a condition that fails to render: `check_renders` reports it
            yield from _dead(source, source.tree.body, around, deciders[id(layer)])
    for question in template.questions:
        condition = question.settings.when
        decider = deciders[id(template.layers[-1])]
        if condition and not isinstance(condition, str) and not decider.possible(_when(condition)):
            file, line = sources.entry(question.name)
            text = f"`{question.name}` is never asked: no choice meets its `when`"
            yield Finding("dead-branch", file, line, text, question.name)


def _dead(source: Source, body: list[nodes.Node], around: list[Condition], decider: _Decider) -> Iterator[Finding]:
    for node in body:
        if isinstance(node, nodes.If):
            yield from _dead_if(source, node, around, decider)
        else:
            for _, inner in node.iter_fields():
                if isinstance(inner, list) and all(isinstance(child, nodes.Node) for child in inner):
                    yield from _dead(source, inner, around, decider)


def _dead_if(source: Source, node: nodes.If, around: list[Condition], decider: _Decider) -> Iterator[Finding]:
    before = [*around]
    for branch in [node, *node.elif_]:
        here = [*before, Condition(branch.test, True)]
        if decider.questions(branch.test) is not None and not decider.possible(here):
            earlier = " under the conditions around it" if before else ""
            text = (
                f"no choice reaches this branch: its condition is never true{earlier}; remove it, or fix the condition"
            )
            yield Finding("dead-branch", source.path, source.at(branch.lineno), text)
        else:
            yield from _dead(source, branch.body, here, decider)
        before.append(Condition(branch.test, False))
    if node.else_:
        if all(decider.questions(condition.test) is not None for condition in before[len(around) :]) and not (
            decider.possible(before)
        ):
            text = "no choice reaches the `else` of this `if`: one of its conditions is always true"
            yield Finding("dead-branch", source.path, source.at(node.lineno), text)
        else:
            yield from _dead(source, node.else_, before, decider)


def _options(sources: Sources, layer: Layer) -> dict[str, list[Any]]:
    """Return the values that each question with choices can have in a layer's files."""
    fixed = sources.template.metadata.fixed
    asked = {question.name: question for question in parse_questions(layer.entries, layer.name)}
    asked |= {question.name: question for question in sources.template.questions}
    found: dict[str, list[Any]] = {}
    for name, question in asked.items():
        values = _values(question, layer.entries.get(name))
        if values and not (name in fixed and name not in layer.entries):
            found[name] = values
    return found


def _values(question: Question, raw: Any) -> list[Any]:
    if question.kind == "bool":
        return [True, False]
    if any("{" in choice or "<" in choice or "%" in choice for choice in question.choices):
        return []  # choices that may be rendered
    if question.kind == "choices":
        some = question.choices[:MAX_CHOICES_AT_ONCE]
        if len(some) < len(question.choices):
            return []
        return [[*part] for size in range(len(some) + 1) for part in combinations(some, size)]
    if question.kind == "choice":
        return [*raw] if isinstance(raw, list) else [*question.choices]
    return []


def _when(when: Mapping[str, str | bool]) -> list[Condition]:
    """Return the `when` of an extra or a question as Jinja conditions."""
    found = []
    for name, value in when.items():
        answer = nodes.Getattr(nodes.Name("cookiecutter", "load", lineno=1), name, "load", lineno=1)
        same = nodes.Compare(answer, [nodes.Operand("eq", nodes.Const(value))], lineno=1)
        member = nodes.Compare(nodes.Const(value), [nodes.Operand("in", answer)], lineno=1)
        is_list = nodes.And(nodes.Test(answer, "sequence", [], [], None, None), member, lineno=1)
        either = nodes.Or(same, is_list, lineno=1) if isinstance(value, str) else same
        found.append(Condition(either, True))
    return found


def _whole(tree: nodes.Template) -> list[Condition]:
    """Return the condition without which a path renders to nothing."""
    if len(tree.body) == 1 and isinstance(tree.body[0], nodes.If) and not tree.body[0].else_ and not tree.body[0].elif_:
        return [Condition(tree.body[0].test, True)]
    return []
