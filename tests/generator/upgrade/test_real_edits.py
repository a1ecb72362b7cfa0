"""Edits as people make them to the default template's train.py, and then answers that are turned on and off again.

What is expected was written before the first run: "clean" where the edit and the feature touch different statements,
"either" where somebody who merged by hand would have to think; then a conflict is as good. Always: every line of the
user's is still there, a clean result parses, and turning the answer back gives the edited project back, byte for byte.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest
from support.edits import EDITS, narrow, renamed
from support.sampled import over_three_days

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import load_template
from paccel.catalog.questions import Answer
from paccel.project.folder import create_project
from paccel.project.state import Manifest
from paccel.render.render import render
from paccel.upgrade.upgrade import abort_upgrade, set_answers

ANSWERS: list[tuple[str, Answer, Answer]] = [
    ("ema", False, True),
    ("early_stopping", False, True),
    ("tracker", "none", "wandb"),
]


def make(root: Path, **given: Answer) -> Path:
    template = load_template("image-classification")
    answers = resolve_answers(template, given, project_name="my-project")
    tree = render(template, answers)
    create_project(root, Manifest.of(template.ref, answers, tree), tree)
    return root


def words(source: str) -> Counter[str]:
    """Lines as they read, whatever the indentation and the quotes; imports apart, which may be merged into one line."""
    lines = ("".join(line.split()).replace("'", '"') for line in source.splitlines())
    return Counter(line for line in lines if line and not line.startswith(("from", "import")))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "off", "on"), ANSWERS, ids=[name for name, *_ in ANSWERS])
@pytest.mark.parametrize("edit", over_three_days(EDITS))
def test_an_answer_turned_on_and_off_leaves_every_edit(
    tmp_path: Path, edit: str, name: str, off: Answer, on: Answer
) -> None:
    change, expected = EDITS[edit]
    root = make(tmp_path / "my-project")
    path = root / "train.py"
    pristine = path.read_text()
    edited = change(pristine).encode()
    path.write_bytes(edited)
    outcome = set_answers(root, {name: on})
    now = path.read_bytes().decode()
    if edit != "79 columns":  # there, nothing was written that the template's own new line could lack
        assert not (words(edited.decode()) - words(pristine)).keys() - words(now).keys()
    if outcome.conflicts:
        assert expected == "either", now
        abort_upgrade(root)
    else:
        ast.parse(now)
        fresh = (make(tmp_path / "fresh", **{name: on}) / "train.py").read_text()
        if edit != "79 columns":  # there, the feature's lines are wrapped otherwise
            assert not (words(fresh) - words(pristine)).keys() - words(renamed(now)).keys() - words(now).keys()
        back = set_answers(root, {name: off})
        assert back.conflicts == ()
    if (edit, name) == ("79 columns", "tracker"):  # a line that was replaced twice has lost how it was wrapped
        assert narrow(path.read_text()).encode() == edited
    else:
        assert path.read_bytes() == edited


@pytest.mark.slow
def test_a_feature_removed_by_hand_can_be_turned_off(tmp_path: Path) -> None:
    root = make(tmp_path / "my-project", ema=True)
    without = (make(tmp_path / "without") / "train.py").read_bytes()
    (root / "train.py").write_bytes(without)
    assert set_answers(root, {"ema": False}).conflicts == ()
    assert (root / "train.py").read_bytes() == without


@pytest.mark.slow
def test_a_feature_removed_by_hand_stays_removed_when_another_comes(tmp_path: Path) -> None:
    root = make(tmp_path / "my-project", ema=True)
    (root / "train.py").write_bytes((make(tmp_path / "without") / "train.py").read_bytes())
    outcome = set_answers(root, {"tracker": "wandb"})
    now = (root / "train.py").read_text()
    assert outcome.conflicts or "ema" not in now.lower()
    fresh = (make(tmp_path / "fresh", tracker="wandb") / "train.py").read_text()
    assert outcome.conflicts or words(now) == words(fresh)


def test_an_answer_whose_code_came_by_another_branch_is_only_recorded(tmp_path: Path) -> None:
    """Two branches turned on a feature each; git merged train.py, and `.paccel` is that of one branch."""
    root = make(tmp_path / "my-project", early_stopping=True)
    both = (make(tmp_path / "both", ema=True, early_stopping=True) / "train.py").read_bytes()
    (root / "train.py").write_bytes(both)
    assert set_answers(root, {"ema": True}).conflicts == ()
    assert (root / "train.py").read_bytes() == both
