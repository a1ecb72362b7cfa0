"""Renames follow Python's scopes, and nothing else in a file changes."""

import ast
import json

import pytest

import paccel.rename.rename as module
from paccel.catalog.metadata import parse_metadata
from paccel.files.tree import File
from paccel.rename.edits import Found
from paccel.rename.rename import Renamed, rename

NAME = '[[renamed_api]]\nfrom = "model:make_net"\nto = "make_model"\n'
PARAMETER = '[[renamed_api]]\nfrom = "model:make_net(hidden)"\nto = "width"\n'
MEMBER = '[[renamed_api]]\nfrom = "data:Splits.valid"\nto = "evaluation"\n'
METHOD = '[[renamed_api]]\nfrom = "model:Net.embed(x)"\nto = "images"\n'

MODEL = '''__all__ = ["make_net"]


def make_net(hidden, depth=1):
    """make_net(hidden)"""
    return hidden * depth
'''
DATA = """from typing import NamedTuple


class Splits(NamedTuple):
    train: int
    valid: int


def make_splits() -> Splits:
    return Splits(1, valid=2)
"""
NET = """class Net:
    def embed(self, x):
        return x
"""
FILES = {"model.py": MODEL, "data.py": DATA}


def renamed(table: str, files: dict[str, str], fixed: tuple[str, ...] = ()) -> Renamed:
    tree = {path: File(text.encode()) for path, text in files.items()}
    return rename(tree, parse_metadata(table, "paccel.toml").renamed_api, fixed)


def after(table: str, text: str, path: str = "mine.py", more: dict[str, str] | None = None) -> str:
    return renamed(table, FILES | (more or {}) | {path: text}).files[path].content.decode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import model\nmodel.make_net(1)\n", "import model\nmodel.make_model(1)\n"),
        ("import model as m\nm . make_net(1)  # make_net\n", "import model as m\nm . make_model(1)  # make_net\n"),
        ("from model import make_net\nmake_net\n", "from model import make_model\nmake_model\n"),
        ("from model import make_net as f\nf(1)\n", "from model import make_model as f\nf(1)\n"),
        ("from model import (\n    make_net,  # it\n)\n", "from model import (\n    make_model,  # it\n)\n"),
        ("from model import *\nmake_net(1)\n", "from model import *\nmake_model(1)\n"),
        ("def f():\n    from model import make_net\n    make_net\nmake_net = 1\n", None),
        ("from model import make_net\nx = 'make_net', f'{make_net}'\n", None),
        # Shadowed: a parameter, a comprehension, a local, a class.
        ("from model import make_net\ndef f(make_net): make_net\n", "from model import make_model\ndef f(make_net): make_net\n"),
        ("import model\n[model.make_net for model in ()]\n", "import model\n[model.make_net for model in ()]\n"),
        ("import model\ndef f():\n    model = 1\n    model.make_net\n", "import model\ndef f():\n    model = 1\n    model.make_net\n"),
        ("import other as model\nmodel.make_net\n", "import other as model\nmodel.make_net\n"),
        ("make_net = 1\nclass A:\n    make_net = 2\n", "make_net = 1\nclass A:\n    make_net = 2\n"),
        # Where the new name is taken, or the name is bound in other ways too, only the import changes.
        ("from model import make_net\nmake_model = make_net\n", "from model import make_model as make_net\nmake_model = make_net\n"),
        ("from model import make_net\ndef f(make_model): make_net\n", "from model import make_model as make_net\ndef f(make_model): make_net\n"),
        (
            "try:\n    from model import make_net\nexcept ImportError:\n    make_net = None\n",
            "try:\n    from model import make_model as make_net\nexcept ImportError:\n    make_net = None\n",
        ),
        # `global`, decorators, defaults, annotations that are strings.
        ("from model import make_net\ndef f():\n    global make_net\n    del make_net\n", None),
        ("from model import make_net\n@make_net\ndef f(a=make_net) -> 'list[make_net]': ...\n", None),
        ("from model import make_net\r\nmake_net(1)\r\n", "from model import make_model\r\nmake_model(1)\r\n"),
        ("from model import make_net\né = make_net, 'é', make_net\n", None),
        ("from model import make_net\nmake_net(\n", "from model import make_net\nmake_net(\n"),
    ],
)  # fmt: skip
def test_a_renamed_name_is_followed(old: str, new: str | None) -> None:
    found = after(NAME, old)
    if new is not None:
        assert found == new
    if "(\n" not in old or new != old:
        compile(found, "mine.py", "exec")
        assert found.count("'make_net'") == old.count("'make_net'")


