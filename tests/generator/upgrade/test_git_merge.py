"""Two upgraded branches, merged by git with the commands in `docs/upgrade.md`."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paccel.project.state import read_manifest, read_state

Run = Callable[..., Any]
Make = Callable[..., Path]

DOCS = Path(__file__).parents[3] / "docs" / "upgrade.md"
TRAIN = """import os

rate = 1
{% if cookiecutter.ema %}
ema = True
{% endif %}

steps = 10


def main():
    print(rate)
{% if cookiecutter.amp %}
    print("amp")
{% endif %}
    print(steps)
"""
ALONE = "about\n{% if cookiecutter.amp %}with amp\n{% endif %}"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(*arguments: str, code: int = 0) -> str:
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | names | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def recipe() -> list[list[str]]:
    """The commands of the code block below the heading about git."""
    block = re.search(r"^## `\.paccel/` in git$.*?^```\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    return [line.partition("#")[0].split() for line in block[1].splitlines()]


@pytest.mark.parametrize("apart", [False, True], ids=["in one file", "in two files"])
def test_two_upgraded_branches_become_one_project_by_the_recipe(
    paccel: Run, work: Path, template: Make, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    train = re.sub(r"{% if cookiecutter.amp %}.*?{% endif %}\n", "", TRAIN, flags=re.DOTALL) if apart else TRAIN
    demo = template({"train.py": train, "README.md": ALONE if apart else "about\n"}, {"ema": False, "amp": False})
    assert paccel("new", "net", "--template", demo).code == 0
    monkeypatch.chdir(work / "net")
    (work / "net" / "train.py").write_text((work / "net" / "train.py").read_text().replace("rate = 1", "rate = 2"))
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "made")
    for answer in ("amp", "ema"):
        git("checkout", "-q", "main")
        git("checkout", "-qb", answer)
        assert paccel("set", f"{answer}=true").code == 0
        git("add", "-A")
        git("commit", "-qm", answer)
    git("merge", "amp", code=1)
    assert paccel("upgrade").code == 3
    for command in recipe():
        if command[0] == "git":
            git(*command[1:])
        else:
            assert paccel(*command[1:]).code == 0, command
    git("commit", "-qm", "merged")
    assert read_state(work / "net")[0].answers["ema"] is True
    assert paccel("set", "amp=true").code == 0
    manifest, base = read_state(work / "net")
    assert (manifest.answers["ema"], manifest.answers["amp"]) == (True, True)
    merged = base["train.py"].content.decode()
    assert (work / "net" / "train.py").read_text() == merged.replace("rate = 1", "rate = 2")
    assert "ema = True" in merged
    assert ("with amp" in (work / "net" / "README.md").read_text()) if apart else ('print("amp")' in merged)
    assert read_manifest(work / "net") == manifest
    assert paccel("upgrade").out == "Up to date\n"
