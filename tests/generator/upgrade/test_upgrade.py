"""`paccel upgrade`, `set` and `adopt` on real projects: from the command line, outside git and inside."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.upgraded import DATA, PROJECT, QUESTIONS, TRAIN, Case

from paccel.files.tree import read_tree
from paccel.project.state import BASELINE_PATH, MANIFEST_PATH, read_manifest, read_state
from paccel.upgrade.git import dirty_files
from paccel.upgrade.upgrade import make_plan


def test_an_edit_and_a_change_elsewhere_both_arrive(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "third = 3", "third = 4")
    result = case.run("upgrade")
    assert result.code == 0
    assert "merged    train.py" in result.out
    assert "rate = 0.5" in case.read("train.py")
    assert "third = 4" in case.read("train.py")
    assert case.run("upgrade").out == "Up to date\n"


def test_the_same_place_is_a_conflict_that_can_be_resolved_or_aborted(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "rate = 0.1", "rate = 0.9")
    before, state = case.tree(), (".paccel/manifest.json", ".paccel/baseline.zip")
    kept = [(case.root / path).read_bytes() for path in state]
    result = case.run("upgrade", "--json")
    assert (result.code, result.data["state"], result.data["conflicts"]) == (1, "conflicts", ["train.py"])
    text = case.read("train.py")
    assert "<<<<<<< yours\n    rate = 0.5\n||||||| template" in text
    assert "=======\n    rate = 0.9\n>>>>>>> template" in text
    assert [(case.root / path).read_bytes() for path in state] == kept  # moves on only when it is resolved
    assert case.run("upgrade").code == 3  # refused, not nested
    assert case.run("upgrade", "--continue").code == 3
    assert case.run("upgrade", "--abort").code == 0
    assert case.tree() == before

    assert case.run("upgrade").code == 1  # offered again
    (case.root / "train.py").write_text(
        text.split("<<<<<<<")[0] + "    rate = 0.7\n" + text.split("0.9\n>>>>>>> ")[1].split("\n", 1)[1]
    )
    assert case.run("upgrade", "--continue").code == 0
    assert "rate = 0.7" in case.read("train.py")
    assert case.run("upgrade", "--undo").code == 0
    assert {path: case.tree()[path] for path in before} == before


def test_undo_in_the_middle_of_a_conflict_goes_back_and_keeps_what_was_edited_meanwhile(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "rate = 0.1", "rate = 0.9")
    before = case.tree()
    assert case.run("upgrade").code == 1
    half_resolved = case.read("train.py").replace("rate = 0.5", "rate = 0.7")
    (case.root / "train.py").write_text(half_resolved)
    assert case.run("upgrade", "--undo").code == 0
    assert {path: case.tree()[path] for path in before} == before
    kept = [path for path in (case.root / ".paccel").rglob("train.py") if path.read_text() == half_resolved]
    assert kept


def test_a_dry_run_and_a_check_write_nothing(case: Case) -> None:
    case.change("train.py", "rate = 0.1", "rate = 0.9")
    before = case.tree()
    shown = case.run("upgrade", "--dry-run", "--diff")
    assert "updated   train.py" in shown.out
    assert "+    rate = 0.9" in shown.out
    assert shown.code == 0
    assert case.run("upgrade", "--check").code == 10
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    assert case.run("upgrade", "--dry-run", "--json").code == 1
    case.edit("train.py", "rate = 0.5", "rate = 0.1")
    assert case.tree() == before
    case.run("upgrade")
    assert case.run("upgrade", "--check").code == 0


def test_nothing_to_do_touches_no_file(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    before = {path: path.stat().st_mtime_ns for path in case.root.rglob("*")}
    assert case.run("upgrade").code == 0
    assert {path: path.stat().st_mtime_ns for path in case.root.rglob("*")} == before


def test_an_answer_turns_a_feature_on_and_off_in_an_edited_project(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    assert case.run("set", "average=true").code == 0
    assert 'print("average")' in case.read("train.py")
    assert read_manifest(case.root).answers["average"] is True
    assert case.run("set", "average=no").code == 0
    assert 'print("average")' not in case.read("train.py")
    assert "rate = 0.5" in case.read("train.py")
    assert case.run("set", "average=maybe").code == 2
    assert case.run("set", "colour=red").code == 2


def test_questions_are_renamed_dropped_and_added_over_time(case: Case) -> None:
    assert case.run("set", "tracker=tb").code == 0
    settings = {key: value for key, value in QUESTIONS.items() if key not in {"tracker", "average"}}
    questions = {"project_name": "x", "logger": ["none", "tensorboard"], "fresh": ["a", "b"], **settings}
    (case.source / "cookiecutter.json").write_text(json.dumps(questions))
    (case.source / PROJECT / "train.py").write_text("print('{{ cookiecutter.logger }} {{ cookiecutter.fresh }}')\n")
    (case.source / "paccel.toml").write_text(
        '[[renamed_answers]]\nfrom = "tracker"\nto = "logger"\nvalues = { tb = "tensorboard" }\n'
        '[[dropped_answers]]\nname = "average"\n'
    )
    result = case.run("upgrade", "--json")
    assert result.code == 0
    assert case.read("train.py") == "print('tensorboard a')\n"
    notes = "\n".join(result.data["notes"])
    assert "`tracker=tb` is now `logger=tensorboard`" in notes
    assert "`average=false` is dropped" in notes
    assert "new question `fresh`" in notes


def test_an_answer_that_is_no_longer_offered_asks_for_another(case: Case) -> None:
    assert case.run("set", "tracker=tb").code == 0
    (case.source / "cookiecutter.json").write_text(
        json.dumps({"project_name": "x", **QUESTIONS, "tracker": ["none", "disk"]})
    )
    result = case.run("upgrade")
    assert result.code == 2
    assert "paccel set" in result.err
    assert case.run("set", "tracker=disk").code == 0


def test_a_declared_move_carries_the_edits(case: Case) -> None:
    case.edit("data.py", "value_9 = 9", "value_9 = 99")
    (case.source / PROJECT / "data.py").unlink()
    (case.source / PROJECT / "loaders.py").write_text(DATA.replace("value_", "item_").replace("item_9", "value_9"))
    (case.source / "paccel.toml").write_text('[[moved]]\nfrom = "data.py"\nto = "loaders.py"\n')
    result = case.run("upgrade")
    assert not (case.root / "data.py").exists()
    assert "value_9 = 99" in case.read("loaders.py")
    assert "the template moved `data.py`" in result.out


def test_another_source_takes_over(case: Case) -> None:
    other = case.make({"train.py": TRAIN.replace("third = 3", "third = 4"), "data.py": DATA}, QUESTIONS, name="other")
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    assert case.run("upgrade", "--template", other).code == 0
    assert "third = 4" in case.read("train.py")
    assert read_manifest(case.root).template.source == str(other)


def test_changelog_lines_say_why(case: Case) -> None:
    log = '[[changes]]\nversion = "1.9"\ntext = "the beginning"\n'
    (case.source / "paccel.toml").write_text(log)
    assert case.run("upgrade").code == 0
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "rate = 0.1", "rate = 0.4")
    (case.source / "paccel.toml").write_text(
        log + '[[changes]]\nversion = "1.10"\nfiles = ["train.py"]\ntext = "it was too low"\n'
    )
    result = case.run("upgrade")
    assert "1.10: it was too low" in result.out
    assert "the beginning" not in result.out
    assert "||||||| template 1.9\n" in case.read("train.py")
    assert ">>>>>>> template 1.10\n" in case.read("train.py")


def test_a_damaged_baseline_is_rendered_again_where_the_template_is_the_same(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    (case.root / BASELINE_PATH).write_bytes(b"damaged")
    assert case.run("set", "average=true").code == 0
    assert "rate = 0.5" in case.read("train.py")
    assert 'print("average")' in case.read("train.py")
    read_state(case.root)


def test_without_a_baseline_no_edited_file_is_overwritten(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    mine = case.read("train.py")
    (case.root / BASELINE_PATH).unlink()
    case.change("train.py", "third = 3", "third = 4")
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    result = case.run("upgrade", "--json")
    assert (result.code, result.data["conflicts"]) == (1, ["train.py"])
    assert case.read("train.py") == mine
    assert "third = 4" in case.read(".paccel/incoming/train.py")
    assert "value_0 = 7" in case.read("data.py")  # its hash says that it was not edited
    assert case.run("upgrade", "--continue").code == 0
    read_state(case.root)


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, timeout=60)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_only_files_that_would_be_touched_must_be_clean_in_git(case: Case) -> None:
    git(case.work, "init", "-q")  # the project is a folder of a larger repository
    git(case.work, "add", "-A")
    git(case.work, "commit", "-qm", "start")
    case.edit("data.py", "value_9 = 9", "value_9 = 99")
    (case.root / "notes.ipynb").write_text("{}\n")
    case.change("train.py", "third = 3", "third = 4")
    assert case.run("upgrade").code == 0
    git(case.work, "add", "-A")
    git(case.work, "commit", "-qm", "upgrade")
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "third = 4", "third = 5")
    before = case.tree()
    refused = case.run("upgrade")
    assert refused.code == 3
    assert "`train.py`" in refused.err
    assert case.tree() == before
    assert case.run("upgrade", "--allow-dirty").code == 0


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_file_that_only_moves_must_be_clean_in_git_too(case: Case) -> None:
    git(case.work, "init", "-q")
    git(case.work, "add", "-A")
    git(case.work, "commit", "-qm", "start")
    case.edit("data.py", "value_9 = 9", "value_9 = 99")
    (case.source / PROJECT / "data.py").rename(case.source / PROJECT / "loaders.py")
    refused = case.run("upgrade")
    assert (refused.code, "`data.py`" in refused.err) == (3, True)
    assert case.run("upgrade", "--allow-dirty").code == 0
    assert "value_9 = 99" in case.read("loaders.py")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_name_is_no_pattern_to_git(tmp_path: Path) -> None:
    for name in ("[ab].txt", "a.txt"):
        (tmp_path / name).write_text("x\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "start")
    (tmp_path / "a.txt").write_text("y\n")
    assert dirty_files(tmp_path, ["[ab].txt"]) == []


def test_markers_of_another_merge_are_not_merged_into(case: Case) -> None:
    case.edit("train.py", "    rate = 0.1\n", "<<<<<<< HEAD\n    rate = 0.5\n=======\n    rate = 0.1\n>>>>>>> other\n")
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    case.change("train.py", "third = 3", "third = 4")
    before = case.tree()
    refused = case.run("upgrade")
    assert (refused.code, "There are conflict markers in `train.py`" in refused.err) == (3, True)
    assert case.tree() == before


EXAMPLE = "".join(f"line {i}\n" for i in range(9)) + "<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> branch\n"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("path", "text"), [("git.md", EXAMPLE), ("tests/test_git.py", f'TEXT = """\n{EXAMPLE}"""\n')])
def test_markers_in_a_text_of_the_users_are_text(case: Case, path: str, text: str) -> None:
    (case.source / PROJECT / "tests").mkdir()
    (case.source / PROJECT / path).write_text(text.partition("<<<")[0] + ('"""\n' if path.endswith("py") else ""))
    assert case.run("upgrade").code == 0
    (case.root / path).write_text(text)
    case.change(path, "line 1\n", "new line 1\n")
    assert case.run("doctor").out.count("conflict markers") == 0
    assert case.run("upgrade").code == 0
    assert case.read(path) == text.replace("line 1\n", "new line 1\n")


