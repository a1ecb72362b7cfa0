"""References that a merge has broken, and circular imports that it has closed: found, without false positives."""

import json

import pytest

from paccel.check.blame import Trees
from paccel.check.circles import new_circles
from paccel.check.references import Gone, cut_references
from paccel.files.tree import File, Tree

MODEL = "def make_model(width):\n    return width\n"
TRAIN = "@dataclass\nclass Config:\n    batch_size: int = 1\n    epochs: int = 2\n\nmain(load_config(Config))\n"
RENAMED = {"model.py": MODEL.replace("make_model", "build"), "train.py": TRAIN.replace("batch_size", "batch")}
PROJECT = {"model.py": MODEL, "train.py": TRAIN}


def tree(files: dict[str, str]) -> Tree:
    return {path: File(text.encode()) for path, text in files.items()}


def cut(path: str, text: str, before: dict[str, str] = PROJECT, after: dict[str, str] = RENAMED) -> list[int]:
    """The lines at which a file of the user's refers to what the template removed."""
    gone = Gone(frozenset(before.keys() - after.keys()))
    found = cut_references(
        Trees(tree(before | {path: text}), tree(after), tree(after | {path: text})),
        gone,
    )
    assert {finding.path for finding in found} <= {path}
    return [finding.line for finding in found]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("own.py", 'make = getattr(importlib.import_module("model"), "make_model")\n'),
        ("own.py", "import model as m\ngetattr(m, 'make_model')\n"),
        (
            "tests/test_own.py",
            "import model\ndef test(monkeypatch):\n    monkeypatch.setattr(model, 'make_model', 1)\n",
        ),
        ("own.py", "with patch('model.make_model'):\n    pass\n"),
        ("own.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": ["x = 'model.make_model'"]}]})),
        ("conf/net.yaml", "net:\n  _target_: model.make_model\n"),
        ("conf/net.json", '{"class_path": "model.make_model"}\n'),
        ("conf/net.toml", '[net]\nfactory = "model:make_model"\n'),
        ("serve.sh", "exec uvicorn model:make_model --port 80\n"),
        ("run.sh", "python train.py --batch-size 3\n"),
        ("run.sh", "# so\npython ./train.py \\\n  --epochs 3 \\\n  --batch_size=3\n"),
        ("run.sh", 'cd "$(dirname "$0")" && accelerate launch train.py --batch-size=3 | tee log\n'),
        ("Makefile", "train:\n\tpython -m train --batch-size 3\n"),
        ("Dockerfile", 'FROM python\nCMD ["python", "train.py", "--batch-size", "3"]\n'),
        (
            ".github/workflows/own.yml",
            "jobs:\n  a:\n    steps:\n      - run: |\n          python train.py --batch-size 3\n",
        ),
        ("compose.yaml", "services:\n  train:\n    command: [python, train.py, --batch-size, '3']\n"),
        ("README.md", "# Own\n\n```\n$ python train.py --batch-size 3\n```\n"),
        ("own.py", 'run([sys.executable, "train.py", f"--batch-size={3}"])\n'),
        ("short.toml", "batch_size = 3\nepochs = 1\n"),
    ],
)
def test_what_refers_to_a_name_or_an_option_that_is_gone_is_found(path: str, text: str) -> None:
    assert len(cut(path, text)) == 1
    assert cut(path, text, after=PROJECT) == []
    assert cut(path, text, before=RENAMED) == []  # it was broken before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("own.py", '"""About model.make_model."""\nx = "see model.make_model for more"  # model.make_model\n'),
        ("own.py", "import model\ngetattr(model, 'make_model', None)\n"),
        ("own.py", 'x = "mine.model.make_model"\n'),
        ("conf/net.yaml", "_target_: other.model.make_model\ndescription: model.make_model\n# model.make_model\n"),
        ("run.sh", "python other.py --batch-size 3\npython train.py --epochs 3 # --batch-size\n"),
        ("run.sh", "python train.py --epochs 3 && other --batch-size 3\n"),
        ("run.sh", "python mytrain.py --batch-size 3\n"),
        ("run.sh", "python /other/train.py --batch-size 3\necho python train.py --batch-size 3\n"),
        ("own.py", "log = logging.getLogger('model.make_model')\nprint('model.make_model')\n"),
        ("README.md", "`python train.py --batch-size 3` is how it was.\n"),
        ("teacher.toml", "batch_size = 3\ntemperature = 1\n"),
        ("teacher.toml", "[data]\nbatch_size = 3\n"),
        ("own.py", "not Python: model.make_model 'model.make_model'\n"),
        ("conf/net.yaml", "a: [model.make_model\n"),
    ],
)
def test_text_and_namesakes_are_no_references(path: str, text: str) -> None:
    assert cut(path, text) == []


def test_a_script_beside_a_namesake_means_its_neighbour() -> None:
    text = "python train.py --batch-size 3\n"
    nearer = {"sub/train.py": "x = 1\n"}
    assert cut("sub/run.sh", text, PROJECT | nearer, RENAMED | nearer) == []
    assert cut("sub/run.sh", text) == [1]


