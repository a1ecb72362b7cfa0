"""The walls of the house: who may import whom, and that each half works where the other's dependencies are missing."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATOR = sorted((ROOT / "generator").rglob("*.py"))
RUNTIME = sorted((ROOT / "runtime").rglob("*.py"))

HEAVY = {"torch", "torchvision", "accelerate", "numpy", "matplotlib", "safetensors", "sklearn", "tqdm", "tyro", "timm"}
LIGHT = {"black", "click", "cookiecutter", "jinja2"}
LIMIT_LINES = 400

# Imports that fail as if the packages were not installed, also for the processes that are started from here.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by the test)", name=name)
sys.meta_path.insert(0, Block())
"""


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each module that a file imports, anywhere in it, and whether it is imported when the file is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), top
            if node.level and not node.module:
                yield from (("." + alias.name, top) for alias in node.names)


def named(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


@pytest.mark.parametrize("path", named(GENERATOR))
def test_the_generator_imports_neither_the_runtime_nor_what_it_needs(path: Path) -> None:
    for name, _ in imports(path):
        assert name.partition(".")[0] not in HEAVY | {"paccel"}, name
        assert not name.startswith(("..", ".runtime", ".templates")), name


@pytest.mark.parametrize("path", named(RUNTIME))
def test_the_runtime_imports_neither_the_generator_nor_what_it_needs(path: Path) -> None:
    for name, _ in imports(path):
        assert name.partition(".")[0] not in LIGHT | {"paccel"}, name
        assert not name.startswith(".."), name


def test_the_package_itself_imports_nothing() -> None:
    assert not list(imports(ROOT / "generator" / "__init__.py"))


def test_the_command_line_starts_with_click_alone() -> None:
    files = ["__main__.py", "cli.py", "cli_upgrade.py", "console.py", "errors.py"]
    at_start = {name for file in files for name, top in imports(ROOT / "generator" / file) if top}
    own = {".", ".__version__", *("." + file.removesuffix(".py") for file in files)}
    assert {name for name in at_start if name.startswith(".")} <= own
    assert {name.partition(".")[0] for name in at_start if not name.startswith(".")} <= sys.stdlib_module_names | {
        "click"
    }


def test_an_upgrade_loads_nothing_that_it_can_do_without(tmp_path: Path) -> None:
    """Loading is most of its time: `benchmarks/upgrade_time.py`."""
    program = """
import gc
import sys

before = sum(generation["collections"] for generation in gc.get_stats())
try:
    import paccel.__main__
finally:
    collected = sum(generation["collections"] for generation in gc.get_stats()) - before
    print(*sys.modules, f"collected={collected}", f"frozen={gc.get_freeze_count() > 0}", file=sys.stderr)
"""
    folder = tmp_path / "demo" / "{{cookiecutter.project_name}}"
    folder.mkdir(parents=True)
    (tmp_path / "demo" / "cookiecutter.json").write_text('{"project_name": "x"}')
    (folder / "train.py").write_text("rate = 1\n\n\nsteps = 10\n")
    assert blocked(HEAVY, program, tmp_path, "new", "net", "--template", "demo").returncode == 0
    (folder / "train.py").write_text("rate = 1\n\n\nsteps = 20\n")
    (tmp_path / "net" / "train.py").write_text("rate = 2\n\n\nsteps = 10\n")
    result = blocked(HEAVY, program, tmp_path / "net", "upgrade")
    assert (tmp_path / "net" / "train.py").read_text() == "rate = 2\n\n\nsteps = 20\n", result.stderr
    needless = {
        "asyncio",
        "black",
        "cookiecutter",
        "dataclasses",
        "difflib",
        "hashlib",
        "jinja2",
        "logging",
        "subprocess",
    }
    assert not needless & {*result.stderr.split()}
    collected = re.search(r"collected=(\d+) frozen=True", result.stderr)
    assert collected is not None
    assert int(collected[1]) < 5  # those before the command line is read at all


@pytest.mark.parametrize("path", named(GENERATOR))
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    prints = [ast.unparse(call.func) for call in calls if ast.unparse(call.func) in {"print", "click.echo"}]
    assert not prints or path.name in {"cli.py", "cli_upgrade.py", "console.py", "prompt.py"}


@pytest.mark.parametrize("path", named(GENERATOR + RUNTIME))
def test_no_file_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LIMIT_LINES


def blocked(names: set[str], program: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = BLOCK.format(blocked=names) + program
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=os.environ | {"HOME": str(cwd)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_command_works_without_torch(tmp_path: Path) -> None:
    program = "from paccel.cli import main; main()"
    commands: list[tuple[list[str], Path]] = [
        (["--help"], tmp_path),
        (["list"], tmp_path),
        (["show", "image-classification"], tmp_path),
        (["new", "net"], tmp_path),
        (["diff"], tmp_path / "net"),
        (["upgrade"], tmp_path / "net"),
    ]
    for arguments, cwd in commands:
        result = blocked(HEAVY, program, cwd, *arguments)
        assert (result.returncode, result.stderr) == (0, ""), arguments


@pytest.mark.skipif(find_spec("torch") is None, reason="needs paccel[runtime]")
def test_the_runtime_works_without_what_the_generator_needs(tmp_path: Path) -> None:
    result = blocked(LIGHT, "import paccel.runtime", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
