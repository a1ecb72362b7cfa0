"""Every extra, in a project that its owner has edited: on, edited, off and on again; no edit lost, no conflict."""

from pathlib import Path
from typing import Any

import pytest
from generated import choices, rendered

from paccel.baseline import Manifest
from paccel.catalog import DEFAULT_TEMPLATE, load_template
from paccel.project import create_project
from paccel.questions import resolve_answers
from paccel.tree import Tree, read_tree
from paccel.upgrade import set_answers

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
    ("train.py", "                    run.backward(loss / step.num_samples)", "  # mine, later"),
    ("README.md", "## Upgrading\n", "\nMine, later: or not.\n"),
]


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


@pytest.mark.parametrize(("name", "value"), SWITCHED)
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
