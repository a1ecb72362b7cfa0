"""The paccel, the release and the source of a project: none is downgraded silently."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.upgraded import PROJECT, Case

from paccel import __version__
from paccel.project.state import MANIFEST_PATH, read_manifest


def set_manifest(case: Case, **values: Any) -> None:
    path = case.root / MANIFEST_PATH
    data = json.loads(path.read_text())
    release = values.pop("release", None)
    path.write_text(
        json.dumps(data | values | {"template": data["template"] | ({"release": release} if release else {})})
    )


COMMANDS = [["upgrade"], ["upgrade", "--check"], ["upgrade", "--dry-run"], ["set", "average=true"]]


@pytest.mark.parametrize("version", ["9.0.0", "9.0.0.dev3+g12ab", "1!0.1", f"{__version__}.post1", "9.0rc1"])
@pytest.mark.parametrize("command", [*COMMANDS, ["doctor", "--rebuild-baseline"]], ids=" ".join)
def test_an_older_paccel_refuses_the_project_of_a_newer_one(case: Case, version: str, command: list[str]) -> None:
    set_manifest(case, paccel=version)
    case.change("train.py", "third = 3", "third = 4")
    before = case.tree()
    refused = case.run(*command)
    assert (refused.code, "`pip install -U paccel`" in refused.err) == (3, True)
    assert case.tree() == before


@pytest.mark.parametrize("version", ["0.0.1", f"{__version__}.dev1", f"{__version__}+local", f"{__version__}rc1"])
def test_a_newer_paccel_upgrades_the_project_of_an_older_one(case: Case, version: str) -> None:
    set_manifest(case, paccel=version)
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade").code == 0
    assert read_manifest(case.root).paccel == __version__


@pytest.mark.parametrize("version", ["", "unknown", "0.2.0-is-mine", "0.2.0..1"])
def test_what_is_no_version_number_is_said(case: Case, version: str) -> None:
    set_manifest(case, paccel=version)
    refused = case.run("upgrade")
    assert (refused.code, "is not a version number" in refused.err) == (3, True)


@pytest.mark.usefixtures("machine")
def test_a_newer_project_can_still_be_undone_and_looked_at(case: Case) -> None:
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade").code == 0
    set_manifest(case, paccel="9.0.0")
    assert case.run("diff").code == 0
    assert "pip install -U paccel" in case.run("doctor").out


def test_adopting_does_not_take_a_newer_project_back_whatever_else_is_wrong_with_it(case: Case) -> None:
    (case.root / ".paccel" / "baseline.zip").unlink()
    set_manifest(case, paccel="9.0.0")
    refused = case.run("adopt", "--template", case.source)
    assert (refused.code, "`pip install -U paccel`" in refused.err) == (3, True)
    set_manifest(case, paccel="0.0.1", schema=2)
    assert case.run("adopt", "--template", case.source).code == 3
    set_manifest(case, paccel="not a version", schema=1)
    assert case.run("adopt", "--template", case.source).code == 0


def release(case: Case, version: str) -> None:
    (case.source / "paccel.toml").write_text(f'[[changes]]\nversion = "{version}"\ntext = "new"\n')


def test_an_older_release_of_the_template_is_refused_unless_it_is_named(case: Case) -> None:
    release(case, "1.10")
    assert case.run("upgrade").code == 0
    release(case, "1.9")
    case.change("train.py", "third = 3", "third = 2")
    before = case.tree()
    refused = case.run("upgrade")
    assert (refused.code, "made from release 1.10" in refused.err, "release 1.9" in refused.err) == (3, True, True)
    assert case.tree() == before
    assert case.run("upgrade", "--template", case.source).code == 0
    assert "third = 2" in case.read("train.py")


@pytest.mark.parametrize(
    ("old", "new"), [("2026-spring", "autumn"), ("1.0", "next"), ("1.0", "1.0.1"), ("1.0rc1", "1.0")]
)
def test_releases_without_an_order_and_later_ones_are_taken(case: Case, old: str, new: str) -> None:
    release(case, old)
    assert case.run("upgrade").code == 0
    release(case, new)
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade").code == 0


# --- another source ------------------------------------------------------------------------------------------------


@pytest.fixture
def fork(case: Case, tmp_path: Path) -> Path:
    """Another template with changes in two files."""
    folder = shutil.copytree(case.source, tmp_path / "fork")
    for path, old, new in (("train.py", "third = 3", "third = 30"), ("data.py", "value_0 = 0", "value_0 = 70")):
        file = folder / PROJECT / path
        file.write_text(file.read_text().replace(old, new))
    return folder


def test_a_part_from_another_source_is_not_taken_back_and_the_rest_follows(case: Case, fork: Path) -> None:
    assert case.run("upgrade", "train.py", "--template", fork).code == 0
    assert "value_0 = 0\n" in case.read("data.py")
    assert case.run("upgrade", "--check").code == 10
    case.change("train.py", "first = 1", "first = 5")  # in the source that is no longer the project's
    assert case.run("upgrade").code == 0
    assert "value_0 = 70\n" in case.read("data.py")
    assert ("third = 30" in case.read("train.py"), "first = 1\n" in case.read("train.py")) == (True, True)
    assert case.run("upgrade", "--check").code == 0


def test_what_is_left_for_later_comes_though_the_sources_are_equal_but_for_their_answers(
    case: Case, fork: Path
) -> None:
    assert case.run("upgrade", "train.py", "--template", fork).code == 0
    assert case.run("upgrade", "train.py").code == 0  # nothing more in this file: the rest still waits
    assert case.run("upgrade", "--check").code == 10
    assert case.run("set", "average=true").code == 0
    assert "value_0 = 70\n" in case.read("data.py")


def test_undo_goes_back_to_the_source_before(case: Case, fork: Path) -> None:
    before = case.tree()
    assert case.run("upgrade", "train.py", "--template", fork).code == 0
    assert case.run("upgrade", "--undo").code == 0
    assert {path: file for path, file in case.tree().items() if not path.startswith(".paccel/")} == {
        path: file for path, file in before.items() if not path.startswith(".paccel/")
    }
    assert read_manifest(case.root).template.source == str(case.source)


def test_a_conflict_in_a_part_keeps_the_source_until_it_is_resolved_or_aborted(case: Case, fork: Path) -> None:
    case.edit("train.py", "third = 3", "third = 9")
    for end, source in (("--abort", case.source), ("--continue", fork)):
        assert case.run("upgrade", "train.py", "--template", fork).code == 1
        assert read_manifest(case.root).template.source == str(case.source)
        if end == "--continue":
            (case.root / "train.py").write_text("third = 30\n")
        assert case.run("upgrade", end).code == 0
        assert read_manifest(case.root).template.source == str(source)
    assert case.run("upgrade").code == 0
    assert "value_0 = 70\n" in case.read("data.py")


def test_a_skipped_file_comes_from_the_new_source_once_it_is_no_longer_skipped(case: Case, fork: Path) -> None:
    assert case.run("upgrade", "--template", fork, "--skip", "data.py").code == 0
    assert case.run("upgrade", "--check").code == 0
    assert case.run("upgrade", "--restore", "data.py").code == 0
    assert "value_0 = 70\n" in case.read("data.py")


def test_a_source_with_lower_release_numbers_is_followed_after_a_part_of_it(case: Case, fork: Path) -> None:
    release(case, "7.0")
    assert case.run("upgrade").code == 0
    (fork / "paccel.toml").write_text('[[changes]]\nversion = "0.1"\ntext = "new"\n')
    assert case.run("upgrade", "train.py", "--template", fork).code == 0
    assert case.run("upgrade").code == 0
    assert "value_0 = 70\n" in case.read("data.py")


def test_a_part_by_a_newer_paccel_belongs_to_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    set_manifest(case, paccel="0.0.1")
    case.change("train.py", "third = 3", "third = 4")
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    assert case.run("upgrade", "train.py").code == 0
    assert read_manifest(case.root).paccel == __version__
    assert case.run("upgrade").code == 0
    assert "value_0 = 7\n" in case.read("data.py")


# --- the check -----------------------------------------------------------------------------------------------------


def nothing(case: Case) -> None:
    pass


def newer_paccel(case: Case) -> None:
    set_manifest(case, paccel="0.0.1")


def new_comment(case: Case) -> None:
    (case.source / "paccel.toml").write_text('title = "Other"\n')


def deleted_by_the_user(case: Case) -> None:
    (case.root / "data.py").unlink()
    case.change("data.py", "value_0 = 0", "value_0 = 7")


def changed_alike(case: Case) -> None:
    case.edit("data.py", "value_0 = 0", "value_0 = 7")
    case.change("data.py", "value_0 = 0", "value_0 = 7")


def changed(case: Case) -> None:
    case.change("data.py", "value_0 = 0", "value_0 = 7")


def conflicting(case: Case) -> None:
    case.edit("data.py", "value_0 = 0", "value_0 = 8")
    (case.source / PROJECT / "data.py").unlink()


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (nothing, False),
        (newer_paccel, False),
        (new_comment, False),
        (deleted_by_the_user, False),
        (changed_alike, False),
        (changed, True),
        (conflicting, True),
    ],
)
def test_a_check_finds_an_upgrade_where_a_file_would_change(
    case: Case, prepare: Callable[[Case], None], found: bool
) -> None:
    prepare(case)
    before = case.tree()
    checked = case.run("upgrade", "--check", "--json")
    assert (checked.code, checked.data["found"]) == (10 if found else 0, found)
    assert case.run("upgrade", "--check").out.startswith("An upgrade is available" if found else "Up to date")
    assert case.tree() == before
