"""`paccel upgrade --each`: one table, one exit code, and a failing project does not stop the others."""

import shutil

import pytest
from support.upgraded import Case


@pytest.fixture
def case(paccel, template, work) -> Case:
    return Case(paccel, template, work)


def projects(case: Case) -> None:
    """A valid project, one with a conflict, a broken one, and a folder that is not a project."""
    for name in ("good", "edited", "broken"):
        shutil.copytree(case.root, case.work / name)
    (case.work / "broken" / ".paccel" / "manifest.json").write_text("{")
    (case.work / "none").mkdir()
    case.root = case.work / "edited"
    case.edit("train.py", "rate = 0.1", "rate = 0.2")
    case.change("train.py", "rate = 0.1", "rate = 0.3")


def test_every_project_is_upgraded_whatever_happens_to_the_others(case: Case) -> None:
    projects(case)
    done = case.run("upgrade", "--each", "broken", "none", "edited", "good", "good/", str(case.work / "good"), "--json")
    rows = {row["path"]: (row["exit_code"], row["state"]) for row in done.data["projects"]}
    assert rows == {
        "broken": (3, "failed"),
        "none": (3, "failed"),
        "edited": (1, "conflicts"),
        "good": (0, "done"),
    }
    assert (done.code, done.data["exit_code"]) == (3, 3)
    assert "rate = 0.3" in (case.work / "good" / "train.py").read_text()


def test_the_table_has_a_line_for_each_and_a_sum(case: Case) -> None:
    projects(case)
    checked = case.run("upgrade", "--each", "edited", "good", "--check")
    assert checked.code == 1 or checked.code == 10
    done = case.run("upgrade", "--each", "edited", "good", "none")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["conflicts", "edited", "resolve", "train.py"]
    assert lines[1] == ["done", "good", "1", "file"]
    assert lines[2][:2] == ["failed", "none"]
    assert done.out.endswith("3 projects: 1 conflicts, 1 done, 1 failed\n")


@pytest.mark.parametrize(("names", "code"), [(["good"], 10), (["good", "none"], 3), (["edited"], 10)])
def test_check_exits_with_the_worst_and_writes_nothing(case: Case, names: list[str], code: int) -> None:
    projects(case)
    assert case.run("upgrade", "--each", *names, "--check").code == code
    assert "rate = 0.1" in (case.work / "good" / "train.py").read_text()


def test_an_unexpected_failure_of_one_is_its_own(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    import paccel.upgrade.upgrade as engine

    projects(case)
    real = engine.make_plan

    def make_plan(root, **options):
        if root.name == "edited":
            raise RuntimeError("unheard of")
        return real(root, **options)

    monkeypatch.setattr(engine, "make_plan", make_plan)
    done = case.run("upgrade", "--each", "edited", "good")
    assert done.code == 3
    assert "RuntimeError: unheard of" in done.out
    assert "rate = 0.3" in (case.work / "good" / "train.py").read_text()


@pytest.mark.slow
def test_verify_counts_a_project_whose_tests_fail_as_failed(case: Case) -> None:
    projects(case)
    (case.work / "good" / "tests").mkdir()
    (case.work / "good" / "tests" / "test_it.py").write_text("def test_it(): assert False\n")
    done = case.run("upgrade", "--each", "good", "--verify", "--json")
    (row,) = done.data["projects"]
    assert (done.code, row["exit_code"], bool(row["verification"]["problems"])) == (1, 1, True)


@pytest.mark.parametrize(
    "arguments",
    [[], ["good", "--undo"], ["good", "--skip", "a"], ["good", "--restore", "a"], ["good", "--dry-run", "--diff"]],
)
def test_options_that_have_no_meaning_for_many_are_refused(case: Case, arguments: list[str]) -> None:
    projects(case)
    done = case.run("upgrade", "--each", *arguments)
    assert done.code == 2
    assert "Error:" in done.err
