"""Every extra, in a project that its owner has edited: on, edited, off and on again; no edit lost, no conflict."""

import json
import re
import subprocess
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
import pytest
import yaml
from support.generated import TEMPLATES, Answers, choices, rendered
from support.sampled import over_three_days

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import DEFAULT_TEMPLATE, load_template
from paccel.files.tree import Tree, read_tree, write_tree
from paccel.project.folder import create_project
from paccel.project.state import Manifest
from paccel.upgrade.upgrade import set_answers

TEMPLATE = load_template(DEFAULT_TEMPLATE)
SWITCHED = [
    pytest.param(name, value, id=f"{name}-{str(value).lower()}")
    for name, options in choices(TEMPLATE).items()
    if name not in ("data", "model")
    for value in options[1:]
]
EDITS = [  # file, a line of it, and what its owner puts behind that line
    ("train.py", "    learning_rate: float = 1e-3  # at its peak\n", "    dropout: float = 0.1  # mine: of the head\n"),
    (
        "train.py",
        "loss, _ = compute_loss(model, batch)  # a sum, not a mean\n",
        "                    assert loss > 0  # mine\n",
    ),
    (
        "train.py",
        "                grad_norm = run.clip_grad_norm(model, config.max_grad_norm)\n",
        "                count_steps()  # mine\n",
    ),
    ("train.py", "        train_meter = Meter(run)\n", "        other_meter = Meter(run)  # mine\n"),
    ("train.py", "            train_meter=train_meter,\n", "            other_meter=other_meter,  # mine\n"),
    ("data.py", "    digits = load_digits()\n", "    print(digits.DESCR)  # mine\n"),
    ("pyproject.toml", '    "torch>=2.6",\n', '    "einops>=0.8",  # mine\n'),
    ("README.md", "## Where to edit\n", "\nMine: ask me.\n"),
]
LATER = [
    ("train.py", "                    run.backward(loss, count=step.num_samples)", "  # mine, later"),
    ("README.md", "## Upgrading\n", "\nMine, later: or not.\n"),
]
EVERYWHERE = [  # edits of what each template has
    ("train.py", "        checkpoints.restore()\n", "        count_runs()  # mine\n"),
    ("train.py", "  # gradient clipping: maximum norm; None = off\n", "    mine: int = 3\n"),
    ("pyproject.toml", '    "torch>=2.6",\n', '    "einops>=0.8",  # mine\n'),
    ("README.md", "## Where to edit\n", "\nMine: ask me.\n"),
    (
        "evaluate.py",
        "from paccel.runtime import Loader, Run, exit_with_message, load_config, load_run, load_weights\n",
        "import mine\n",
    ),
]
OPTIONS_OF_SBATCH = {
    *("job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal", "requeue"),
    *("open-mode", "output"),
}


def all_extras(name: str) -> Answers:
    """What turns everything on that a template has besides its own questions."""
    template = load_template(name)
    own, several = template.layers[-1].entries, {q.name for q in template.questions if q.kind == "choices"}
    return {
        question: options[-1] if question in several else options[1]
        for question, options in choices(template).items()
        if question not in own
    }


WITH_EXTRAS = [name for name in TEMPLATES if len(all_extras(name)) > 1]  # `minimal` has AGENTS.md alone


def edit(root: Path, edits: list[tuple[str, str, str]]) -> None:
    for path, line, addition in edits:
        text = (root / path).read_text()
        assert text.count(line) == 1, (path, line)
        (root / path).write_text(text.replace(line, line + addition))


