"""`paccel upgrade` applies renames to the user's code: shown before, applied to own files and lines, and undone."""

import os
import subprocess
from pathlib import Path

import pytest
from support.upgraded import Case

from paccel.rename.rewrite import find_program
from paccel.rename.runtime import runtime_metadata

TABLES = """
[[changes]]
version = "1"
text = "Plainer names."

[[renamed_api]]
from = "model:make_net"
to = "make_model"
since = "1"

[[renamed_api]]
from = "model:make_model(hidden)"
to = "width"
since = "1"

[[changed_meaning]]
name = "model:mean_loss"
text = "Returns the sum over the batch; it was the mean."
since = "1"
"""
MODEL = "def make_net(hidden):\n    return hidden\n\n\ndef mean_loss(x):\n    return x\n"
NEW_MODEL = MODEL.replace("make_net", "make_model").replace("hidden", "width")
SCRIPT = "from model import make_net, mean_loss\n\nprint(make_net(hidden=2))  # make_net\nprint(mean_loss(1))\n"
NEW_SCRIPT = "from model import make_model, mean_loss\n\nprint(make_model(width=2))  # make_net\nprint(mean_loss(1))\n"


@pytest.fixture
def case(paccel, template, work, monkeypatch) -> Case:
    case = Case(paccel, template, work)
    files = {"model.py": MODEL, "use.py": "import model\n\nfirst = 1\nnet = model.make_net(hidden=1)\nlast = 2\n"}
    for path, text in files.items():
        (case.source / "{{cookiecutter.project_name}}" / path).write_text(text)
    assert paccel("new", "other", "--template", case.source, "--no-input").code == 0
    case.root = work / "other"
    monkeypatch.chdir(case.root)
    return case


def released(case: Case, tables: str = TABLES) -> None:
    """Let the template rename."""
    (case.source / "paccel.toml").write_text(tables)
    case.change("model.py", MODEL, NEW_MODEL)
    case.change("use.py", "model.make_net(hidden=1)", "model.make_model(width=1)")


def write(case: Case, path: str, text: str) -> Path:
    file = case.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def upgrade(case: Case, *arguments: str):
    return case.run("upgrade", *arguments)


def test_own_files_and_edited_lines_follow_and_undo_brings_them_back(case: Case) -> None:
    write(case, "mine/eval.py", SCRIPT)
    case.edit("use.py", "net = model.make_net(hidden=1)", "net = model.make_net(hidden=99)  # mine")
    before = case.tree()
    released(case)
    planned = upgrade(case, "--dry-run", "--json").data
    assert {(one["path"], one["line"], one["old"], one["new"]) for one in planned["renames"]} == {
        ("mine/eval.py", 1, "make_net", "make_model"),
        ("mine/eval.py", 3, "make_net", "make_model"),
        ("mine/eval.py", 3, "hidden", "width"),
        ("use.py", 4, "make_net", "make_model"),
        ("use.py", 4, "hidden", "width"),
    }
    assert case.tree() == before
    shown = upgrade(case, "--dry-run", "--diff").out
    assert "mine/eval.py:3  hidden -> width" in shown
    assert "-print(make_net(hidden=2))  # make_net\n+print(make_model(width=2))  # make_net" in shown
    outcome = upgrade(case)
    assert (outcome.code, "Traceback" in outcome.err) == (0, False)
    assert case.read("mine/eval.py") == NEW_SCRIPT
    assert "net = model.make_model(width=99)  # mine\n" in case.read("use.py")
    assert case.read("model.py") == NEW_MODEL
    assert upgrade(case, "--check").code == 0
    assert upgrade(case, "--undo").code == 0
    assert case.tree() == before | {path: text for path, text in case.tree().items() if path.startswith(".paccel/")}


