"""paccel's column of the merge benchmark: every scenario ends as expected, but for those on the list `OPEN`."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from paccel.catalog.catalog import load_template
from paccel.catalog.questions import resolve_answers
from paccel.project.folder import create_project
from paccel.project.state import Manifest
from paccel.render.render import render
from paccel.upgrade.upgrade import upgrade

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from merge_base import Result, read_project, whole, write_project
from merge_scenarios import REAL, SCENARIOS, Scenario
from merge_score import judge

PROJECT = "{{cookiecutter.project_name}}"


def run(folder: Path, scenario: Scenario) -> Result:
    base, ours, theirs = (whole(scenario.base, side) for side in ({}, scenario.ours, scenario.theirs))
    source, project = folder / "template", folder / "digits"
    write_project(source / PROJECT, {}, base)
    settings: dict[str, Any] = {"project_name": "digits", "_copy_without_render": ["*"]}
    (source / "cookiecutter.json").write_text(json.dumps(settings))
    template = load_template(str(source))
    answers = resolve_answers(template, {})
    tree = render(template, answers)
    create_project(project, Manifest.of(template.ref, answers, tree), tree)
    write_project(project, base, ours)
    write_project(source / PROJECT, base, theirs)
    outcome = upgrade(project)
    files = {path: state for path, state in read_project(project).items() if not path.startswith((".paccel/u",))}
    return Result(files, outcome.exit_code, own=(".paccel",))


OPEN = {
    "the user freezes the Config, the template assigns to a field of it": "needs types: the class of a variable",
    "the user makes a function return a tuple, the template reads its dictionary in a new call": "needs types",
    "the user imports a class for type checkers only, the template inherits from it": "needs scopes of imports",
    "both give a new local variable one name, for other things": "no checker can tell what a name is meant for",
    "the user renames a job of a workflow, the template adds one that needs it": "needs the schema of workflows",
}
"""Scenarios that expect a conflict and are merged: the result is valid, but not what either side meant."""

QUICK = [scenario for scenario in SCENARIOS if scenario not in REAL]  # those are upgraded by `test_real_edits.py`


@pytest.mark.parametrize("scenario", QUICK, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_every_scenario_ends_as_expected(tmp_path: Path, scenario: Scenario) -> None:
    verdict = judge(scenario, run(tmp_path, scenario))
    if scenario.name in OPEN:
        assert verdict.word == "SILENTLY WRONG", "solved: take it off the list, and out of docs/upgrade.md"
        pytest.xfail(OPEN[scenario.name])
    assert verdict.as_expected, verdict.word
    assert not any([verdict.lost_edit, verdict.silently_wrong, verdict.unparsable])


def test_scenarios_have_different_names_and_there_are_enough() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS) >= 60
    assert {scenario.name for scenario in SCENARIOS} >= OPEN.keys()
