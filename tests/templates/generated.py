"""Which answers the tests render: the defaults, each other value of each answer, and a covering set of all pairs."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from paccel.catalog import Template, bundled_names, load_template
from paccel.questions import resolve_answers
from paccel.render import render
from paccel.tree import File

Answers = dict[str, Any]

TEMPLATES = bundled_names()
assert TEMPLATES, "no bundled template was found"
SNAPSHOTS = Path(__file__).parents[1] / "snapshots"


def choices(template: Template) -> dict[str, list[Any]]:
    """The values that each question with a choice can take, its default first."""
    values = {}
    for question in template.questions:
        if question.kind == "bool":
            values[question.name] = [question.default, not question.default]
        elif question.kind == "choice":
            values[question.name] = [question.default, *(c for c in question.choices if c != question.default)]
    return values


def single_changes(template: Template) -> dict[str, Answers]:
    """The defaults, and one set of answers for each other value of each answer, by name."""
    values = choices(template)
    sets: dict[str, Answers] = {"default": {}}
    for name, options in values.items():
        for value in options[1:]:
            sets[f"{name}-{str(value).lower()}"] = {name: value}
    return sets


def covering_set(template: Template, size: int = 2) -> list[Answers]:
    """A small set of answers in which each combination of `size` values occurs; greedy, the same each time."""
    values = choices(template)
    missing = {
        tuple(zip(names, combination, strict=True))
        for names in combinations(values, size)
        for combination in product(*(values[name] for name in names))
    }
    everything = [dict(zip(values, row, strict=True)) for row in product(*values.values())]
    chosen: list[Answers] = []
    while missing:
        best = max(everything, key=lambda row: sum(set(pairs) <= row.items() for pairs in missing))
        missing = {pairs for pairs in missing if not set(pairs) <= best.items()}
        chosen.append(best)
    return chosen


def rendered(name: str, answers: Answers) -> dict[str, File]:
    template = load_template(name)
    return render(template, resolve_answers(template, answers, project_name="my-project"))


def cases(sets: Callable[[Template], Any]) -> list[Any]:
    """A parameter for each template and each of its sets of answers."""
    found = []
    for name in TEMPLATES:
        all_sets = sets(load_template(name))
        named = all_sets if isinstance(all_sets, dict) else {str(i): answers for i, answers in enumerate(all_sets)}
        found += [pytest.param(name, answers, id=f"{name}-{label}") for label, answers in named.items()]
    return found


def check(command: list[str], folder: Path, timeout: float = 300, **environment: str) -> str:
    """Run a command in a project, and fail with what it printed if it does."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
