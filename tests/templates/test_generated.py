"""Generated projects as their owners meet them: type-checked, installed, trained, tested."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import setuptools
from support.generated import TEMPLATES, Answers, check, choices, loaded, rendered, sample
from support.in_project import run_in
from support.quick import quick_first
from support.sampled import every_third_day, over_three_days, sampled

from paccel import __version__
from paccel.catalog.catalog import DEFAULT_TEMPLATE
from paccel.catalog.template import Template
from paccel.files.tree import write_tree

BUILD_TOOLS = str(Path(setuptools.__file__).parents[1])  # instead of a build environment, which would be downloaded
PYTEST = ["pytest", "-q", "-p", "no:cacheprovider"]


def tried(template: Template) -> dict[str, Answers]:
    """The defaults and what of the sample is trained in this run: all of the default template's, one of the others'."""
    answers = sample(template)
    labels = [label for label in answers if label != "default"]
    if template.name == "minimal":  # its one answer changes no code
        labels = []
    elif template.name != DEFAULT_TEMPLATE:
        labels = sampled(labels, 1)
    return {label: answers[label] for label in ("default", *labels)}


def trained_today() -> list[Any]:
    """The default project every day; what else is tried of its template, and the other templates, on a third day each."""
    cases = []
    for number, name in enumerate(TEMPLATES):
        for place, (label, answers) in enumerate(tried(loaded(name)).items()):
            turn = place if name == DEFAULT_TEMPLATE else number
            daily = name == DEFAULT_TEMPLATE and label == "default"
            marks = [] if daily else [every_third_day(turn % 3)]
            cases.append(pytest.param(name, answers, id=f"{name}-{label}", marks=marks))
    return cases


@pytest.mark.slow
@pytest.mark.parametrize(("name", "answers"), trained_today())
def test_the_project_trains_and_passes_its_own_tests(name: str, answers: dict[str, Any], tmp_path: Path) -> None:
    tree = rendered(name, answers)
    write_tree(tmp_path / "my-project", tree)
    # The defaults show that stopping and resuming changes nothing; the others, that they train. What the extras do is
    # the same text in each template: it is tried in one, but for the export, which depends on the model. What depends
    # on the data and the model is the template's own, and quick.
    chosen = ["-k", "not stopped_and_resumed"] if answers else []
    if answers and (name, answers) != (DEFAULT_TEMPLATE, sample(loaded(name))["sample-1"]):
        chosen = ["-k", "(test_train or test_data or test_model or export) and not stopped_and_resumed"]
    run_in(tmp_path / "my-project", *PYTEST, *chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answers"),
    over_three_days([("fine-tuning", {"data": "folder"}), ("image-classification", {"model": "torchvision"})]),
)
def test_data_and_model_train_together_where_no_sample_has_both(
    name: str, answers: dict[str, Any], tmp_path: Path
) -> None:
    write_tree(tmp_path / "my-project", rendered(name, answers))
    assert "1 passed" in run_in(tmp_path / "my-project", *PYTEST, "-k", "six_steps")


@pytest.mark.slow
@pytest.mark.timeout(900)
@every_third_day(1)
def test_every_project_passes_a_type_check(tmp_path: Path) -> None:
    # In one test, so that what mypy knows of torch and the other packages, most of its time, is found out once.
    options = [f"--cache-dir={tmp_path / 'mypy'}", "--ignore-missing-imports", "--check-untyped-defs"]
    for name in TEMPLATES:
        for label, answers in tried(loaded(name)).items():
            write_tree(tmp_path / name / label, rendered(name, answers))
            check(["mypy", *options, "--warn-unreachable", "."], tmp_path / name / label, timeout=800)


@pytest.mark.parametrize("name", quick_first(TEMPLATES))
def test_what_a_readme_says_to_set_is_an_answer_of_its_template(name: str) -> None:
    said = set(re.findall(r"`(?:paccel set )?([a-z_]+)=(\w+)`", rendered(name, {})["README.md"].content.decode()))
    known = {(question, str(value).lower()) for question, of in choices(loaded(name)).items() for value in of}
    assert said <= known
    assert said or known <= {("agents_md", "true"), ("agents_md", "false")}  # what AGENTS.md says itself


@pytest.mark.slow
@pytest.mark.parametrize("name", over_three_days(TEMPLATES))
def test_the_project_can_be_installed_for_editing(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "my-project", rendered(name, {}))
    check(["venv", "--system-site-packages", "--without-pip", "env"], tmp_path)
    python = next(path for path in (tmp_path / "env").glob("*/python*") if path.parent.name in ("bin", "Scripts"))
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(tmp_path / "my-project")]
    check(["pip", "--python", str(python), *install], tmp_path, PYTHONPATH=BUILD_TOOLS)
    (lines,) = (tmp_path / "env").glob("lib/*/site-packages/my_project-0.1.0.dist-info/METADATA")
    assert "Requires-Dist: paccel[runtime]" in lines.read_text()


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_runtime_is_bounded_to_the_minor_version(name: str) -> None:
    project = tomllib.loads(rendered(name, {})["pyproject.toml"].content.decode())["project"]
    major, minor = map(int, __version__.split(".")[:2])
    assert f"paccel[runtime]>={major}.{minor},<{major}.{minor + 1}" in project["dependencies"]
