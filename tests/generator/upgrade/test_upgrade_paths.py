"""Files that are skipped, upgraded one at a time, or restored."""

import pytest
from support.upgraded import DATA, PROJECT, QUESTIONS, TRAIN, Case

from paccel.project.state import read_manifest


def test_a_skipped_path_is_left_alone_until_it_is_restored(case: Case) -> None:
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade", "--skip", "data.py").code == 0
    assert case.read("data.py") == DATA
    assert "third = 4" in case.read("train.py")
    assert read_manifest(case.root).skipped == ("data.py",)
    case.change("data.py", "value_9 = 9", "value_9 = 8")
    kept = (
        "kept      data.py  skipped by you; changed in the template (`paccel upgrade --restore data.py` stops skipping)"
    )
    assert kept in case.run("upgrade").out
    assert case.read("data.py") == DATA
    assert case.run("upgrade", "--restore", "data.py").code == 0
    assert "value_0 = 7" in case.read("data.py")
    assert "value_9 = 8" in case.read("data.py")
    assert read_manifest(case.root).skipped == ()


def test_a_skipped_folder_is_named_as_what_is_skipped_and_comes_back_as_one(case: Case) -> None:
    case.make({"train.py": TRAIN, "data.py": DATA, "lib/a.py": DATA}, QUESTIONS)
    assert case.run("upgrade", "--skip", "lib", "--skip", "data.py").code == 0
    case.change("lib/a.py", "value_0 = 0", "value_0 = 7")
    assert "`paccel upgrade --restore lib` stops skipping" in case.run("upgrade", "--dry-run").out
    assert case.run("upgrade", "--restore", "lib").code == 0
    assert "value_0 = 7" in case.read("lib/a.py")
    assert read_manifest(case.root).skipped == ("data.py",)


def test_a_skip_of_what_the_template_has_no_more_can_be_ended(case: Case) -> None:
    assert case.run("upgrade", "--skip", "data.py").code == 0
    (case.source / PROJECT / "data.py").unlink()
    assert "`paccel upgrade --restore data.py` stops skipping" in case.run("upgrade").out
    assert "deleted   data.py" in case.run("upgrade", "--restore", "data.py").out
    assert read_manifest(case.root).skipped == ()
    assert not (case.root / "data.py").exists()


def test_one_file_at_a_time(case: Case) -> None:
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade", "train.py").code == 0
    assert case.read("data.py") == DATA
    assert case.run("upgrade", "--check").code == 10  # the other is still to come
    case.edit("data.py", "value_9 = 9", "value_9 = 99")
    assert case.run("upgrade").code == 0
    assert "value_0 = 7" in case.read("data.py")
    assert "value_9 = 99" in case.read("data.py")
    assert case.run("upgrade", "--check").code == 0


def test_a_path_may_come_over_a_link_to_the_project(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    link = case.work / "link"
    link.symlink_to(case.root)
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade", link / "train.py", "--dry-run", "--json").data["changes"][0]["path"] == "train.py"
    monkeypatch.chdir(link)
    assert case.run("upgrade", "../link/./train.py").code == 0
    assert "third = 4" in case.read("train.py")
    assert case.run("upgrade", "../train.py").code == 2


def test_a_deleted_file_stays_deleted_until_it_is_restored(case: Case) -> None:
    (case.root / "data.py").unlink()
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    result = case.run("upgrade")
    assert "paccel upgrade --restore data.py" in result.out
    assert not (case.root / "data.py").exists()
    assert "restored  data.py" in case.run("upgrade", "--restore", "data.py").out
    assert "value_0 = 7" in case.read("data.py")
    assert case.run("upgrade", "--restore", "nothing.py").code == 2


def test_a_path_that_is_skipped_is_named_with_the_way_back(case: Case) -> None:
    shown = case.run("upgrade", "--skip", "data.py")
    assert "No files change; only paccel's own state is updated" in shown.out
    assert "upgrades skip `data.py` from now on; `paccel upgrade --restore data.py` stops skipping" in shown.err
    assert "left alone" not in case.run("upgrade").err
