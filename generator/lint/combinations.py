"""Pairwise testing: a small set of answers in which each pair of choices occurs."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

from ..catalog.template import Template

Answers = dict[str, Any]


def choices(template: Template) -> dict[str, list[Any]]:
    """Return the values that each question with choices can take, default first; for a multiple choice also none and all."""
    values: dict[str, list[Any]] = {}
    for question in template.questions:
        if question.kind == "bool":
            values[question.name] = [question.default, not question.default]
        elif question.kind == "choice":
            values[question.name] = [question.default, *(c for c in question.choices if c != question.default)]
        elif question.kind == "choices" and isinstance(question.default, list):
            sets = (",".join(question.default), "", ",".join(question.choices))
            values[question.name] = [*dict.fromkeys(sets)]
    return values


def covering_set(values: Mapping[str, list[Any]]) -> list[Answers]:
    """Return a small set of answers in which each pair of values occurs. It is greedy and deterministic.

    Each row starts with a missing pair. Each other question in turn takes the value that adds the most missing pairs to the
    row; of equal values the first, so the default where nothing is gained. Without pairs, one question takes each of its
    values.
    """
    missing = {
        frozenset(zip(names, pair, strict=True)): None
        for names in combinations(values, 2)
        for pair in product(*(values[name] for name in names))
    }
    rows: list[Answers] = []
    while missing:
        row = dict(sorted(next(iter(missing))))

        def gain(name: str, value: Any, row: Answers = row) -> int:
            return sum(frozenset([(name, value), other]) in missing for other in row.items())

        for name, options in values.items():
            if name not in row:
                row[name] = max(options, key=lambda value, name=name: gain(name, value))  # type: ignore[misc]
        for pair in combinations(row.items(), 2):
            missing.pop(frozenset(pair), None)
        rows.append({name: row[name] for name in values})
    if not rows and len(values) == 1:
        name, options = next(iter(values.items()))
        return [{name: value} for value in options]
    return rows or [{}]