@pytest.mark.usefixtures("machine")
def test_markers_of_paccel_without_its_journal_are_not_merged_into(case: Case) -> None:
    case.edit("data.py", "value_0 = 0", "value_0 = 1")
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    assert case.run("upgrade").code == 1
    shutil.rmtree(case.root / ".paccel" / "upgrade")  # as in a clone
    refused = case.run("upgrade")
    assert (refused.code, "`--skip data.py`" in refused.err) == (3, True)
    assert case.run("upgrade", "--skip", "data.py").code == 0
    assert "`data.py` contains conflict markers" in case.run("doctor").out


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_text_that_git_could_not_merge_is_not_merged_into(case: Case) -> None:
    (case.source / PROJECT / "notes.md").write_text(EXAMPLE)
    assert case.run("upgrade").code == 0
    git(case.root, "init", "-q", "-b", "main")
    git(case.root, "add", "-A")
    git(case.root, "commit", "-qm", "start")
    git(case.root, "branch", "side")
    for branch in ("main", "side"):
        git(case.root, "checkout", "-q", branch)
        (case.root / "notes.md").write_text(EXAMPLE.replace("line 8", branch))
        git(case.root, "commit", "-qam", branch)
    with pytest.raises(subprocess.CalledProcessError):
        git(case.root, "merge", "main")
    case.change("notes.md", "line 1\n", "new line 1\n")
    refused = case.run("upgrade", "--allow-dirty")
    assert (refused.code, "conflict markers in `notes.md`" in refused.err) == (3, True)


