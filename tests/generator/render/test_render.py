"""A template and its answers render to one tree: cookiecutter's bytes, black's formatting, on every machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import load_template
from paccel.errors import TemplateError, UsageError
from paccel.files.tree import File, read_tree, tree_hash
from paccel.render.render import render

Make = Callable[..., Path]
STATEMENTS = {"_jinja2_env_vars": {"line_statement_prefix": "# %", "trim_blocks": True, "lstrip_blocks": True}}
BLACK = "[tool.black]\nline-length = 100\n"


def rendered(folder: Path, given: Mapping[str, Any] | None = None) -> dict[str, File]:
    template = load_template(str(folder))
    return render(template, resolve_answers(template, given or {}, project_name="my-project"))


def texts(tree: Mapping[str, File]) -> dict[str, str]:
    return {path: file.content.decode() for path, file in tree.items()}


def test_names_and_contents_are_rendered(template: Make) -> None:
    folder = template(
        {
            "{{cookiecutter.package}}/{{cookiecutter.data}}.txt": "{{ cookiecutter.project_name }}\n",
            "{% if cookiecutter.ema %}ema.txt{% endif %}": "ema",
            "a/{% if cookiecutter.ema %}b{% endif %}/c.txt": "c",
            "{% if cookiecutter.ema %}top{% endif %}/{{cookiecutter.data}}/d.txt": "d",
            "plain.md": "no newline at the end",
        },
        {"package": "{{ cookiecutter.project_name | replace('-', '_') }}", "data": ["x", "y"], "ema": False},
    )
    assert texts(rendered(folder, {"data": "y"})) == {
        "my_project/y.txt": "my-project\n",
        "plain.md": "no newline at the end",
    }
    assert {"ema.txt", "a/b/c.txt", "top/x/d.txt"} <= set(rendered(folder, {"ema": True}))


def test_comments_can_be_statements(template: Make) -> None:
    source = "x = 1\n# % if cookiecutter.ema\nema = True\n# % else\nema = None\n# % endif\n"
    folder = template({"a.py": source}, {"ema": False, **STATEMENTS})
    assert texts(rendered(folder, {"ema": True}))["a.py"] == "x = 1\nema = True\n"
    assert texts(rendered(folder))["a.py"] == "x = 1\nema = None\n"


def test_booleans_stay_booleans(template: Make) -> None:
    folder = template({"a": "{{ cookiecutter.ema is sameas true }} {{ cookiecutter.ema }}"}, {"ema": False})
    assert texts(rendered(folder, {"ema": "yes"}))["a"] == "True True"


def test_private_variables_are_there(template: Make) -> None:
    folder = template(
        {"a": "{{ cookiecutter._raw }} {{ cookiecutter.__made }} {{ cookiecutter.table.k }}"},
        {"_raw": "{{ x }}", "__made": "{{ cookiecutter.project_name | upper }}", "table": {"k": "v"}},
    )
    assert texts(rendered(folder))["a"] == "{{ x }} MY-PROJECT v"


def test_a_private_variable_may_name_a_question_of_a_layer(template: Make) -> None:
    template({}, {"author": "me"}, name="_base")
    folder = template(
        {"a": "{{ cookiecutter.__by }}"}, {"__by": "by {{ cookiecutter.author }}"}, metadata='layers = ["_base"]'
    )
    assert texts(rendered(folder, {"author": "you"}))["a"] == "by you"
    alone = template({"a": ""}, {"__by": "by {{ cookiecutter.author }}"}, name="alone")
    with pytest.raises(
        TemplateError, match=r"`__by` of `alone` cannot be rendered: `cookiecutter.author` is not defined"
    ):
        rendered(alone)


def test_what_an_extra_waits_for_may_be_one_of_several_choices(template: Make) -> None:
    template({"wandb.txt": "{{ cookiecutter.trackers | join('+') }}"}, {}, name="_wandb")
    metadata = '[[extras]]\nlayer = "_wandb"\nwhen = { trackers = "wandb" }\n[questions.trackers]\nmultiple = true\n'
    folder = template({"a": ""}, {"trackers": ["tb", "wandb"]}, metadata=metadata)
    assert texts(rendered(folder)) == {"a": ""}
    assert texts(rendered(folder, {"trackers": "wandb,tb"})) == {"a": "", "wandb.txt": "tb+wandb"}


def test_partials_are_included_from_the_layer_and_the_pack(template: Make, write: Callable[..., Path]) -> None:
    folder = template(
        {"a": "{% include 'own.txt' %}{% include 'sub/shared.txt' %}"}, extra={"templates/own.txt": "o"}, metadata=""
    )
    write(folder.parent / "_partials", {"sub/shared.txt": "{{ cookiecutter.project_name }}"})
    assert texts(rendered(folder)) == {"a": "omy-project"}


def test_binary_files_newlines_and_modes_are_kept(template: Make) -> None:
    binary = b"\x89PNG\r\n\x1a\n\0\0{{ nothing }}\xff"
    folder = template(
        {
            "logo.png": binary,
            "crlf.txt": "{{ cookiecutter.project_name }}\r\nb\r\n",
            "run": "#!/bin/sh\n",
            "tool.sh": "x\n",
        }
    )
    (folder / "{{cookiecutter.project_name}}" / "tool.sh").chmod(0o711)
    (folder / "{{cookiecutter.project_name}}" / "run").chmod(0o600)
    tree = rendered(folder)
    assert tree["logo.png"].content == binary
    assert tree["crlf.txt"].content == b"my-project\r\nb\r\n"
    assert {path: file.executable for path, file in tree.items()} == {
        "logo.png": False,
        "crlf.txt": False,
        "run": True,
        "tool.sh": True,
    }


def test_copied_folders_are_not_rendered(template: Make) -> None:
    folder = template(
        {
            "docs/{{cookiecutter.project_name}}/{{x}}.md": "{{ y }}",
            "raw.txt": "{{ z }}",
            "{{cookiecutter.project_name}}.raw": "{{ z }}",
        },
        {"_copy_without_render": ["docs", "*.raw", "raw.txt"]},
    )
    assert texts(rendered(folder)) == {
        "docs/{{cookiecutter.project_name}}/{{x}}.md": "{{ y }}",
        "raw.txt": "{{ z }}",
        "my-project.raw": "{{ z }}",
    }


def test_byte_code_does_not_come_along(template: Make) -> None:
    folder = template({"a.py": "x = 1\n", "__pycache__/a.cpython-311.pyc": b"\0", "b.pyc": b"\0"})
    assert list(rendered(folder)) == ["a.py"]


def test_python_is_formatted_by_the_projects_settings(template: Make) -> None:
    long = "value = function(" + ", ".join(f"argument_{i}" for i in range(7)) + ")\n"
    files = {
        "pyproject.toml": BLACK,
        "a.py": "x = {'a':1}\n" + long,
        "b.pyi": "def f(): ...\n\n\n\nx: int\n",
        "c.txt": "x=1",
    }
    tree = texts(rendered(template(files)))
    assert tree["a.py"] == 'x = {"a": 1}\n' + long
    assert tree["b.pyi"] == "def f(): ...\n\nx: int\n"
    assert tree["c.txt"] == "x=1"


def test_without_settings_nothing_is_formatted(template: Make) -> None:
    files = {"pyproject.toml": "[project]\n", "a.py": "x = {'a':1}\n", "broken.py": "def\n"}
    assert texts(rendered(template(files))) == files


def test_layers_lie_over_each_other(template: Make) -> None:
    template({"README.md": "base", "b.txt": "b"}, {"author": "me"}, name="_base")
    template(
        {"launch.sh": "#!{{ cookiecutter.author }}", "b.txt": "s"}, {}, name="_slurm", metadata='replaces = ["b.txt"]'
    )
    folder = template(
        {"README.md": "task of {{ cookiecutter.author }}"},
        {"slurm": False},
        metadata='layers = ["_base"]\nreplaces = ["README.md"]\n[[extras]]\nlayer = "_slurm"\nwhen = { slurm = true }\n',
    )
    assert texts(rendered(folder)) == {"README.md": "task of me", "b.txt": "b"}
    assert texts(rendered(folder, {"slurm": True})) == {"README.md": "task of me", "b.txt": "s", "launch.sh": "#!me"}


def test_what_a_template_fixes_is_rendered_and_cannot_be_answered(template: Make) -> None:
    template({"a.txt": "{{ cookiecutter.ema }}"}, {"ema": False}, name="_base")
    folder = template({}, metadata='layers = ["_base"]\nfixed = { ema = true }\n')
    assert texts(rendered(folder)) == {"a.txt": "True"}
    with pytest.raises(UsageError, match="`ema` is not a question"):
        rendered(folder, {"ema": False})


def test_a_file_of_two_layers_is_an_error(template: Make) -> None:
    template({"README.md": "base"}, name="_base")
    with pytest.raises(TemplateError, match=r"`README.md` comes from `demo` and from a layer before"):
        rendered(template({"README.md": "x"}, metadata='layers = ["_base"]'))


def test_two_files_that_render_to_one_are_an_error(template: Make) -> None:
    with pytest.raises(TemplateError, match="render to `x`"):
        rendered(template({"{{'x'}}": "1", "x": "2"}))


def test_names_that_differ_in_case_only_are_an_error(template: Make) -> None:
    with pytest.raises(TemplateError, match="differ only in case"):
        rendered(template({"readme.md": "1", "README.md": "2"}))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "1\n2\n{{ cookiecutter.emma }}\n"}, r"`a.txt` line 3 of `demo`.*`cookiecutter.emma` is not defined"),
        ({"a.txt": "{{ emma }}"}, r"`a.txt` line 1 of `demo`.*'emma' is undefined"),
        ({"a.txt": "1\n{% if %}"}, r"`a.txt` line 2 of `demo`"),
        ({"a.txt": "{% include 'p.txt' %}"}, r"`templates/p.txt` line 2 of `demo`.*`cookiecutter.emma`"),
        ({"a.txt": "{% include 'q.txt' %}"}, "includes `q.txt`, which does not exist"),
        ({"a.txt": "{% include '../../../cookiecutter.json' %}"}, "does not exist"),
        ({"a.txt": "{{ 1 / 0 }}"}, "ZeroDivisionError"),
        ({"a.txt": "{{ ''.__class__.__mro__ }}"}, "sandbox"),
        ({"a.txt": "{{ cycler.__init__.__globals__ }}"}, "sandbox"),
        ({"{{cookiecutter.emma}}.txt": ""}, r"The path .*`cookiecutter.emma` is not defined"),
        ({"{{cookiecutter.up}}/x": ""}, "leads outside the project"),
        ({"{{cookiecutter.root}}": ""}, "leads outside the project"),
        ({"{{'.git'}}/hooks/pre-commit": ""}, "cannot write into `.git`"),
        ({"{{'.paccel'}}/manifest.json": ""}, "cannot write into `.paccel`"),
        ({"a.py": b"x = '\xe4{{ y }}'\n"}, "`a.py`.* not UTF-8: convert it, or list it under `_copy_without_render`"),
        ({"pyproject.toml": "[tool.black]\ntarget-version = ['py2']\n", "a.py": "x = 1\n"}, "target-version"),
    ],
)
def test_what_cannot_be_rendered_is_explained(template: Make, files: dict[str, str | bytes], message: str) -> None:
    folder = template(files, {"up": "../..", "root": "/etc/x"}, extra={"templates/p.txt": "\n{{ cookiecutter.emma }}"})
    with pytest.raises(TemplateError, match=message):
        rendered(folder)


def test_extensions_that_are_code_are_refused(template: Make) -> None:
    with pytest.raises(TemplateError, match="never runs code from a template"):
        rendered(template({}, {"_extensions": ["local_extensions.Anything"]}))
    assert texts(rendered(template({"a": "{% do [] %}x"}, {"_extensions": ["jinja2.ext.do"]}))) == {"a": "x"}


def test_hooks_are_not_run(template: Make, tmp_path: Path) -> None:
    hook = f"open({str(tmp_path / 'ran')!r}, 'w')"
    rendered(template({}, extra={"hooks/pre_gen_project.py": hook, "hooks/post_gen_project.py": hook}))
    assert not (tmp_path / "ran").exists()


def test_rendering_leaves_no_trace(template: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before, folder = os.getcwd(), template({"a": "{{ cookiecutter.x }}"}, {"x": "1"})
    rendered(folder)
    (folder / "{{cookiecutter.project_name}}" / "a").write_text("{{ y }}")
    with pytest.raises(TemplateError):
        rendered(folder)
    assert (os.getcwd(), list(scratch.iterdir())) == (before, [])


PROGRAM = """
import sys
from paccel.catalog.catalog import load_template
from paccel.catalog.answers import resolve_answers
from paccel.render.render import render
from paccel.files.tree import tree_hash
template = load_template(sys.argv[1])
tree = render(template, resolve_answers(template, {}, project_name="my-project"))
print(template.digest, tree_hash(tree), list(tree))
"""


@pytest.mark.slow
def test_hash_seed_umask_and_the_users_cookiecutter_settings_change_nothing(template: Make, tmp_path: Path) -> None:
    files = {"a.py": "x = {'a':1}\n", "b.txt": "{{ cookiecutter }}", "run.sh": "#!/bin/sh\n", "pyproject.toml": BLACK}
    folder = template(files, {"ema": False, "data": ["x", "y"], **STATEMENTS})
    home = tmp_path / "home"
    home.mkdir()
    (home / ".cookiecutterrc").write_text("default_context:\n  ema: true\n  data: y\n  project_name: other\n")
    outputs = set()
    for seed, umask in (("0", "022"), ("1", "077"), ("2", "002")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "HOME": str(home), "USERPROFILE": str(home)}
        command = [sys.executable, "-c", f"import os; os.umask(0o{umask})\n{PROGRAM}", str(folder)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        outputs.add(result.stdout)
    assert len(outputs) == 1
    assert os.listdir(home) == [".cookiecutterrc"]


@pytest.mark.slow
def test_the_result_is_that_of_the_cookiecutter_and_black_commands(template: Make, tmp_path: Path) -> None:
    """The oracle: a plain template through the two commands that people would type."""
    folder = template(
        {
            "pyproject.toml": "[project]\nrequires-python = '>=3.11'\n[tool.black]\nline-length = 100\nextend-exclude = '/skip/'\n",
            "a.py": "# % if cookiecutter.ema\nx = {'a':1,}\n# % endif\ndef f(a,):\n  '''doc'''\n  return  a\n",
            "empty.py": "",
            "blank.py": "\n\n",
            "skip/b.py": "x   = 1\n",
            "crlf.py": "x   = 1\r\ny = 2\r\n",
            "bom.py": b"\xef\xbb\xbfx   = 1\n",
            "{{cookiecutter.data}}/{{cookiecutter.project_name}}.md": "# {{ cookiecutter.project_name | slugify }}\n\n{% raw %}{{ x }}{% endraw %}",
            "run.sh": "#!/bin/sh\necho {{ cookiecutter.ema }}\n",
            "data.bin": bytes(range(256)),
            "copied/x.txt": "{{ nothing }}",
        },
        {"ema": True, "data": ["x", "y"], "_copy_without_render": ["copied"], **STATEMENTS},
    )
    environment = os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    output = tmp_path / "output"
    commands = [
        [sys.executable, "-m", "cookiecutter", "--no-input", "-o", str(output), str(folder)],
        [sys.executable, "-m", "black", "-q", str(output / "my-project")],
    ]
    for command in commands:
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    theirs, ours = read_tree(output / "my-project"), rendered(folder)
    assert texts({p: f for p, f in ours.items() if p != "data.bin"}) == texts(
        {p: f for p, f in theirs.items() if p != "data.bin"}
    )
    assert tree_hash(ours) == tree_hash(theirs)


def test_answers_are_text_and_not_templates(template: Make) -> None:
    assert texts(rendered(template({"a": "{{ cookiecutter.x }}"}, {"x": ""}), {"x": "{{ 1 + 1 }}"})) == {
        "a": "{{ 1 + 1 }}"
    }


def test_a_template_in_memory_needs_its_folder_no_more(template: Make) -> None:
    folder = template({"a": "{{ cookiecutter.project_name }}"})
    found = load_template(str(folder))
    shutil.rmtree(folder)
    assert texts(render(found, json.loads('{"project_name": "x"}'))) == {"a": "x"}


def test_a_blank_line_behind_a_line_statement_stays(template) -> None:
    source = template({"notes.txt": "one\n# % if true\ntwo\n# % endif\n\nthree\n"}, STATEMENTS)
    loaded = load_template(str(source))
    tree = render(loaded, resolve_answers(loaded, {}, project_name="x"))
    assert tree["notes.txt"].content == b"one\ntwo\n\nthree\n"


def test_a_file_without_jinja_is_copied_whatever_its_bytes(template: Make) -> None:
    latin = "café\n".encode("latin-1")  # not UTF-8, and nothing to render in it
    loaded = load_template(str(template({"cities.csv": latin, "train.py": "x = 1\n"})))
    assert render(loaded, {"project_name": "net"})["cities.csv"].content == latin


def test_custom_delimiters_tell_what_is_jinja(template: Make) -> None:
    marks = {"_jinja2_env_vars": {"comment_start_string": "<#", "comment_end_string": "#>"}}
    loaded = load_template(str(template({"a.txt": "<# gone #>kept {#\n"}, marks)))
    assert render(loaded, {"project_name": "net"})["a.txt"].content == b"kept {#\n"
