"""The project cases in `tests/project_cases`: what is broken is found and explained, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.project_cases import NAMES, ProjectCase, load_project_case
from support.sampled import every_third_day
from support.upgraded_case import upgrade_case


def cases() -> Iterator[Any]:
    """A case as a parameter: a sixth of those without tools is quick."""
    for number, name in enumerate(NAMES):
        quick = load_project_case(name).tool == "paccel" and number % 6 == 0
        yield pytest.param(name, id=name, marks=[] if quick else [pytest.mark.slow, every_third_day(number // 3 % 3)])


@pytest.fixture
def project_case(request: pytest.FixtureRequest) -> ProjectCase:
    """A case; the test is skipped if its tools are not installed."""
    case = load_project_case(request.param)
    if case.tool != "paccel":
        request.getfixturevalue("check_tools")
    return case


@pytest.mark.parametrize("project_case", [*cases()], indirect=True)
def test_what_is_broken_is_found_and_nothing_else_is(tmp_path: Path, project_case: ProjectCase) -> None:
    project, outcome = upgrade_case(tmp_path, project_case.case)
    assert outcome.notes == ()
    assert outcome.exit_code == (project_case.outcome != "clean"), outcome
    if project_case.outcome == "found":
        assert {finding.path for finding in outcome.findings} == {project_case.at}
        assert {finding.tool for finding in outcome.findings} == {project_case.tool}
        causes = {finding.cause.path for finding in outcome.findings if finding.cause}
        assert not project_case.cause or causes == {project_case.cause}
        assert outcome.conflicts == ()
    if project_case.outcome == "conflict":
        assert outcome.conflicts == (project_case.at,)
        assert b"<<<<<<< yours" in (project / project_case.at).read_bytes()
        assert outcome.findings == ()
    if project_case.outcome == "clean":
        path, text = project_case.needs
        assert text in (project / path).read_text()


def test_half_of_the_cases_are_not_broken() -> None:
    outcomes = [load_project_case(name).outcome for name in NAMES]
    assert len(outcomes) >= 30
    assert outcomes.count("clean") * 2 >= len(outcomes)
