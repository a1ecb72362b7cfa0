"""A project cannot have the name of a package that it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.quick import quick_first

from paccel.catalog.catalog import load_template
from paccel.errors import UsageError
from paccel.files.tree import File
from paccel.render.requirements import refuse_own_requirement

Run = Callable[..., Any]


@pytest.mark.parametrize(
    "name", quick_first(["torch", "accelerate", "Torch", "scikit_learn", "paccel", "numpy", "pytest"])
)
def test_the_name_of_a_dependency_is_refused(name: str, paccel: Run, work: Path) -> None:
    outcome = paccel("new", name, "--template", "minimal", "--no-input")
    assert outcome.code == 2
    assert f"did you mean `my-{name}`?" in outcome.err
    assert not list(work.iterdir())


@pytest.mark.parametrize("name", ["my-torch", "torchy", "timm"])
def test_other_names_are_free(name: str, paccel: Run) -> None:
    assert paccel("new", name, "--template", "minimal", "--no-input", "--dry-run").code == 0


def test_a_template_that_asks_for_no_package_has_any_name(
    template: Callable[..., Path], paccel: Run, work: Path
) -> None:
    folder = template({"pyproject.toml": '[project]\nname = "fixed"\ndependencies = ["torch"]\n'})
    assert paccel("new", "torch", "--template", folder, "--no-input").code == 0


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('[project]\ndependencies = ["some-package >= 2"]\n', True),
        ('[project]\noptional-dependencies = { a = ["some_package"] }\n', True),
        ('[project]\noptional-dependencies = { all = ["some-package[a]"] }\n', False),
        ('[project]\ndependencies = ["not a requirement ]["]\n', False),
        ("[project]\ndependencies = 5\n", False),
        ("project = 5\n", False),
        ("[project", False),
    ],
)
def test_requirements_are_read_from_the_render(text: str, refused: bool) -> None:
    template, tree = load_template("minimal"), {"pyproject.toml": File(text.encode())}
    answers = {"project_name": "Some_Package"}
    if refused:
        with pytest.raises(UsageError, match="`my-Some_Package`"):
            refuse_own_requirement(template, answers, tree)
    else:
        refuse_own_requirement(template, answers, tree)
