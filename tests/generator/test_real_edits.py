"""Edits as people make them to the default template's train.py, and then answers that are turned on and off again.

What is expected was written before the first run: "clean" where the edit and the feature touch different statements,
"either" where somebody who merged by hand would have to think; then a conflict is as good. Always: every line of the
user's is still there, a clean result parses, and turning the answer back gives the edited project back, byte for byte.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import black
import pytest

from paccel.baseline import Manifest
from paccel.catalog import load_template
from paccel.formatting import single_quoted
from paccel.project import create_project
from paccel.questions import Answer, resolve_answers
from paccel.render import render
from paccel.upgrade import abort_upgrade, set_answers

Edit = Callable[[str], str]


def replaced(old: str, new: str, source: str) -> str:
    assert old in source, old
    return source.replace(old, new)


def renamed(source: str) -> str:
    return re.sub(r"\bcompute_loss\b", "loss_of_batch", source)


def function(source: str, name: str) -> str:
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == name)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "".join(source.splitlines(keepends=True)[first - 1 : node.end_lineno])


def split(source: str) -> str:
    """The loss lives in a file of its own now."""
    return replaced(function(source, "compute_loss"), "from losses import compute_loss\n", source)


def wrapped(head: str, tail: str, source: str) -> str:
    """The loop over the epochs inside of a block of the user's."""
    lines = source.splitlines(keepends=True)
    (first,) = (i for i, line in enumerate(lines) if line.lstrip().startswith("for epoch in "))
    indent = len(lines[first]) - len(lines[first].lstrip())
    last = first + 1
    while last < len(lines) and (not lines[last].strip() or lines[last].startswith(" " * (indent + 1))):
        last += 1
    while not lines[last - 1].strip():
        last -= 1
    space = " " * indent
    after = "".join(f"{space}{line}\n" for line in tail.splitlines())
    inner = ["    " + line if line.strip() else line for line in lines[first:last]]
    return "".join([*lines[:first], f"{space}{head}\n", *inner, after, *lines[last:]])


def tabs(source: str) -> str:
    return re.sub(r"^(?: {4})+", lambda found: "\t" * (len(found[0]) // 4), source, flags=re.MULTILINE)


def argparse_config(source: str) -> str:
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Config")
    lines = source.splitlines(keepends=True)
    old = "".join(lines[min(d.lineno for d in node.decorator_list) - 1 : node.end_lineno])
    new = "parser = argparse.ArgumentParser()\nparser.add_argument('--epochs', type=int, default=20)\nConfig = parser.parse_args\n"
    return "import argparse\n" + replaced(old, new, source)


def narrow(source: str) -> str:
    return black.format_str(source, mode=black.Mode(line_length=79))


def uncommented(source: str) -> str:
    return "".join(line for line in source.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def ddp(source: str) -> str:
    call = re.findall(r"^.*run\.prepare\(.*\n", source, flags=re.MULTILINE)[0]
    space = call[: len(call) - len(call.lstrip())]
    return replaced(call, f"{space}model = SyncBatchNorm.convert_sync_batchnorm(model)\n{call}", source)


def reordered(source: str) -> str:
    """The loss below `evaluate`."""
    loss, evaluate = function(source, "compute_loss"), function(source, "evaluate")
    marked = replaced(loss, "@1", replaced(evaluate, "@2", source))
    return marked.replace("@1", evaluate).replace("@2", loss)


def same(source: str) -> str:
    return source


EDITS: dict[str, tuple[Edit, Literal["clean", "either"]]] = {
    "nothing": (same, "clean"),
    "a function renamed": (renamed, "clean"),
    "the loss in a file of its own": (split, "either"),
    "the loop in try and finally": (partial(wrapped, "try:", "finally:\n    print('over')"), "clean"),
    "the loop in a with": (partial(wrapped, "with profiler():", ""), "clean"),
    "tabs": (tabs, "either"),
    "argparse for Config": (argparse_config, "either"),
    "single quotes": (single_quoted, "clean"),
    "79 columns": (narrow, "clean"),
    "no comments": (uncommented, "either"),
    "lines before prepare": (ddp, "either"),
    "definitions reordered": (reordered, "clean"),
    "CRLF": (lambda source: source.replace("\n", "\r\n"), "clean"),
}
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


@pytest.mark.parametrize(("name", "off", "on"), ANSWERS, ids=[name for name, *_ in ANSWERS])
@pytest.mark.parametrize("edit", EDITS)
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


def test_a_feature_removed_by_hand_can_be_turned_off(tmp_path: Path) -> None:
    root = make(tmp_path / "my-project", ema=True)
    without = (make(tmp_path / "without") / "train.py").read_bytes()
    (root / "train.py").write_bytes(without)
    assert set_answers(root, {"ema": False}).conflicts == ()
    assert (root / "train.py").read_bytes() == without


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
