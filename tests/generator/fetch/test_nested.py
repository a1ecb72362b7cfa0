"""Several templates in one place: one is chosen, or the error says how to choose."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paccel.catalog.catalog import load_template
from paccel.errors import TemplateError

Write = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"


def template(name: str) -> dict[str, str]:
    return {f"{name}/cookiecutter.json": '{"project_name": "x"}', f"{name}/{PROJECT}/a.txt": name}


def pack(*names: str, context: object) -> dict[str, str]:
    files = {path: text for name in names for path, text in template(name).items()}
    return files | ({"cookiecutter.json": json.dumps(context)} if context is not None else {})


NEW = {"templates": {"one": {"path": "./one", "title": "One"}, "two": {"path": "kinds/two", "title": "Two"}}}
OLD = {"template": ["First (./one)", "Second (kinds/two)"]}


@pytest.mark.parametrize("context", [NEW, OLD])
def test_nested_templates_are_named_with_the_way_to_choose(tmp_path: Path, write: Write, context: object) -> None:
    folder = write(tmp_path / "pack", pack("one", "kinds/two", "three", context=context))
    with pytest.raises(
        TemplateError, match=r"several templates \(`kinds/two`, `one`\): choose one, as in `…#kinds/two`"
    ):
        load_template(str(folder))
    found = load_template(f"{folder}#kinds/two")
    assert (found.name, found.source) == ("two", f"{folder}#kinds/two")
    assert load_template(f"{folder}/one").name == "one"


def test_the_only_nested_template_is_taken(tmp_path: Path, write: Write) -> None:
    context = {"templates": {"one": {"path": "./one"}, "bad": {"path": "../.."}, "odd": 1, "nul": {"path": "\0"}}}
    assert load_template(str(write(tmp_path / "pack", pack("one", "two", context=context)))).name == "one"


def test_templates_that_list_each_other_are_no_endless_search(tmp_path: Path, write: Write) -> None:
    files = {
        "cookiecutter.json": '{"templates": {"a": {"path": "a"}}}',
        "a/cookiecutter.json": '{"templates": {"b": {"path": ".."}}}',
    }
    with pytest.raises(TemplateError, match="is not a cookiecutter template"):
        load_template(str(write(tmp_path / "pack", files)))


def test_a_question_called_template_is_a_question(tmp_path: Path, write: Write) -> None:
    context = {"project_name": "x", "template": ["small", "large (slow)"]}
    files = {"cookiecutter.json": json.dumps(context), f"{PROJECT}/a.txt": ""}
    found = load_template(str(write(tmp_path / "tpl", files)))
    assert [question.name for question in found.questions] == ["project_name", "template"]


def test_the_folder_of_several_templates_is_explained(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "pack", pack("one", "two", context=None))
    with pytest.raises(TemplateError, match=r"several templates \(`one`, `two`\)"):
        load_template(str(folder))


def test_a_folder_inside_a_template_is_explained(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "pack", template("one")) / "one"
    with pytest.raises(TemplateError, match=rf"has no `cookiecutter\.json`; the folder around it, `{folder}`, has one"):
        load_template(str(folder / PROJECT))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
@pytest.mark.timeout(20)
def test_a_pipe_in_a_template_is_not_waited_for(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "pack", template("one"))
    os.mkfifo(folder / "paccel.toml")
    os.mkfifo(folder / "one" / PROJECT / "pipe")
    os.mkfifo(folder / "one" / "paccel.toml")
    os.mkfifo(folder / "cookiecutter.json")
    assert load_template(str(folder)).name == "one"
    (folder / "one" / "cookiecutter.json").unlink()
    with pytest.raises(TemplateError, match=r"it has no `cookiecutter\.json`"):
        load_template(str(folder))
