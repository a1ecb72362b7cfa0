"""Rules for every template that comes with paccel."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.generated import rendered
from support.quick import quick_first
from support.sampled import every_third_day

from paccel.catalog.catalog import bundled_names, load_template
from paccel.catalog.questions import PROJECT_NAME
from paccel.catalog.template import Template
from paccel.files.tree import File, tree_hash

NAMES = bundled_names()

# What makes a render depend on the day, on chance or on the machine.
UNSTABLE = re.compile(r"\{%-?\s*now\b|random_ascii_string|uuid4|\|\s*random\b|_output_dir|_repo_dir|_template\b")


def defaults(name: str) -> tuple[Template, dict[str, File]]:
    return load_template(name), rendered(name, {})


def test_there_are_templates() -> None:
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_template_explains_itself(name: str) -> None:
    template = load_template(name)
    assert template.metadata.title
    assert template.metadata.description
    assert PROJECT_NAME in [question.name for question in template.questions]
    for question in template.questions:
        assert question.name == PROJECT_NAME or question.help, question.name
        assert set(question.choice_help) == set(question.choices), question.name
    assert not template.warnings


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_the_template_depends_on_day_chance_or_machine(name: str) -> None:
    template = load_template(name)
    for layer in [*template.layers, *(layer for _, layer in template.extras)]:
        assert "_extensions" not in layer.entries
        for path, file in {**layer.project, **layer.partials}.items():
            if b"\0" not in file.content:
                assert not UNSTABLE.search(file.content.decode()), f"{layer.name}/{path}"


SHARED_SETTINGS = {
    *("epochs", "max_steps", "global_batch_size", "eval_batch_size", "accumulate", "learning_rate", "max_grad_norm"),
    *("precision", "compile", "deterministic", "seed", "num_workers", "log_every", "eval_every", "save_every"),
    *("keep_last", "resume", "run_dir", "limit_batches", "trackers"),
}


@pytest.mark.parametrize("name", quick_first(NAMES))
def test_every_train_py_is_read_in_one_order_and_has_the_settings_that_all_share(name: str) -> None:
    tree = ast.parse(defaults(name)[1]["train.py"].content)
    names = [node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    assert ast.get_docstring(tree)
    assert names[0] == "Config"
    assert names[-1] == "main"
    assert "evaluate" in names
    config = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    fields = {
        node.target.id for node in config.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert fields >= SHARED_SETTINGS or (
        name == "minimal" and {"epochs", "global_batch_size", "resume", "run_dir"} <= fields
    )


@pytest.mark.parametrize("name", quick_first(NAMES))
def test_the_project_is_named_and_formatted(name: str) -> None:
    _, tree = defaults(name)
    settings = tomllib.loads(tree["pyproject.toml"].content.decode())
    assert settings["project"]["name"] == "my-project"
    assert "black" in settings["tool"]
    assert not [path for path in tree if path.startswith(".paccel/") or path.endswith((".pyc", ".pyo"))]


PROGRAM = """
import sys
from paccel.catalog.catalog import load_template
from paccel.catalog.answers import resolve_answers
from paccel.render.render import render
from paccel.files.tree import tree_hash
for name in sys.argv[1:]:
    template = load_template(name)
    print(template.digest, tree_hash(render(template, resolve_answers(template, {}, project_name="my-project"))))
"""


@pytest.mark.slow
@every_third_day(0)
def test_every_process_renders_the_same_bytes(tmp_path: Path) -> None:
    expected = "".join(f"{defaults(name)[0].digest} {tree_hash(defaults(name)[1])}\n" for name in NAMES)
    for seed in ("0", "1"):
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, *NAMES],
            env=os.environ | {"PYTHONHASHSEED": seed, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert result.stdout == expected