def test_uses_of_a_changed_meaning_are_listed_before_anything_is_written(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    released(case)
    found = upgrade(case, "--check", "--json").data["changed_meanings"]
    assert found == [
        {
            "name": "model:mean_loss",
            "text": "Returns the sum over the batch; it was the mean.",
            "uses": [{"path": "mine.py", "line": 4, "text": "print(mean_loss(1))", "certain": True}],
        }
    ]
    out = upgrade(case).out
    assert out.index("mine.py:4  print(mean_loss(1))") < out.index("updated   model.py")


def test_data_runs_environments_and_links_are_left_alone(case: Case, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text(SCRIPT)
    (case.root / ".gitignore").write_text("/data/\nscratch*\n")
    ignored = [
        ".venv/a.py",
        "env2/a.py",
        "runs/a.py",
        "data/a.py",
        ".hidden/a.py",
        "scratch.py",
        "nested/.paccel/a.py",
        "nested/b.py",
    ]
    for path in ignored:
        write(case, path, SCRIPT)
    write(case, "env2/pyvenv.cfg", "")
    (case.root / "link.py").symlink_to(outside)
    (case.root / "folder").symlink_to(tmp_path, target_is_directory=True)
    released(case)
    assert upgrade(case).code == 0
    assert {case.read(path) for path in ignored} == {SCRIPT}
    assert outside.read_text() == SCRIPT


def test_what_git_ignores_is_left_alone_and_uncommitted_edits_are_refused(case: Case) -> None:
    write(case, "deep/.gitignore", "local_*.py\n")
    write(case, "deep/local_a.py", SCRIPT)
    script = write(case, "deep/a.py", SCRIPT)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=case.root, check=True, timeout=60)
    script.write_text(SCRIPT + "x = 1\n")
    released(case)
    refused = upgrade(case)
    assert (refused.code, "`deep/a.py`" in refused.err) == (3, True)
    assert upgrade(case, "--allow-dirty").code == 0
    assert case.read("deep/a.py") == NEW_SCRIPT + "x = 1\n"
    assert case.read("deep/local_a.py") == SCRIPT


def test_skipped_files_stay_and_are_named(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    released(case)
    outcome = upgrade(case, "--skip", "mine.py", "--json").data
    assert case.read("mine.py") == SCRIPT
    assert ("mine.py", 3, "`make_net` is now `make_model`") in [tuple(one.values()) for one in outcome["unclear"]]


def test_of_a_templates_file_only_the_users_lines_are_left_to_the_user(case: Case) -> None:
    text = "class Splits:\n    valid = 1\n\n\ndef f(some):\n    return some.valid\n\n\nlast = 1\n"
    case.change("data.py", (case.source / "{{cookiecutter.project_name}}" / "data.py").read_text(), text)
    assert upgrade(case).code == 0
    case.edit("data.py", "last = 1\n", "last = 1\n\n\ndef g(some):\n    return [some.valid]\n")
    (case.source / "paccel.toml").write_text('[[renamed_api]]\nfrom = "data:Splits.valid"\nto = "held_out"\n')
    case.change("data.py", text, text.replace("valid", "held_out"))
    done = upgrade(case, "--json").data
    assert [(place["path"], place["line"]) for place in done["unclear"]] == [("data.py", 13)]
    text = case.read("data.py")
    assert "\n\ndef f(some):\n    return some.held_out\n" in text
    assert "    return [some.valid]\n" in text
    assert done["conflicts"] == ["data.py"]  # the class has lost what `g` still reads


def test_a_definition_that_is_skipped_keeps_its_name_everywhere(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    released(case)
    outcome = upgrade(case, "--skip", "model.py", "--json").data
    assert case.read("mine.py") == SCRIPT
    assert "`model.py` is left as it is" in outcome["not_applied"][0]


def test_with_paths_only_these_files_follow(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    released(case)
    assert upgrade(case, "model.py").code == 0
    assert (case.read("model.py"), case.read("mine.py")) == (NEW_MODEL, SCRIPT)
    assert upgrade(case).code == 0
    assert case.read("mine.py") == NEW_SCRIPT


def test_a_rename_of_an_earlier_version_is_not_made_again(case: Case) -> None:
    released(case)
    assert upgrade(case).code == 0
    write(case, "mine.py", "from model import make_net\n")
    case.edit("model.py", "def mean_loss", "def make_net():\n    return 0\n\n\ndef mean_loss")
    case.change("use.py", "last = 2", "last = 3")
    for tables in (TABLES, TABLES.replace('since = "1"\n', "")):
        (case.source / "paccel.toml").write_text(tables)
        assert upgrade(case).code == 0
        assert case.read("mine.py") == "from model import make_net\n"
        assert "def make_net():" in case.read("model.py")


def test_a_name_that_was_renamed_twice_follows_in_the_order_of_the_versions(case: Case) -> None:
    write(case, "mine.py", "from model import make_net\n")
    twice = '[[renamed_api]]\nfrom = "model:{}"\nto = "{}"\nsince = "{}"\n'
    tables = '[[changes]]\nversion = "10"\ntext = "Plainer names."\n'
    tables += twice.format("build", "make_model", "10") + twice.format("make_net", "build", "9")
    (case.source / "paccel.toml").write_text(tables)
    case.change("model.py", "make_net", "make_model")
    case.change("use.py", "make_net", "make_model")
    assert upgrade(case).code == 0
    assert case.read("mine.py") == "from model import make_model\n"


def test_a_rename_that_this_projects_answers_do_not_have_is_passed_over(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    write(case, "other.py", "def gone(): ...\n")
    write(case, "user.py", "from other import gone\n")
    released(case, TABLES + '\n[[renamed_api]]\nfrom = "other:gone"\nto = "here"\n')
    assert upgrade(case).code == 0
    assert case.read("user.py") == "from other import gone\n"


@pytest.mark.skipif(find_program() is None, reason="needs paccel[rewrite]")
def test_a_rule_rewrites_the_users_calls(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    rule = "id: a\\nlanguage: python\\nrule: {pattern: mean_loss($A)}\\nfix: mean_loss($A) / 2"
    released(case, TABLES + f'\n[[rewrites]]\nsince = "1"\nrule = "{rule}"\n')
    found = upgrade(case, "--json").data
    assert case.read("mine.py") == NEW_SCRIPT.replace("mean_loss(1)", "mean_loss(1) / 2")
    assert {"path": "mine.py", "line": 4, "old": "mean_loss(1)", "new": "mean_loss(1) / 2"} in found["renames"]
    assert found["changed_meanings"] == []


def test_what_the_runtime_renamed_is_data_that_can_be_read() -> None:
    assert {str(one.new) for one in runtime_metadata().renamed_api} >= {"paccel.runtime:Loader"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_stops_no_upgrade(case: Case) -> None:
    write(case, "mine.py", SCRIPT)
    write(case, "closed.py", SCRIPT).chmod(0)
    released(case)
    done = upgrade(case, "--json")
    assert (done.code, case.read("mine.py")) == (0, NEW_SCRIPT)
    assert "`closed.py` cannot be read" in done.data["not_applied"][0]


@pytest.mark.skipif(find_program() is None, reason="needs paccel[rewrite]")
def test_a_call_that_no_rule_knows_meets_the_templates_in_a_conflict(case: Case) -> None:
    rule = "id: a\\nlanguage: python\\nrule: {pattern: model.make_net(hidden=$A)}\\nfix: model.make_net([$A])"
    case.edit("use.py", "model.make_net(hidden=1)", "model.make_net(hidden=1, deep=True)")
    write(case, "mine.py", "import model\n\nmodel.make_net(hidden=7)\n")
    (case.source / "paccel.toml").write_text(f'[[rewrites]]\nrule = "{rule}"\n')
    case.change("use.py", "model.make_net(hidden=1)", "model.make_net([1])")
    assert upgrade(case, "--json").data["conflicts"] == ["use.py"]
    assert case.read("mine.py") == "import model\n\nmodel.make_net([7])\n"


def test_a_file_that_the_user_moved_follows_unless_git_ignores_it(case: Case) -> None:
    for name in ("kept", "scratch"):
        (case.root / name).mkdir()
    (case.root / "use.py").rename(case.root / "kept" / "use.py")
    write(case, "scratch/use.py", case.read("kept/use.py"))
    (case.root / ".gitignore").write_text("/scratch/\n")
    before = case.read("scratch/use.py")
    released(case)
    assert upgrade(case).code == 0
    assert "model.make_model(width=1)" in case.read("kept/use.py")
    assert case.read("scratch/use.py") == before
