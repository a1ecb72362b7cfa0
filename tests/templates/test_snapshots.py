"""What the templates generate, byte for byte: real files under tests/snapshots, to be read in review."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from generated import SNAPSHOTS, TEMPLATES, cases, check, covering_set, rendered, single_changes

from paccel.catalog import load_template
from paccel.tree import read_tree, tree_hash, write_tree


@pytest.mark.parametrize(("name", "answers"), cases(single_changes))
def test_rendering_equals_the_snapshot(name: str, answers: dict[str, Any], request: pytest.FixtureRequest) -> None:
    label = next(key for key, value in single_changes(load_template(name)).items() if value == answers)
    folder = SNAPSHOTS / name / label
    tree = rendered(name, answers)
    if request.config.getoption("update_snapshots"):
        shutil.rmtree(folder, ignore_errors=True)
        write_tree(folder, tree)
    kept = read_tree(folder)
    assert sorted(tree) == sorted(kept)
    for path, file in tree.items():
        assert file == kept[path], f"`{path}` differs: `pytest tests/templates --update-snapshots` writes it again"


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_else_lies_among_the_snapshots(name: str) -> None:
    assert {path.name for path in SNAPSHOTS.iterdir()} == set(TEMPLATES)
    expected = {*single_changes(load_template(name)), "pairs.json"}
    assert {path.name for path in (SNAPSHOTS / name).iterdir()} == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_pair_of_answers_renders_to_its_hash_and_is_clean(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kept = SNAPSHOTS / name / "pairs.json"
    hashes = []
    for number, answers in enumerate(covering_set(load_template(name))):
        tree = rendered(name, answers)
        hashes.append({"answers": answers, "sha256": tree_hash(tree)})
        write_tree(tmp_path / str(number), tree)
    if request.config.getoption("update_snapshots"):
        kept.write_text(json.dumps(hashes, indent=2) + "\n")
    assert hashes == json.loads(kept.read_text())
    check(["ruff", "check", "."], tmp_path)
    for folder in sorted(tmp_path.iterdir()):  # black takes one configuration for a call
        check(["black", "--check", "--quiet", "."], folder)


@pytest.mark.parametrize(("name", "answers"), [*cases(single_changes), *cases(covering_set)])
def test_generated_code_is_whole(name: str, answers: dict[str, Any]) -> None:
    tree = rendered(name, answers)
    for path, file in tree.items():
        text = file.content.decode()
        assert not re.search(r"cookiecutter|\{[{%]|# %", text), f"`{path}` holds what only the template should"
        if path.endswith(".py"):
            ast.parse(text, path)
    length = len(tree["train.py"].content.splitlines())
    assert (150 if not answers else 0) <= length <= (220 if not answers else 300)
