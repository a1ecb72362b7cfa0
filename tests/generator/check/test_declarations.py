"""Contradictions in what a project declares: found if they are certain."""

import pytest

from paccel.check.declarations import check_declarations
from paccel.files.tree import File


def rules(files: dict[str, str]) -> list[tuple[str, int, str]]:
    found = check_declarations({path: File(text.encode()) for path, text in files.items()})
    return [(finding.path, finding.line, finding.rule) for finding in found]


def project(*dependencies: str, more: str = "") -> str:
    return f"[project]\nname = 'p'\ndependencies = {list(dependencies)}\n{more}"


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ("numpy<2", "numpy>=2", True),
        ("NumPy <2", "numpy ~=2.1", True),
        ("numpy==1.26.*", "numpy>=1.27", True),
        ("numpy==1.26.4", "numpy!=1.26.4", True),
        ("numpy>2,<2.1", "numpy>=2.1", True),
        ("numpy<2", "numpy>=1.26,!=1.26.*", False),
        ("numpy<=2", "numpy>=2", False),
        ("numpy>1", "numpy<1.0.1", False),
        ("numpy>=1!1", "numpy<2", True),
        ("numpy", "numpy>=2", False),
        ("numpy<2", "numpy>=2; python_version >= '3.12'", True),
        ("numpy<2; python_version < '3.12'", "numpy>=2; python_version >= '3.12'", False),
        ("numpy<2", "numpy @ https://example.org/numpy.whl", False),
        ("numpy<2", "scipy>=2", False),
        ("numpy===abc", "numpy>=2", False),
        ("not a requirement", "numpy>=2", False),
    ],
)
def test_pins_contradict_where_no_version_meets_both(one: str, other: str, contradict: bool) -> None:
    found = rules({"pyproject.toml": project(one), "requirements.txt": f"# needs\n{other}  # why\n"})
    assert found == [("requirements.txt", 2, "contradicting-pins")] * contradict


def test_pins_are_compared_with_those_they_are_installed_with() -> None:
    extra = "[project.optional-dependencies]\nold = ['numpy<2']\nnew = ['numpy>=2']\n"
    assert rules({"pyproject.toml": project("torch", more=extra)}) == []
    assert rules({"pyproject.toml": project("numpy>=2", more=extra)}) == [("pyproject.toml", 5, "contradicting-pins")]
    group = "[dependency-groups]\ndev = ['numpy<2', {include-group = 'other'}]\n"
    assert len(rules({"pyproject.toml": project("numpy>=2", more=group)})) == 1
    assert rules({"requirements.txt": "a<1\n", "requirements-dev.txt": "a>1\n"}) == []
    conda = "dependencies:\n  - python=3.11\n  - numpy<2\n  - pip:\n      - numpy>=2\n"
    assert rules({"environment.yml": conda}) == [("environment.yml", 5, "contradicting-pins")]


WORKFLOW = """on: push
jobs:
  lint:
    steps: []
  test:
    needs: {needs}
    steps: []
"""


@pytest.mark.parametrize(
    ("needs", "found"),
    [("lint", 0), ("[lint]", 0), ("style", 1), ("[lint, style]", 1), ("[a, b]", 2), ("{a: b}", 0), ("", 0), ("3", 0)],
)
def test_a_job_must_not_wait_for_one_that_is_gone(needs: str, found: int) -> None:
    text = WORKFLOW.format(needs=needs)
    assert rules({".github/workflows/ci.yml": text}) == [(".github/workflows/ci.yml", 6, "missing-job")] * found


def test_jobs_of_gitlab_are_read_where_nothing_is_included() -> None:
    text = "a:\n  script: x\nb:\n  needs: [a, {job: c}, {job: d, optional: true}, {pipeline: e}]\n"
    assert rules({".gitlab-ci.yml": text}) == [(".gitlab-ci.yml", 4, "missing-job")]
    assert rules({".gitlab-ci.yml": f"include: other.yml\n{text}"}) == []


@pytest.mark.parametrize(
    "text", ["jobs: [1]", "jobs: {a: 1}", "- a", "a: [", "\0", "jobs:\n  a: {needs: b}\n  ? [x]\n  : y"]
)
def test_a_workflow_of_another_form_is_no_reason_to_stop(text: str) -> None:
    assert isinstance(rules({".github/workflows/ci.yml": text}), list)


COMPOSE = """services:
  db:
    image: x
  train:
    image: y
    depends_on: {needs}
"""


@pytest.mark.parametrize(
    ("needs", "found"),
    [
        ("[db]", 0),
        ("[db, store]", 1),
        ("{store: {condition: service_started}}", 1),
        ("{store: {required: false}}", 0),
        ("store", 0),
        ("", 0),
        ("[1, [a]]", 0),
    ],
)
@pytest.mark.parametrize("path", ["compose.yaml", "deploy/docker-compose.gpu.yml"])
def test_a_service_must_not_depend_on_one_that_is_gone(path: str, needs: str, found: int) -> None:
    assert rules({path: COMPOSE.format(needs=needs)}) == [(path, 6, "missing-service")] * found


def test_services_of_other_compose_files_in_the_folder_are_there() -> None:
    text = COMPOSE.format(needs="[store]")
    more = "services:\n  store:\n    image: z\n"
    assert rules({"compose.yaml": text, "compose.override.yaml": more}) == []
    assert rules({"compose.yaml": f"include: [more.yaml]\n{text}"}) == []
    assert rules({"compose.yaml": text, "other/compose.yaml": more}) == [("compose.yaml", 6, "missing-service")]
    for damaged in ("services: [1]", "services: {a: 1}", "- a", "services:\n  ? [x]\n  : {depends_on: [y]}"):
        assert isinstance(rules({"compose.yaml": damaged}), list)


MODULES = {
    "train.py": "import a as b\n\n\ndef main(): pass\n\n\nif x:\n    y = 1\n",
    "src/pkg/__init__.py": "",
    "src/pkg/cli.py": "class App: pass\n",
}


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("train:main", False),
        ("train:b", False),
        ("train:y", False),
        ("train", False),
        ("pkg.cli:App.run", False),
        ("pkg.cli:App [extra]", False),
        ("train:run", True),
        ("trains:main", True),
        ("pkg.cmd:App", True),
    ],
)
def test_a_script_must_lead_to_something(target: str, found: bool) -> None:
    for table in ("scripts", "gui-scripts", "entry-points.'a.b'"):
        text = project(more=f"[project.{table}]\nrun = '{target}'\n")
        assert rules({"pyproject.toml": text, **MODULES}) == [("pyproject.toml", 5, "dead-script")] * found


def test_a_module_that_may_have_any_name_has_it() -> None:
    text = project(more="[project.scripts]\nrun = 'a:main'\n")
    for source in ("from b import *\n", "def __getattr__(name): ...\n", "def main(:\n"):
        assert rules({"pyproject.toml": text, "a.py": source}) == []


def test_folders_that_setuptools_is_told_of_hold_modules() -> None:
    where = "[project.scripts]\nrun = 'p.a:main'\n[tool.setuptools.package-dir]\np = 'lib'\n"
    assert rules({"pyproject.toml": project(more=where), "lib/a.py": "def main(): ...\n"}) == []


@pytest.mark.parametrize("text", ["[project", "project = 3\n", "[project]\ndependencies = 3\nscripts = [1]\n", "\xff"])
def test_a_project_file_of_another_form_is_no_reason_to_stop(text: str) -> None:
    assert rules({"pyproject.toml": text}) == []
