"""A heavily edited project of 0.1.0 with scripts of its own upgrades clean, and its own code works as before."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
from support.generated import TEMPLATES
from support.released import RELEASED, unpacked
from support.sampled import every_third_day, over_three_days, sampled
from support.typical_edits import EVERYWHERE, OWN, edit

from paccel.catalog.catalog import DEFAULT_TEMPLATE
from paccel.rename.rewrite import find_program
from paccel.upgrade.upgrade import undo_upgrade, upgrade

pytestmark = pytest.mark.skipif(find_program() is None, reason="needs paccel[rewrite]")

# What a script of 0.1.0 calls and no rule can mend: the arguments do not tell where they come from.
BY_HAND = {"gan": ["my_evaluate.py"]}


def edited(name: str, folder: Path) -> Path:
    """A project with the typical edits, its evaluation copied into a script of the user's, and one import from inside."""
    root = unpacked(RELEASED / "0.1.0" / f"{name}-default", folder)
    edit(root, EVERYWHERE + OWN[name])
    if (root / "evaluate.py").exists():
        text = (root / "evaluate.py").read_text()
        (root / "my_evaluate.py").write_text(text.replace('"""Evaluate', '"""My own evaluation: evaluate', 1))
    (root / "scripts").mkdir()
    (root / "scripts" / "look.py").write_text("from paccel.runtime.loader import Loader\n\nprint(Loader.__name__)\n")
    return root


def type_errors(root: Path) -> Counter[str]:
    """What ty finds in the files that the user wrote or edited, without the places; nothing where it is not installed."""
    ty = Path(sysconfig.get_path("scripts")) / "ty"
    if not ty.exists():
        return Counter()
    files = [path for path in ("train.py", "model.py", "my_evaluate.py", "scripts/look.py") if (root / path).exists()]
    done = subprocess.run(
        [ty, "check", "--output-format", "concise", "--python", sys.prefix, *files],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(r"^(?:.*/)?(\w+\.py):\d+:\d+: (error\[.*)$", done.stdout, re.MULTILINE)
    return Counter(f"{path}: {text}" for path, text in found if "paccel" not in text)


@pytest.mark.parametrize("name", over_three_days(TEMPLATES, first=1))
@pytest.mark.slow
def test_scripts_of_the_users_follow_the_template(name: str, tmp_path: Path) -> None:
    root = edited(name, tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*.py")}
    mistakes = type_errors(root)
    outcome = upgrade(root)
    assert (outcome.state, outcome.conflicts, outcome.follows.skipped) == ("done", (), ())
    assert (root / "scripts" / "look.py").read_text().startswith("from paccel.runtime import Loader\n")
    used = sorted({use.path for uses in outcome.follows.meanings for use in uses.uses})
    assert used == BY_HAND.get(name, [])
    if name not in {*BY_HAND, "fine-tuning", "minimal"}:  # the last two take what they took
        assert "make_model(config, splits)" in (root / "my_evaluate.py").read_text()
    assert {line.partition(":")[0] for line in type_errors(root) - mistakes} <= {*used}
    undo_upgrade(root)
    assert {path: path.read_bytes() for path in root.rglob("*.py")} == before


COMMANDS = {
    "run.sh": 'python train.py --learning-rate 0.1 --max-steps 20 "$@"\npython evaluate.py --split eval\n',
    "Makefile": "train:\n\tpython train.py --epochs 3 --save-every 10\n\ntest: train\n\tpytest tests/test_train.py\n",
    "short.toml": "epochs = 1\nlearning_rate = 0.1\nkeep_last = 1\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(TEMPLATES, 3))
def test_the_check_finds_what_is_left_to_the_user_and_nothing_else(
    name: str, tmp_path: Path, check_tools: None
) -> None:
    root = edited(name, tmp_path)
    for path, text in COMMANDS.items():
        (root / path).write_text(text)
    assert {finding.path for finding in upgrade(root).findings} == {*BY_HAND.get(name, [])}


@pytest.mark.slow
@every_third_day(0)
def test_the_users_own_evaluation_and_the_projects_tests_run_after_the_upgrade(tmp_path: Path) -> None:
    root = edited(DEFAULT_TEMPLATE, tmp_path)
    path = root / "train.py"  # `count_steps` of the typical edits is the user's own
    path.write_text(
        path.read_text().replace("def compute_loss(", "def count_steps() -> None: ...\n\n\ndef compute_loss(", 1)
    )
    assert upgrade(root).state == "done"

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=root,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    python("train.py", "--max-steps", "2", "--run-dir", "runs/mine")
    scores = json.loads(python("my_evaluate.py", "--run-dir", "runs/mine").splitlines()[-1])
    assert 0 <= scores["accuracy"] <= 1
    python("-m", "pytest", "-x", "-q", "tests")