def test_a_resolved_conflict_leaves_nothing_aside_and_can_be_undone(case: Case) -> None:
    (case.source / PROJECT / "pictures").mkdir()
    for content in (b"\0old", b"\0new"):
        (case.source / PROJECT / "pictures" / "a.bin").write_bytes(content)
        if content == b"\0old":
            assert case.run("upgrade").code == 0
            (case.root / "pictures" / "a.bin").write_bytes(b"\0mine")
    before = case.tree()
    assert case.run("upgrade").code == 1
    assert (case.root / ".paccel" / "incoming" / "pictures" / "a.bin").read_bytes() == b"\0new"
    assert case.run("upgrade", "--continue").code == 0
    assert not (case.root / ".paccel" / "incoming").exists()
    assert case.run("upgrade", "--undo").code == 0
    assert {p: f for p, f in case.tree().items() if "undo" not in p} == {
        p: f for p, f in before.items() if "undo" not in p
    }


def test_an_example_of_paccels_own_markers_does_not_keep_a_conflict_open(case: Case) -> None:
    example = "<<<<<<< yours\na\n||||||| template aaaaaaaa\n=======\nb\n>>>>>>> template bbbbbbbb\n"
    (case.source / PROJECT / "howto.md").write_text("first\n" + "text\n" * 9 + example)
    assert case.run("upgrade").code == 0
    case.edit("howto.md", "first\n", "mine\n")
    case.change("howto.md", "first\n", "theirs\n")
    assert case.run("upgrade").code == 1
    assert "<<<<<<<< yours\nmine\n" in case.read("howto.md")
    assert case.run("upgrade", "--continue").code == 3
    (case.root / "howto.md").write_text("both\n" + "text\n" * 9 + example)
    assert case.run("upgrade", "--continue").code == 0