def test_a_name_in_an_f_string_and_below_global_is_followed_too() -> None:
    text = "from model import make_net\n\n\ndef f():\n    global make_net\n    return f'make_net {make_net!r} {make_net}'\n"
    assert after(NAME, text) in (
        text.replace("import make_net", "import make_model")
        .replace("global make_net", "global make_model")
        .replace("{make_net", "{make_model"),
        text.replace("import make_net", "import make_model as make_net"),
    )


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("net/train.py", "from .model import make_net\nmake_net\n", "from .model import make_model\nmake_model\n"),
        ("net/train.py", "from . import model\nmodel.make_net\n", "from . import model\nmodel.make_model\n"),
        ("net/deep/a.py", "from ..model import make_net as f\n", "from ..model import make_model as f\n"),
        ("scripts/a.py", "import net.model\nnet.model.make_net\n", "import net.model\nnet.model.make_model\n"),
        ("scripts/a.py", "from net import model as m\nm.make_net\n", "from net import model as m\nm.make_model\n"),
        ("scripts/a.py", "from model import make_net\n", "from model import make_net\n"),
        ("net/a.py", "from ....model import make_net\n", "from ....model import make_net\n"),
    ],
)
@pytest.mark.parametrize("source", ["", "src/"])
def test_packages_and_relative_imports(source: str, path: str, old: str, new: str) -> None:
    files = {"net/__init__.py": "", "net/deep/__init__.py": "", "net/model.py": MODEL, path: old}
    place = {name if name.startswith("scripts") else source + name: text for name, text in files.items()}
    done = renamed(NAME.replace("model:", "net.model:"), place).files
    assert done[path if path.startswith("scripts") else source + path].content.decode() == new


def test_a_module_that_imports_the_name_passes_it_on() -> None:
    files = {
        "net/__init__.py": 'from .model import make_net\n\n__all__ = ["make_net"]\n',
        "net/model.py": MODEL,
        "mine.py": "import net\nfrom net import make_net\n\nnet.make_net(make_net)\n",
    }
    done = renamed(NAME.replace("model:", "net.model:"), files)
    assert done.files["net/__init__.py"].content == b'from .model import make_model\n\n__all__ = ["make_model"]\n'
    assert done.files["mine.py"].content == b"import net\nfrom net import make_model\n\nnet.make_model(make_model)\n"
    assert [edit[:2] for edit in done.edits if edit.path == "mine.py"] == [
        ("mine.py", 2),
        ("mine.py", 4),
        ("mine.py", 4),
    ]


def test_a_script_beside_a_module_of_that_name_means_its_neighbour() -> None:
    files = FILES | {"tools/model.py": "make_net = 1\n", "tools/a.py": "from model import make_net\n"}
    assert renamed(NAME, files).files["tools/a.py"].content == b"from model import make_net\n"


def test_the_definition_is_renamed_with_its_uses_and_export_but_not_its_docstring() -> None:
    done = renamed(NAME + PARAMETER.replace("make_net(", "make_model("), FILES)
    expected = MODEL.replace('["make_net"]', '["make_model"]').replace("def make_net(hidden", "def make_model(width")
    assert done.files["model.py"].content.decode() == expected.replace("return hidden", "return width")


def test_a_rename_is_not_made_where_the_user_has_something_else_of_that_name() -> None:
    files = FILES | {"model.py": MODEL + "\n\ndef make_model(): ...\n", "mine.py": "from model import make_net\n"}
    done = renamed(NAME, files)
    assert {path: file.content.decode() for path, file in done.files.items()} == files
    assert done.made == ()
    assert "`make_model` is something else in `model.py`" in done.blocked[0]


def test_a_file_that_stays_as_it_is_blocks_its_definition_and_names_its_uses() -> None:
    files = FILES | {"mine.py": "from model import make_net\n"}
    assert renamed(NAME, files, fixed=("model.py",)).edits == ()
    done = renamed(NAME, files, fixed=("mine.py",))
    assert done.files["mine.py"].content == b"from model import make_net\n"
    assert [(place.path, place.line) for place in done.unclear] == [("mine.py", 1)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import model\nmodel.make_net(hidden = 3)\n", "import model\nmodel.make_net(width = 3)\n"),
        ("from model import make_net as f\nhidden = 1\nf(hidden=hidden)\n", "from model import make_net as f\nhidden = 1\nf(width=hidden)\n"),
        ("from functools import partial\nfrom model import make_net\npartial(make_net, hidden=1)\n", None),
        ("def make_net(hidden): ...\nmake_net(hidden=1)\n", "def make_net(hidden): ...\nmake_net(hidden=1)\n"),
        ("import model\nother(hidden=model.make_net(1))\n", "import model\nother(hidden=model.make_net(1))\n"),
    ],
)  # fmt: skip
def test_a_renamed_parameter_is_followed(old: str, new: str | None) -> None:
    found = after(PARAMETER, old)
    assert found == new if new is not None else "make_net, width=1)" in found