FILES = PROJECT | {"launch/fsdp.yaml": "a: 1\n", "prepare.py": "x = 1\n"}


@pytest.mark.parametrize(
    ("path", "text", "count"),
    [
        ("run.sh", "accelerate launch --config_file launch/fsdp.yaml train.py\n", 1),
        ("run.sh", 'accelerate launch --config_file="$PWD/launch/fsdp.yaml" train.py\n', 1),
        ("launch/run.sh", "accelerate launch --config_file fsdp.yaml train.py\n", 1),
        ("run.sh", "python prepare.py && python train.py\n", 1),
        ("own.py", 'read("launch/fsdp.yaml")\n', 1),
        ("own.yaml", "base: ./launch/fsdp.yaml\n", 1),
        ("run.sh", "accelerate launch --config_file other/launch/fsdp.yaml train.py\n", 0),
        ("run.sh", "curl https://example.org/launch/fsdp.yaml\nrm -f launch/fsdp.yaml\ncp x >launch/fsdp.yaml\n", 0),
        ("Makefile", "launch/fsdp.yaml: Makefile\n\tmake-config\n", 0),
        ("run.sh", "echo launch/fsdp.yaml.bak my-launch/fsdp.yaml\n", 0),
        ("pyproject.toml", '[tool.ruff]\nexclude = ["launch/fsdp.yaml", "prepare.py"]\n', 0),
        ("own.py", 'title = "prepare.py"\n', 0),
    ],
)
def test_files_that_are_gone_are_found_where_a_command_or_a_value_needs_them(path: str, text: str, count: int) -> None:
    assert len(cut(path, text, before=FILES, after=PROJECT)) == count


@pytest.mark.parametrize(
    ("path", "text", "count"),
    [
        ("run.sh", "make -j2 lint\n", 1),
        ("run.sh", "make linter; cmake lint\n", 0),
        ("Dockerfile", "RUN pip install -e '.[test, dev]'\n", 1),
        ("Dockerfile", "RUN pip install 'other.[dev]' other[dev]\n", 0),
        ("own.py", "import tensorboardx\n", 1),
        ("own.py", "try:\n    import tensorboardx\nexcept ImportError:\n    tensorboardx = None\n", 0),
        ("tensorboardx.py", "import tensorboardx\n", 0),
    ],
)
def test_targets_extras_and_packages_that_are_gone_are_found(path: str, text: str, count: int) -> None:
    project = '[project]\nname = "x"\ndependencies = [{}]\n[project.optional-dependencies]\n{} = []\n'
    before = {"Makefile": "lint:\n\truff\n", "pyproject.toml": project.format('"tensorboardx"', "dev")}
    after = {"Makefile": "check:\n\truff\n", "pyproject.toml": project.format("", "test")}
    assert len(cut(path, text, before, after)) == count


def test_what_a_package_that_stays_brings_along_is_not_gone() -> None:
    project = '[project]\nname = "x"\ndependencies = [{}]\n'
    before = {"pyproject.toml": project.format('"paccel", "black"')}
    after = {"pyproject.toml": project.format('"paccel"')}
    assert cut("own.py", "import black\n", before, after) == []


def circles(ours: dict[str, str], theirs: dict[str, str], merged: dict[str, str]) -> list[tuple[str, int]]:
    return [(found.path, found.line) for found in new_circles(Trees(tree(ours), tree(theirs), tree(merged)))]


A, B = "from b import two\none = 1\n", "from a import one\ntwo = 2\n"


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        (A, B, True),
        ("import b\none = 1\n", "import a\ntwo = 2\n", False),
        ("one = 1\nfrom b import two\n", B, False),
        ("def f():\n    from b import two\none = 1\n", B, False),
        ("if TYPE_CHECKING:\n    from b import two\none = 1\n", B, False),
        ("try:\n    from b import two\nexcept ImportError:\n    two = 1\none = 1\n", B, False),
        (A, "from a import missing\ntwo = 2\n", False),  # that is another fault, which tools find
    ],
)
def test_a_circle_of_imports_is_found_where_it_fails(a: str, b: str, found: bool) -> None:
    start = {"start.py": "import a\n"}
    ours, theirs = {"a.py": a, "b.py": "two = 2\n"}, {"a.py": "one = 1\n", "b.py": b}
    expected = [("b.py", 1)] if found else []
    assert circles(ours | start, theirs | start, {"a.py": a, "b.py": b} | start) == expected
    both = {"a.py": a, "b.py": b} | start
    assert circles(both, theirs | start, both | {"c.py": ""}) == []  # the user's own, from before


def test_packages_that_import_their_modules_are_no_circle() -> None:
    package = {
        "net/__init__.py": "from .layers import Layer\nfrom . import blocks\nSIZE = 1\n",
        "net/layers.py": "class Layer: ...\n",
        "net/blocks.py": "from .layers import Layer\nfrom . import layers\nfrom net import Layer\n",
    }
    assert circles({}, {"net/layers.py": ""}, package) == []
    package["net/blocks.py"] += "from . import SIZE\n"
    assert circles({}, {"net/layers.py": ""}, package) == [("net/blocks.py", 4)]
