"""Which answers the tests render: those kept as snapshots, and a covering set of all pairs."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import DEFAULT_TEMPLATE, bundled_names, load_template
from paccel.catalog.template import Template
from paccel.files.tree import File
from paccel.lint import combinations
from paccel.lint.combinations import choices
from paccel.render.render import render

Answers = dict[str, Any]

TEMPLATES = bundled_names()
assert TEMPLATES, "no bundled template was found"
SNAPSHOTS = Path(__file__).parents[1] / "snapshots"


@cache
def loaded(name: str) -> Template:
    """A template, cached."""
    return load_template(name)


def single_changes(template: Template) -> dict[str, Answers]:
    """The defaults, and one set of answers for each other value of each answer, by name."""
    values = choices(template)
    sets: dict[str, Answers] = {"default": {}}
    for name, options in values.items():
        for value in options[1:]:
            sets[f"{name}-{str(value).lower()}"] = {name: value}
    return sets


def sample(template: Template) -> dict[str, Answers]:
    """The defaults and a few sets of answers in which each value of each answer occurs, by name.

    Each answer cycles through its own values, so the row with one answer's second value has the second value of all.
    """
    values = choices(template)
    rows = max((len(options) for options in values.values()), default=1)
    sets: dict[str, Answers] = {"default": {}}
    for row in range(1, rows):
        sets[f"sample-{row}"] = {name: options[row % len(options)] for name, options in values.items()}
    return sets


def kept(template: Template) -> dict[str, Answers]:
    """What snapshots cover: for the default template each value of each answer alone, for the others the sample."""
    return single_changes(template) if template.name == DEFAULT_TEMPLATE else sample(template)


@cache
def others(name: str) -> dict[str, Answers]:
    """The answers of `kept` that are not the defaults, by name."""
    return {label: answers for label, answers in kept(loaded(name)).items() if answers}


def covering_set(template: Template) -> list[Answers]:
    """A small set of answers in which each pair of values occurs."""
    return combinations.covering_set(choices(template))


def rendered(name: str, answers: Answers) -> dict[str, File]:
    return dict(_rendered(name, tuple(answers.items())))


@cache
def _rendered(name: str, answers: tuple[tuple[str, Any], ...]) -> dict[str, File]:
    template = loaded(name)
    return render(template, resolve_answers(template, dict(answers), project_name="my-project"))


def cases(sets: Callable[[Template], Any]) -> list[Any]:
    """A parameter for each template and each of its sets of answers."""
    found = []
    for name in TEMPLATES:
        all_sets = sets(loaded(name))
        named = all_sets if isinstance(all_sets, dict) else {str(i): answers for i, answers in enumerate(all_sets)}
        found += [pytest.param(name, answers, id=f"{name}-{label}") for label, answers in named.items()]
    return found


def check(command: list[str], folder: Path, timeout: float = 300, **environment: str) -> str:
    """Run a command in a project; if it fails, fail with its output."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