def test_keywords_in_a_dictionary_are_named() -> None:
    done = renamed(PARAMETER, FILES | {"mine.py": "import model\noptions = {'hidden': 1}\nmodel.make_net(**options)\n"})
    assert [(place.path, place.line) for place in done.unclear] == [("mine.py", 3)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import data\ndata.make_splits().valid\n", "import data\ndata.make_splits().evaluation\n"),
        ("from data import Splits\ndef f(s: Splits | None): return s.valid\n", "from data import Splits\ndef f(s: Splits | None): return s.evaluation\n"),
        ("from data import Splits\ns = Splits(1, valid=2)\nt = s._replace(valid=3)\nt.valid\n", "from data import Splits\ns = Splits(1, evaluation=2)\nt = s._replace(evaluation=3)\nt.evaluation\n"),
        ("from data import Splits\nclass Mine(Splits):\n    def f(self): return self.valid, super().valid\n", "from data import Splits\nclass Mine(Splits):\n    def f(self): return self.evaluation, super().evaluation\n"),
        ("from data import Splits\ndef f(many: list[Splits]): return [one.valid for one in many]\n", "from data import Splits\ndef f(many: list[Splits]): return [one.evaluation for one in many]\n"),
        ("class Other:\n    valid = 1\n    def f(self): return self.valid\nOther().valid\n", "class Other:\n    valid = 1\n    def f(self): return self.valid\nOther().valid\n"),
        ("import numpy\nnumpy.valid\n", "import numpy\nnumpy.valid\n"),
        ("from torch import nn\ndef f(net: nn.Module): return net.valid\n", "from torch import nn\ndef f(net: nn.Module): return net.valid\n"),
    ],
)  # fmt: skip
def test_a_renamed_member_is_followed_where_the_class_is_plain(old: str, new: str) -> None:
    done = renamed(MEMBER, FILES | {"mine.py": old})
    assert done.files["mine.py"].content.decode() == new
    assert [place for place in done.unclear if place.path == "mine.py"] == []


@pytest.mark.parametrize("given", ["", ": Any", ": NamedTuple", ": Unknown"])
def test_a_member_of_a_value_whose_class_is_not_plain_is_named(given: str) -> None:
    text = f"from typing import Any, NamedTuple\ndef f(splits{given}):\n    return splits.valid\n"
    done = renamed(MEMBER, FILES | {"mine.py": text})
    assert done.files["mine.py"].content.decode() == text
    assert [(place.path, place.line) for place in done.unclear] == [("mine.py", 3)]


def test_a_parameter_of_a_method_is_followed_into_overrides_and_calls() -> None:
    text = "from model import Net\n\n\nclass Mine(Net):\n    def embed(self, x):\n        return x\n\n\nMine().embed(x=1)\n"
    done = renamed(METHOD, {"model.py": NET, "mine.py": text})
    assert done.files["model.py"].content.decode() == NET.replace("x", "images")
    expected = text.replace("self, x", "self, images").replace("return x", "return images").replace("x=1", "images=1")
    assert done.files["mine.py"].content.decode() == expected


def test_a_name_that_went_to_another_module() -> None:
    table = NAME.replace('"make_model"', '"nets:make_model"')
    text = "import os\n\nfrom model import make_net, other\n\nmake_net()\n"
    expected = "import os\n\nfrom model import other\nfrom nets import make_model\n\nmake_model()\n"
    assert after(table, text) == expected
    assert after(table, "from model import make_net as f\n") == "from nets import make_model as f\n"
    done = renamed(table, FILES | {"mine.py": "import model\nmodel.make_net()\n"})
    assert [(place.path, place.line) for place in done.unclear] == [("mine.py", 2)]