def without_edits(tree: Tree, edits: list[tuple[str, str, str]]) -> dict[str, str]:
    """The files as text, after each edit was found and taken out."""
    texts = {path: file.content.decode() for path, file in tree.items() if not path.startswith(".paccel/")}
    for path, _, addition in edits:
        assert texts[path].count(addition) == 1, (path, addition)
        texts[path] = texts[path].replace(addition, "")
    return texts


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), over_three_days(SWITCHED))
def test_an_extra_comes_and_goes_beside_the_owners_edits(name: str, value: Any, tmp_path: Path) -> None:
    root, off = tmp_path / "my-project", rendered(DEFAULT_TEMPLATE, {})
    answers = resolve_answers(TEMPLATE, {}, project_name="my-project")
    create_project(root, Manifest.of(TEMPLATE.ref, answers, off), off)
    default = choices(TEMPLATE)[name][0]
    on = {path: file.content.decode() for path, file in rendered(DEFAULT_TEMPLATE, {name: value}).items()}
    edit(root, EDITS)
    for answer, extra_edits in ((value, []), (default, LATER), (value, LATER)):
        outcome = set_answers(root, {name: answer})
        assert (outcome.state, outcome.conflicts) == ("done", ())
        expected = on if answer == value else {path: file.content.decode() for path, file in off.items()}
        assert without_edits(read_tree(root), EDITS + extra_edits) == expected
        if not extra_edits:
            edit(root, LATER)


def test_what_was_edited_in_a_file_of_an_extra_is_not_dropped_with_it(tmp_path: Path) -> None:
    root, tree = tmp_path / "my-project", rendered(DEFAULT_TEMPLATE, {"export": True})
    answers = resolve_answers(TEMPLATE, {"export": True}, project_name="my-project")
    create_project(root, Manifest.of(TEMPLATE.ref, answers, tree), tree)
    mine = (root / "export.py").read_text() + "# mine\n"
    (root / "export.py").write_text(mine)
    outcome = set_answers(root, {"export": False})
    assert outcome.conflicts == ("export.py",)
    assert (root / "export.py").read_text() == mine


@pytest.mark.slow
@pytest.mark.parametrize("name", over_three_days(WITH_EXTRAS))
def test_in_each_template_all_extras_come_and_go_beside_the_owners_edits(name: str, tmp_path: Path) -> None:
    template, root, off = load_template(name), tmp_path / "my-project", rendered(name, {})
    create_project(root, Manifest.of(template.ref, resolve_answers(template, {}, project_name="my-project"), off), off)
    extras = all_extras(name)
    defaults = {question: choices(template)[question][0] for question in extras}
    edit(root, EVERYWHERE)
    for answers in (extras, defaults, extras):
        outcome = set_answers(root, answers)
        assert (outcome.state, outcome.conflicts) == ("done", ())
        expected = {path: file.content.decode() for path, file in rendered(name, answers).items()}
        assert without_edits(read_tree(root), EVERYWHERE) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXTRAS)
def test_what_other_tools_read_is_what_they_can_read(name: str, tmp_path: Path) -> None:
    tree = rendered(name, all_extras(name))
    write_tree(tmp_path, tree)
    readers = {
        ".yaml": lambda text: [*yaml.safe_load_all(text)],
        ".yml": yaml.safe_load,
        ".json": json.loads,
        ".toml": tomllib.loads,
        ".ipynb": lambda text: nbformat.validate(nbformat.reads(text, as_version=4)),
    }
    for path, file in tree.items():
        if reader := readers.get(PurePosixPath(path).suffix):
            reader(file.content.decode())
    jobs = yaml.safe_load(tree[".github/workflows/ci.yml"].content)["jobs"]
    assert [step["run"] for step in jobs["test"]["steps"][-3:]] == ["black --check .", "ruff check .", "pytest"]
    for repository in yaml.safe_load(tree[".pre-commit-config.yaml"].content)["repos"]:
        assert all({"id", "name", "entry", "language"} <= hook.keys() for hook in repository["hooks"])
    subprocess.run(["bash", "-n", "launch/slurm.sbatch"], cwd=tmp_path, check=True, timeout=10)
    directives = re.findall(
        r"^#SBATCH --([\w-]+)(?:=(\S+))?(?: +#.*)?$", tree["launch/slurm.sbatch"].content.decode(), re.M
    )
    assert {option for option, _ in directives} == OPTIONS_OF_SBATCH
    assert re.fullmatch(r"USR1@\d+", dict(directives)["signal"])
    copied = re.findall(r"^COPY (\S+) ", tree["Dockerfile"].content.decode(), re.M)
    assert copied
    assert all((tmp_path / path).exists() for path in copied)
    commands = {line.split()[0] for line in tree["Dockerfile"].content.decode().splitlines() if line[:1].isupper()}
    assert commands == {"FROM", "WORKDIR", "COPY", "RUN", "CMD"}