def test_the_users_own_files_in_a_renamed_folder_are_named(case: Case) -> None:
    place = case.source / PROJECT / "old"
    place.mkdir()
    for name in ("__init__.py", "model.py"):
        (place / name).write_text("x = 1\n")
    assert case.run("upgrade").code == 0
    (case.root / "old" / "mine.py").write_text("from old.model import x\n")
    (case.root / "old" / "__pycache__").mkdir()
    (case.root / "old" / "__pycache__" / "mine.pyc").write_bytes(b"")
    place.rename(case.source / PROJECT / "new")
    moved = case.run("upgrade")
    assert moved.code == 0
    assert "the template moved `old/` to `new/`; your own files stay where they are: `old/mine.py`; move" in moved.err
    assert (case.root / "new" / "model.py").exists()


def test_markers_that_the_template_writes_are_text_like_any_other(case: Case) -> None:
    markers = "<<<<<<< ours\n=======\n>>>>>>> theirs\n"
    (case.source / PROJECT / "howto.md").write_text(markers + "".join(f"line {i}\n" for i in range(9)))
    assert case.run("upgrade").code == 0
    case.edit("howto.md", "line 8", "my line 8")
    case.change("howto.md", "line 1", "new line 1")
    assert case.run("upgrade").code == 0
    assert "new line 1\n" in case.read("howto.md")
    assert "my line 8\n" in case.read("howto.md")


def test_resolved_conflicts_need_continue_before_the_next_upgrade(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "rate = 0.1", "rate = 0.9")
    assert case.run("upgrade").code == 1
    (case.root / "train.py").write_text("rate = 0.7\n")
    refused = case.run("upgrade")
    assert (refused.code, "the conflicts in `train.py` are resolved;" in refused.err) == (3, True)
    assert case.run("upgrade", "--continue").code == 0


