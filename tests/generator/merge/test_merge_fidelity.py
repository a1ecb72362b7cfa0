"""The merge cases in `tests/merge_cases`: each ends as expected, nothing is lost, and nothing is silently wrong."""

import sysconfig
from pathlib import Path
from typing import Any

import pytest
from support.merge_cases import NAMES, PROJECTS, Case, about_case, load_case, read_files
from support.merge_score import Result, judge
from support.sampled import every_third_day
from support.upgraded_case import upgrade_case

QUICK_KINDS = {"plain", "files", "bytes", "meaning"}


def run(folder: Path, case: Case) -> Result:
    project, outcome = upgrade_case(folder, case)
    files = {path: entry for path, entry in read_files(project).items() if not path.startswith(".paccel/u")}
    return Result(files, outcome.exit_code, own=(".paccel",))


def marked(name: str, number: int) -> Any:
    """A case as a parameter: a sixth of the plain kinds is quick, and an open case is expected to fail."""
    about = about_case(name)
    slow = about["kind"] not in QUICK_KINDS or "needs" in about or number % 6 > 0
    marks: list[Any] = [pytest.mark.slow, every_third_day(number // 3 % 3)] if slow else []
    if "open" in about:
        marks.append(pytest.mark.xfail(strict=True, reason=about["open"]))
    return pytest.param(name, id=name, marks=marks)


@pytest.mark.parametrize("name", [marked(name, number) for number, name in enumerate(NAMES)])
def test_every_case_ends_as_expected(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    case = load_case(name)
    if case.needs:
        request.getfixturevalue("check_tools")
    if case.needs == "runtime" and not Path(sysconfig.get_path("purelib"), "paccel", "runtime").is_dir():
        pytest.skip("a type checker does not find what is installed in place: needs `pip install .`")
    verdict = judge(case, run(tmp_path, case))
    assert verdict.as_expected, verdict.word
    assert not any([verdict.lost_edit, verdict.silently_wrong, verdict.unparsable])


def test_every_folder_is_a_case() -> None:
    folders = [path for path in PROJECTS.parent.iterdir() if path.is_dir() and path != PROJECTS]
    assert sorted(path.name for path in folders) == NAMES
    known = {"case.toml", "base", "ours.diff", "theirs.diff"}
    for folder in folders:
        unknown = {path.name for path in folder.iterdir()} - known
        assert all(path.startswith("expected") and path.endswith(".diff") for path in unknown), folder.name
        assert bool(unknown) == (about_case(folder.name)["outcome"] != "conflict"), folder.name
