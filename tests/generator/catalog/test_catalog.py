"""Templates are found and read; whatever is not a valid template is refused with a reason."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paccel.catalog import catalog
from paccel.catalog.catalog import bundled_names, load_template, read_bundled_metadata
from paccel.catalog.metadata import Change, Extra, Move, RenamedAnswer, parse_metadata
from paccel.errors import TemplateError

Make = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"


def test_a_directory_is_a_template(template: Make) -> None:
    folder = template({"a.txt": "x", "sub/run.sh": "#!/bin/sh\n"}, {"ema": False})
    found = load_template(str(folder))
    assert (found.name, found.source) == ("demo", str(folder))
    assert [question.name for question in found.questions] == ["project_name", "ema"]
    assert {path: file.executable for path, file in found.layers[0].project.items()} == {
        "a.txt": False,
        "sub/run.sh": True,
    }


def test_a_directory_is_kept_as_it_was_typed_made_absolute(template: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = template()
    monkeypatch.chdir(folder.parent)
    assert load_template("./demo").source == str(folder)


def test_the_version_is_the_content(template: Make, tmp_path: Path) -> None:
    folder = template({"a.txt": "x"}, extra={"templates/p.txt": "p", "README.md": "about the template"})
    version = load_template(str(folder)).digest
    shutil.copytree(folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("other words")
    (tmp_path / "elsewhere" / "__pycache__").mkdir()
    (tmp_path / "elsewhere" / PROJECT / "__pycache__").mkdir()
    (tmp_path / "elsewhere" / PROJECT / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert load_template(str(tmp_path / "elsewhere")).digest == version
    for changed in (f"{PROJECT}/a.txt", "templates/p.txt", "cookiecutter.json"):
        before = (folder / changed).read_text()
        (folder / changed).write_text(before + " ")
        assert load_template(str(folder)).digest != version, changed
        (folder / changed).write_text(before)
    (folder / PROJECT / "a.txt").chmod(0o755)
    assert load_template(str(folder)).digest != version


def test_an_unknown_template_is_explained() -> None:
    with pytest.raises(
        TemplateError, match=r"no template `image-clasification`; did you mean `image-classification`\?"
    ):
        load_template("image-clasification")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no `cookiecutter.json`"),
        ({"cookiecutter.json": "{"}, "not valid JSON"),
        ({"cookiecutter.json": "[]"}, "JSON object of questions"),
        ({"cookiecutter.json": b"\xff"}, "not UTF-8"),
        ({"cookiecutter.json": "{}"}, "exactly one folder of project files.*found: none"),
        ({"cookiecutter.json": "{}", f"{PROJECT}/a": "", "{{cookiecutter.other}}/a": ""}, "found: `.*`, `.*`"),
        ({"cookiecutter.json": "{}", f"{PROJECT}/a": "", "paccel.toml": "a ="}, "not valid TOML"),
        ({"cookiecutter.json": "{}", f"{PROJECT}/a": "", "paccel.toml": 'layers = ["_no"]'}, "`_no`.*does not exist"),
        (
            {"cookiecutter.json": "{}", f"{PROJECT}/a": "", "paccel.toml": "[questions.x]"},
            "documents an unknown question: `x`",
        ),
    ],
)
def test_what_is_no_template_is_explained(
    tmp_path: Path, write: Callable[..., Path], files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(TemplateError, match=message):
        load_template(str(write(tmp_path / "broken", files)))


def test_links_inside_a_template_are_copies(template: Make, write: Callable[..., Path]) -> None:
    folder = template({"AGENTS.md": "a", "docs/b.txt": "b"}, extra={"LICENSE": "free", "partials/p.txt": "p"})
    project = folder / PROJECT
    (project / "CLAUDE.md").symlink_to("AGENTS.md")
    (project / "docs" / "LICENSE").symlink_to("../../LICENSE")
    (project / "manual").symlink_to("docs")
    (folder / "templates").symlink_to("partials")
    (project / ".#AGENTS.md").symlink_to("me@host.1234:5678")  # how an editor locks a file
    layer = load_template(str(folder)).layers[0]
    assert {path: file.content for path, file in layer.project.items()} == {
        "AGENTS.md": b"a",
        "CLAUDE.md": b"a",
        "docs/b.txt": b"b",
        "docs/LICENSE": b"free",
        "manual/b.txt": b"b",
        "manual/LICENSE": b"free",
    }
    assert [*layer.partials] == ["p.txt"]


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("link", "/etc/hosts", "an absolute path"),
        ("link", "../../outside", "outside of the template's folder"),
        ("link", "missing", "which does not exist"),
        ("link", "link", "go round in a circle"),
        ("sub/link", "..", "leads to a folder that it is in"),
        ("link", "../.git/config", "belongs to git"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(
    template: Make, write: Callable[..., Path], link: str, target: str, reason: str
) -> None:
    folder = template({"a.txt": "", "sub/b.txt": ""}, extra={".git/config": "token"})
    write(folder.parent, {"outside/key.pem": "secret"})
    (folder / PROJECT / link).symlink_to(target)
    with pytest.raises(TemplateError, match=rf"symbolic link `{link}`.*{reason}"):
        load_template(str(folder))


@pytest.mark.parametrize("name", [PROJECT, "templates", "cookiecutter.json", "paccel.toml"])
def test_no_part_of_a_template_is_a_link_that_leads_outside(template: Make, name: str) -> None:
    folder = template({"a.txt": ""}, extra={"templates/a.txt": ""}, metadata="")
    (folder / name).rename(folder.parent / "outside")
    (folder / name).symlink_to("../outside")
    with pytest.raises(TemplateError, match="outside of the template's folder"):
        load_template(str(folder))


def test_partials_behind_a_link_are_refused(template: Make, tmp_path: Path) -> None:
    folder = template({"a.txt": ""}, metadata="")
    (folder.parent / "_partials").symlink_to(tmp_path)
    with pytest.raises(TemplateError, match="`_partials` is a symbolic link"):
        load_template(str(folder))


def test_links_that_multiply_are_cut_off(template: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.files.tree.MAX_FILES", 200)
    folder = template({"a.txt": ""})
    (folder / PROJECT / "0").mkdir()  # 4,096 ways lead to it, and no file
    for level in range(1, 13):
        (folder / PROJECT / str(level)).mkdir()
        for name in ("one", "two"):
            (folder / PROJECT / str(level) / name).symlink_to(f"../{level - 1}")
    with pytest.raises(TemplateError, match="more than 200 files"):
        load_template(str(folder))


@pytest.mark.parametrize(
    "junk",
    [
        *(".DS_Store", "._a.txt", "Thumbs.db", "a.txt~", ".a.txt.swp", ".a.txt.swo", "#a.txt#", "a.pyc", ".git"),
        *(
            ".pytest_cache/v/x",
            ".venv/bin/x",
            ".ipynb_checkpoints/x",
            ".idea/../.mypy_cache/x",
            "demo.egg-info/PKG-INFO",
        ),
        *("sub/__pycache__/x", "sub/.git"),
    ],
)
def test_what_editors_and_systems_leave_behind_is_passed_over(template: Make, junk: str) -> None:
    folder = template({"a.txt": "x"})
    before = load_template(str(folder))
    (folder / PROJECT / ".idea").mkdir()
    place = folder / PROJECT / junk
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("junk")
    (folder / PROJECT / "own").mkdir()  # a virtual environment under any name
    (folder / PROJECT / "own" / "pyvenv.cfg").write_text("")
    after = load_template(str(folder))
    assert (after.digest, after.layers[0].project) == (before.digest, before.layers[0].project)


def test_what_only_looks_like_junk_is_kept(template: Make) -> None:
    names = {".gitignore", ".gitkeep", ".vscode/settings.json", ".github/ci.yml", "a.swp", ".env", "build/x"}
    assert load_template(str(template(dict.fromkeys(names, "x")))).layers[0].project.keys() == names


def test_empty_folders_are_known(template: Make) -> None:
    folder = template({"a.txt": ""}, extra={f"{PROJECT}/logs/.DS_Store": "", f"{PROJECT}/own/pyvenv.cfg": ""})
    for name in ("data/raw", "own/bin", ".mypy_cache/x"):
        (folder / PROJECT / name).mkdir(parents=True)
    assert load_template(str(folder)).layers[0].folders == ("data/raw", "logs")


def test_a_file_that_git_lfs_keeps_elsewhere_is_refused(template: Make) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    with pytest.raises(TemplateError, match=r"`data/logo\.png` of the template is a pointer of Git LFS.*git lfs pull"):
        load_template(str(template({"data/logo.png": pointer})))


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"a\x1b[31m.txt"])
def test_a_name_that_is_no_text_is_refused(template: Make, name: bytes) -> None:
    folder = template({"a.txt": ""})
    (folder / PROJECT / os.fsdecode(name)).write_text("")
    with pytest.raises(TemplateError, match="control characters or is not valid Unicode"):
        load_template(str(folder))


def test_a_directory_that_is_far_too_large_is_refused(template: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.files.tree.MAX_FILES", 3)
    with pytest.raises(TemplateError, match="more than 3 files"):
        load_template(str(template({f"{index}.txt": "" for index in range(4)})))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("org/repo", "for GitHub `gh:org/repo`"),
        ("github.com/org/repo", "as `https://github.com/org/repo`"),
        ("C:\\Users\\me\\tpl.git", "There is no template"),
    ],
)
def test_an_address_that_lacks_its_beginning_is_recognised(source: str, hint: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(hint)):
        load_template(source)


def test_hooks_are_warned_about(template: Make) -> None:
    found = load_template(str(template(extra={"hooks/post_gen_project.py": "1/0"})))
    assert found.warnings == ("The hooks in `demo/hooks` are not run: paccel never runs code from a template",)


def test_a_layer_alone_is_no_template(template: Make) -> None:
    with pytest.raises(TemplateError, match="layer of other templates"):
        load_template(str(template(name="_base")))


def test_questions_are_the_union_of_the_layers(template: Make) -> None:
    template({}, {"author": ""}, name="_base", metadata='[questions.author]\nhelp = "Who"\n')
    template({}, {"nodes": ["1", "2"]}, name="_slurm")
    folder = template(
        {},
        {"slurm": False},
        metadata='layers = ["_base"]\n[[extras]]\nlayer = "_slurm"\nwhen = { slurm = true }\n'
        '[questions.nodes]\nhelp = "How many"\nchoices = { 1 = "one" }\n',
    )
    found = load_template(str(folder))
    assert [(q.name, q.help) for q in found.questions] == [
        ("project_name", ""),
        ("slurm", ""),
        ("author", "Who"),
        ("nodes", "How many"),
    ]
    assert found.questions[-1].choice_help == {"1": "one"}
    assert [layer.name for layer in found.active_layers({"slurm": False})] == ["_base", "demo"]
    assert [layer.name for layer in found.active_layers({"slurm": True})] == ["_base", "demo", "_slurm"]


def test_a_layer_brings_extras_and_a_template_may_fix_what_it_asks(template: Make) -> None:
    template({}, {"nodes": ["1", "2"]}, name="_slurm")
    brings = '[[extras]]\nlayer = "_slurm"\nwhen = { slurm = true }\n'
    template({}, {"slurm": False, "ema": True}, name="_training", metadata=brings)
    free = load_template(str(template({}, metadata='layers = ["_training"]')))
    assert [layer.name for layer in free.active_layers({"slurm": False})] == ["_training", "demo"]
    assert [layer.name for layer in free.active_layers({"slurm": True})] == ["_training", "demo", "_slurm"]

    fixed = load_template(str(template({}, metadata='layers = ["_training"]\nfixed = { slurm = true, ema = false }\n')))
    assert [question.name for question in fixed.questions] == ["project_name", "nodes"]
    assert [layer.name for layer in fixed.active_layers(fixed.values({}))] == ["_training", "demo", "_slurm"]


def test_an_extra_brings_no_further_extras(template: Make) -> None:
    template({}, name="_more")
    brings = '[[extras]]\nlayer = "{}"\nwhen = {{ slurm = true }}\n'
    template({}, {"slurm": False}, name="_slurm", metadata=brings.format("_more"))
    with pytest.raises(TemplateError, match="an extra cannot have extras"):
        load_template(str(template({}, metadata=brings.format("_slurm"))))


@pytest.mark.parametrize("fixed", ['emma = "x"', 'data = "mnst"', "data = true"])
def test_what_is_fixed_must_be_an_answer(template: Make, fixed: str) -> None:
    template({}, {"data": ["mnist"]}, name="_base")
    with pytest.raises(TemplateError, match="`fixed` has an impossible answer"):
        load_template(str(template({}, metadata=f'layers = ["_base"]\nfixed = {{ {fixed} }}\n')))


def test_layers_must_agree_on_a_question(template: Make) -> None:
    template({}, {"ema": True}, name="_base")
    with pytest.raises(TemplateError, match="asks `ema` differently"):
        load_template(str(template({}, {"ema": False}, metadata='layers = ["_base"]')))


@pytest.mark.parametrize("when", ["{ emma = true }", '{ ema = "yes" }', '{ data = "mnst" }', "{ data = true }"])
def test_an_extra_that_no_answer_turns_on_is_an_error(template: Make, when: str) -> None:
    template({}, name="_extra")
    folder = template({}, {"ema": False, "data": ["mnist"]}, metadata=f'[[extras]]\nlayer = "_extra"\nwhen = {when}\n')
    with pytest.raises(TemplateError, match="an impossible answer"):
        load_template(str(folder))


def test_metadata_of_layers_adds_up(template: Make) -> None:
    template({}, name="_base", metadata='[[moved]]\nfrom = "a"\nto = "b"\n[[dropped_answers]]\nname = "x"\n')
    folder = template({}, metadata='title = "Demo"\nlayers = ["_base"]\n[[moved]]\nfrom = "c"\nto = "d"\n')
    metadata = load_template(str(folder)).metadata
    assert (metadata.title, metadata.moved, metadata.dropped_answers) == (
        "Demo",
        (Move("a", "b"), Move("c", "d")),
        ("x",),
    )


def test_shared_partials_belong_to_packs(template: Make, write: Callable[..., Path]) -> None:
    plain, pack = template({}, name="plain"), template({}, name="pack", metadata="")
    write(plain.parent / "_partials", {"shared.txt": "s"})
    assert dict(load_template(str(plain)).layers[0].partials) == {}
    assert list(load_template(str(pack)).layers[0].partials) == ["shared.txt"]
    write(pack / "templates", {"shared.txt": "other"})
    with pytest.raises(TemplateError, match="keep one of them"):
        load_template(str(pack))


def test_every_key_of_the_metadata_is_read() -> None:
    metadata = parse_metadata(
        """
        title = "T"
        description = "D"
        reaches = "99 %"
        layers = ["_base"]
        replaces = ["README.md"]
        fixed = { ema = false }
        [[extras]]
        layer = "_slurm"
        when = { slurm = true, data = "mnist" }
        [questions.data]
        help = "H"
        choices = { mnist = "M" }
        [[moved]]
        from = "old.py"
        to = "new.py"
        [[renamed_answers]]
        from = "logger"
        to = "tracker"
        values = { tb = "tensorboard" }
        [[dropped_answers]]
        name = "old"
        [[changes]]
        version = "0.1.0"
        files = ["train.py"]
        text = "X"
        """,
        "paccel.toml",
    )
    assert (metadata.title, metadata.description, metadata.layers) == ("T", "D", ("_base",))
    assert metadata.reaches == "99 %"
    assert metadata.replaces == ("README.md",)
    assert metadata.extras == (Extra("_slurm", {"slurm": True, "data": "mnist"}),)
    assert metadata.fixed == {"ema": False}
    assert (metadata.questions["data"].help, metadata.questions["data"].choices) == ("H", {"mnist": "M"})
    assert metadata.moved == (Move("old.py", "new.py"),)
    assert metadata.renamed_answers == (RenamedAnswer("logger", "tracker", {"tb": "tensorboard"}),)
    assert metadata.dropped_answers == ("old",)
    assert metadata.changes == (Change("0.1.0", "X", ("train.py",)),)


def test_all_that_is_wrong_in_the_metadata_is_named() -> None:
    with pytest.raises(TemplateError) as caught:
        parse_metadata(
            'titel = "T"\ndescription = 1\nlayers = ["../x"]\nreplaces = ["/etc/x"]\nmoved = [{ from = "a", too = "b" }]\n'
            "extras = 1\nchanges = [1]\n[questions]\na = 1\n[[renamed_answers]]\n",
            "demo/paccel.toml",
        )
    text = str(caught.value)
    for part in (
        "`titel` is not a known key",
        "`description` must be text",
        "`../x`",
        "`/etc/x`",
        "`moved[0].to` is missing",
        "`moved[0].too` is not a known key",
        "`extras` must be a list",
        "`changes` must be a list of tables",
        "`questions` must be a table of tables",
        "`renamed_answers[0].from` is missing",
    ):
        assert part in text, part


def test_there_are_bundled_templates_and_the_default_is_the_first() -> None:
    assert bundled_names()[0] == catalog.DEFAULT_TEMPLATE


def test_a_list_says_what_each_template_says_of_itself_and_reads_no_project_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = {name: load_template(name).metadata for name in bundled_names()}
    monkeypatch.setattr(catalog, "read_tree", None)
    monkeypatch.setattr(catalog, "read_inside", None)
    found = read_bundled_metadata()
    assert [*found] == bundled_names()
    assert {name: (about.title, about.description, about.reaches) for name, about in found.items()} == {
        name: (about.title, about.description, about.reaches) for name, about in metadata.items()
    }