def test_a_damaged_baseline_is_not_taken_from_a_template_that_changed(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "third = 3", "third = 4")
    (case.root / BASELINE_PATH).write_bytes(b"broken")
    assert case.run("upgrade").code == 1  # from a wrong base, `third = 3` would look like the user's edit
    assert case.run("upgrade", "--abort").code == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--check", "--undo"],
        ["--continue", "train.py"],
        ["--skip", "../x"],
        ["--skip", "nothing.py"],
        ["--abort", "--skip", "a"],
        ["nothing.py"],
        ["--diff"],
        ["--verify", "--dry-run"],
        ["--verify", "--undo"],
    ],
)
@pytest.mark.parametrize("changed", [True, False], ids=["an upgrade", "no upgrade"])
def test_options_that_make_no_sense_are_refused(case: Case, options: list[str], changed: bool) -> None:
    if changed:
        case.change("train.py", "third = 3", "third = 4")
    before = case.tree()
    assert case.run("upgrade", *options).code == 2
    assert case.tree() == before


def test_a_resolved_conflict_is_reported_as_resolved(case: Case) -> None:
    case.edit("train.py", "rate = 0.1", "rate = 0.5")
    case.change("train.py", "rate = 0.1", "rate = 0.9")
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    assert case.run("upgrade").code == 1
    (case.root / "train.py").write_text("rate = 0.7\n")
    shown = case.run("upgrade", "--continue").out
    assert "  updated   data.py   you had not edited it\n  resolved  train.py  as you left it\n" in shown


def test_diffs_stand_one_line_apart(case: Case) -> None:
    case.edit("data.py", "value_9 = 9", "value_9 = 10")
    (case.source / PROJECT / "data.py").unlink()  # a conflict without a diff: edited here, deleted there
    case.change("train.py", "third = 3", "third = 4")
    shown = case.run("upgrade", "--dry-run", "--diff").out
    assert "conflict  data.py" in shown
    assert "\n\ndiff --git a/train.py" in shown
    assert "\n\n\n" not in shown


@pytest.mark.parametrize(
    "path", ["../outside.py", "/etc/outside.py", ".git/hooks/post-checkout", ".paccel/manifest.json"]
)
def test_a_hostile_manifest_writes_nothing(case: Case, path: str) -> None:
    manifest = case.root / MANIFEST_PATH
    manifest.write_text(manifest.read_text().replace('"data.py"', json.dumps(path)))
    case.change("train.py", "third = 3", "third = 4")
    before = case.tree()
    assert case.run("upgrade").code == 3
    assert case.tree() == before


def test_a_link_that_leads_out_is_never_written_through(case: Case, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("precious\n")
    (case.root / "data.py").unlink()
    (case.root / "data.py").symlink_to(outside)
    case.change("data.py", "value_0 = 0", "value_0 = 7")
    assert case.run("upgrade").code == 1
    assert outside.read_text() == "precious\n"
    assert (case.root / "data.py").is_symlink()
    assert "value_0 = 7" in case.read(".paccel/incoming/data.py")


def test_a_state_folder_that_is_a_link_is_refused(case: Case, tmp_path: Path) -> None:
    shutil.move(case.root / ".paccel", tmp_path / "elsewhere")
    (case.root / ".paccel").symlink_to(tmp_path / "elsewhere")
    case.change("train.py", "third = 3", "third = 4")
    before = read_tree(tmp_path / "elsewhere", ignore=())
    assert case.run("upgrade").code == 3
    assert read_tree(tmp_path / "elsewhere", ignore=()) == before


def test_a_plan_is_made_without_writing_and_says_what_it_is(case: Case) -> None:
    case.change("train.py", "third = 3", "third = 4")
    before = case.tree()
    plan = make_plan(case.root)
    assert plan.found
    assert [(change.path, change.status) for change in plan.changes] == [("train.py", "updated")]
    assert json.loads(json.dumps(plan.to_json(with_diff=True)))["changes"][0]["diff"].count("\n+ ") == 1
    assert case.tree() == before
