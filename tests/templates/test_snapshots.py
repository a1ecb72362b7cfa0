"""What the templates generate, byte for byte, in tests/snapshots: made to be read in review.

The default project of each template is there whole, what other answers change in it as a diff, all pairs of answers as
hashes.
"""

import ast
import json
import re
import shutil
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import black
import pytest
from support.dead import dead_code
from support.generated import (
    SNAPSHOTS,
    TEMPLATES,
    cases,
    check,
    choices,
    covering_set,
    kept,
    loaded,
    others,
    rendered,
    sample,
)
from support.imports import undeclared
from support.sampled import over_three_days

from paccel.files.tree import File, tree_hash, write_tree
from paccel.testing.template import GeneratedProject, TemplateTester

NOT_JINJA = re.compile(r"\$\{\{.*?\}\}")  # an expression of GitHub's workflows
LINT = ["ruff", "check", "--no-cache", "--extend-select=ERA", "."]  # the project's own rules, and commented-out code
UPDATE = "differs from the snapshot; `pytest tests/templates --update-snapshots` writes it again"
LONGEST = 300  # lines of a train.py
LONGEST_DEFAULT = 220  # lines of the default template's, as generated
DEFAULTS: dict[str, GeneratedProject] = {}  # rendered so far


@cache
def formatted(text: str) -> str:
    """What black makes of a file of a generated project, by that project's settings."""
    return black.format_str(text, mode=black.Mode(line_length=120, target_versions={black.TargetVersion.PY311}))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_default_project_equals_its_snapshot(name: str, paccel_template: TemplateTester) -> None:
    paccel_template.at(name).render().check_snapshot()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "label"), [(name, label) for name in TEMPLATES for label in others(name)])
def test_another_answer_changes_the_default_project_as_its_snapshot_shows(
    name: str, label: str, paccel_template: TemplateTester
) -> None:
    template = paccel_template.at(name)
    default = DEFAULTS[name] = DEFAULTS.get(name) or template.render()
    template.render(others(name)[label]).check_difference(default, label)


def test_nothing_else_is_among_the_snapshots(request: pytest.FixtureRequest) -> None:
    expected = {f"{name}/{part}" for name in TEMPLATES for part in ("default", "pairs.json")}
    expected |= {f"{name}/{label}.diff" for name in TEMPLATES for label in others(name)}
    found = {path.relative_to(SNAPSHOTS).as_posix(): path for path in SNAPSHOTS.glob("*/*")}
    if request.config.getoption("update_snapshots"):
        for path in [found.pop(name) for name in found.keys() - expected]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert found.keys() == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_pairs_are_all_pairs_and_the_sample_has_every_value(name: str) -> None:
    template = loaded(name)
    values = choices(template)
    rows = covering_set(template)
    for (one, its), (other, their) in combinations(values.items(), 2):
        assert {(row[one], row[other]) for row in rows} == set(product(its, their))
    for question, options in values.items():
        assert {answers.get(question, options[0]) for answers in sample(template).values()} == set(options)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_pair_of_answers_renders_to_its_hash_and_is_clean(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = SNAPSHOTS / name / "pairs.json"
    hashes = []
    for number, answers in enumerate(covering_set(loaded(name))):
        tree = rendered(name, answers)
        hashes.append({"answers": answers, "sha256": tree_hash(tree)})
        write_tree(tmp_path / str(number), tree)
    if request.config.getoption("update_snapshots"):
        path.write_text(json.dumps(hashes, indent=2) + "\n")
    assert hashes == json.loads(path.read_text()), UPDATE
    check(LINT, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "answers"), over_three_days([*cases(kept), *cases(covering_set)]))
def test_generated_code_is_whole(name: str, answers: dict[str, Any]) -> None:
    tree = rendered(name, answers)
    for path, file in tree.items():
        text = NOT_JINJA.sub("", file.content.decode())
        assert not re.search(
            r"cookiecutter|\{[{%]|%\}|^\s*# % ", text, re.MULTILINE
        ), f"`{path}` holds what templates hold"
        if path.endswith(".py"):
            ast.parse(text, path)
            assert formatted(text) == text, path
    assert dead_code(tree) == []
    assert undeclared(tree) == set()
    limit = LONGEST_DEFAULT if (name, answers) == (TEMPLATES[0], {}) else LONGEST
    assert len(tree["train.py"].content.splitlines()) <= limit


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("def nobody_calls_it() -> None:\n    return None\n", "`nobody_calls_it` is not used"),
        ("UNUSED = 3\n", "`UNUSED` is not used"),
        ("@dataclass\nclass Config:\n    unread: int = 3\n", "`unread` is not used"),
        ("def main() -> int:\n    return 1\n    print(2)\n", "cannot run"),
        ("if False:\n    print(2)\n", "cannot run"),
        ("import json\n", "F401"),
        ("# x = compute(3)\n", "ERA001"),
        ("def main(x: int) -> None:\n    unused = x + 1\n", "F841"),
    ],
)
def test_what_nobody_needs_is_found(addition: str, message: str, tmp_path: Path) -> None:
    tree = rendered(TEMPLATES[0], {})
    model = File(tree["model.py"].content + b"\n\n" + addition.encode())
    write_tree(tmp_path, tree | {"model.py": model})
    found = dead_code(tree | {"model.py": model})
    if message.isupper():
        assert found == []
        with pytest.raises(AssertionError, match=message):
            check(LINT, tmp_path)
    else:
        assert [line for line in found if line.startswith("model.py") and message in line]


def test_a_package_that_is_not_asked_for_is_found() -> None:
    tree = rendered(TEMPLATES[0], {})
    model = File(
        tree["model.py"].content.replace(b"import torch\n", b"import pytest\nimport torch\nimport yaml.nodes\n")
    )
    assert undeclared(tree | {"model.py": model}) == {"model.py: yaml", "model.py: pytest"}