def test_a_notebook_is_followed_in_its_code_cells_and_keeps_its_other_bytes() -> None:
    cells = [
        '{"cell_type": "code", "source": ["%time\\n", "from model import make_net\\n",\n "make_net(1)"]}',
        '{"cell_type": "markdown", "source": ["make_net"]}',
        '{"cell_type":"code","source":"x = \\"é\\"\\nmake_net(x)","outputs":["make_net"]}',
    ]
    text = '{"cells": [' + ",\n".join(cells) + '], "nbformat": 4 }'
    done = renamed(NAME, FILES | {"a.ipynb": text})
    expected = text.replace("import make_net", "import make_model").replace("make_net(", "make_model(")
    assert done.files["a.ipynb"].content.decode() == expected
    assert json.loads(expected)["nbformat"] == 4
    assert [edit.line for edit in done.edits if edit.path == "a.ipynb"] == [1, 2, 4]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"cells": 1}', '{"cells": [{"cell_type": "code", "source": ["make_net", "()"]}]}']
)
def test_what_is_no_notebook_stays_as_it_is(text: str) -> None:
    assert renamed(NAME, FILES | {"a.ipynb": text}).files["a.ipynb"].content.decode() == text


@pytest.mark.parametrize("edit", [(0, 4, "("), (24, 24, "'two words'"), (33, 38, "other words")])
def test_an_edit_that_breaks_a_file_or_its_strings_is_not_made(
    edit: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "rename_name", lambda *_: {"mine.py": Found([edit], [])})
    text = "from model import make_net\nx = ' some '\n"
    done = renamed(NAME, FILES | {"mine.py": text})
    assert done.files["mine.py"].content.decode() == text
    assert [place.path for place in done.unclear] == ["mine.py"]


def test_annotations_that_are_strings_are_followed() -> None:
    text = "from model import make_net\n\n\ndef f(a: 'make_net | None', b: \"x.make_net\") -> 'list[make_net]':\n    c: 'make_net'\n"
    expected = text.replace("make_net", "make_model").replace("x.make_model", "x.make_net")
    assert after(NAME, text) == expected


def test_files_that_do_not_parse_or_are_not_utf_8_stay_and_are_named() -> None:
    broken = {
        "a.py": b"from model import make_net\n(",
        "b.py": "# -*- coding: latin-1 -*-\nmake_net = 'é'\n".encode("latin-1"),
    }
    files = {path: File(text.encode()) for path, text in FILES.items()} | {p: File(c) for p, c in broken.items()}
    done = rename(files, parse_metadata(NAME, "t").renamed_api)
    assert {path: done.files[path].content for path in broken} == broken
    assert [place.path for place in done.unclear] == ["a.py", "b.py"]


def test_deep_code_and_a_byte_order_mark_are_no_obstacle() -> None:
    assert after(NAME, "\ufefffrom model import make_net\n") == "\ufefffrom model import make_model\n"
    deep = "from model import make_net\nx = " + "-" * 5000 + "make_net(1)\n"
    assert after(NAME, deep) in (deep, deep.replace("make_net", "make_model"))


def test_type_parameters_and_match_are_read() -> None:
    text = "from model import make_net\nmatch 1:\n    case [*make_net]: ...\n    case {'a': 1, **make_net}: ...\n    case int() as make_net: ...\n"
    assert after(NAME, text) == text.replace("import make_net", "import make_model as make_net", 1)
    if hasattr(ast, "TypeVar"):
        text = "from model import make_net\ndef f[make_net](x: make_net): ...\nclass A[T: make_net]: ...\n"
        expected = "from model import make_model\ndef f[make_net](x: make_net): ...\nclass A[T: make_model]: ...\n"
        assert after(NAME, text) == expected


def test_a_value_that_is_made_from_itself_many_times_takes_no_time() -> None:
    lines = "".join(f"    x = x.a{number}.b\n" for number in range(60))
    text = f"import data\n\n\ndef f(x):\n{lines}    return x.valid\n"
    done = renamed(MEMBER, FILES | {"mine.py": text})
    assert [(place.path, place.line) for place in done.unclear] == [("mine.py", 65)]


def test_stubs_follow_as_modules_do() -> None:
    stub = "def make_net(hidden: int, depth: int = ...) -> int: ...\n"
    assert after(NAME, stub, "model.pyi") == stub.replace("make_net", "make_model")
    assert after(PARAMETER, stub, "model.pyi") == stub.replace("hidden", "width")
    exported = "from model import make_net as make_net\n"
    assert after(NAME, exported, "mine.pyi") == "from model import make_model as make_net\n"
    relative = {"pkg/model.py": MODEL, "pkg/__init__.pyi": "from .model import make_net\n"}
    table = NAME.replace("model:", "pkg.model:")
    found = renamed(table, relative).files["pkg/__init__.pyi"]
    assert found.content == b"from .model import make_model\n"
