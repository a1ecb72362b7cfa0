"""A question that another answer switches off has its default, whatever was answered before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WHEN = '[questions.runs]\nwhen = { tracker = "wandb" }\n'


def test_an_answer_that_is_switched_off_stops_acting(
    template: Callable[..., Path], work: Path, paccel: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a.txt": "{{ cookiecutter.runs }}\n"}
    folder = template(files, {"tracker": ["none", "wandb"], "runs": "default"}, metadata=WHEN)
    given = ("--set", "tracker=wandb", "--set", "runs=mine")
    assert paccel("new", "p", "--template", folder, "--no-input", *given).code == 0
    monkeypatch.chdir(work / "p")
    text = Path("a.txt")
    assert text.read_text() == "mine\n"
    assert paccel("set", "tracker=none").code == 0
    assert text.read_text() == "default\n"
    said = paccel("set", "runs=other")
    assert said.code == 0
    assert "`runs` uses its default" in said.out + said.err
    assert text.read_text() == "default\n"
    assert paccel("upgrade", "--check").code == 0
    new = paccel("new", "../q", "--template", folder, "--no-input", "--set", "runs=mine")
    assert new.code == 0
    assert "`runs` uses its default" in new.err
    assert (work / "q" / "a.txt").read_text() == "default\n"
