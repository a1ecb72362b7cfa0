"""The walls of the house: who may import whom, and that each half works where the other's dependencies are missing."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATOR = sorted((ROOT / "generator").rglob("*.py"))
RUNTIME = sorted((ROOT / "runtime").rglob("*.py"))

HEAVY = {"torch", "torchvision", "accelerate", "numpy", "matplotlib", "safetensors", "sklearn", "tqdm", "tyro", "timm"}
LIGHT = {"black", "click", "cookiecutter", "jinja2"}

# From top to bottom: what stands in one line may import what stands in the lines below it, and the files of its folder.
GENERATOR_FLOORS = [
    "__main__",
    "cli",
    "testing lint experiments health eject",
    "upgrade",
    "check",
    "project",
    "vendor",
    "render",
    "rename",
    "catalog",
    "fetch sandbox",
    "merge",
    "runs",
    "files",
    "errors",
]
RUNTIME_FLOORS = [
    "__init__",
    "api",
    "learning_rate supervise",
    "checkpoints finetuning meter",
    "checkpointing",
    "run",
    "loading",
    "ema early_stopping schedules config tokens mixture shards",
    "loop",
    "record",
    "hardware",
    "data",
    "storage",
    "settings",
    "errors",
]

DOCUMENTED = {"_asdict", "_fields", "_make", "_replace", "_exit"}  # though they begin with an underscore

# Private names of other packages that have no public counterpart; each with the reason where it is used.
FOREIGN = {
    "AcceleratorState._reset_state": "a second run of a process, as accelerate's own tests do it",
    "getattr _step_supports_amp_scaling": "the only sign of an optimizer that skips its update where `found_inf` says so",
    "os._exit": "documented, for a forked process that has to end without clean-up",
    "getattr _saved_reduction": "the only sign of a loss that is a mean, in the graph that PyTorch documents",
    "getattr _saved_other": "the same",
    "getattr _saved_self": "the same",
    "queues.Queue._on_queue_feeder_error": "Python's way to say what a queue does that cannot send; else it hangs",
    "iterator._shutdown_workers": "PyTorch has no word that ends persistent workers",
    "group._get_backend": "the only way to how long a process group waits",
    "backend.options._timeout": "the same",
    "metric._update_count": "torchmetrics shows it as `update_count`, and has no word that sets it",
    "metric._reduce_states": "its `merge_state` without a check that matters within a step only",
    "metric._computed": "what it has computed from the values that it had before",
    "torch.cuda.memory._dump_snapshot": "PyTorch documents it under this name, and has no other for it",
}

# Imports that fail as if the packages were not installed, also for the processes that are started from here.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by the test)", name=name)
sys.meta_path.insert(0, Block())
"""


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All of what a file says; each file is parsed once."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> list[str]:
    """The modules that a file imports, anywhere in it.

    Modules of the same package are named from its top, with a dot before: `.merge.gate`.
    """
    found = []
    top = ROOT / path.relative_to(ROOT).parts[0]
    folders = path.relative_to(top).parts[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= len(folders) + 1, f"{path} leaves its package"
            package = [*folders[: len(folders) + 1 - node.level], *(node.module or "").split(".")]
            start = "." + ".".join(part for part in package if part)
            names = [f".{alias.name}" if start == "." else f"{start}.{alias.name}" for alias in node.names]
            found += [start] if node.module else names
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


@pytest.fixture(scope="module", autouse=True)
def parsed_once() -> Iterator[None]:
    """Half a million nodes are kept no longer than they are needed."""
    yield
    nodes.cache_clear()


def faults(paths: Sequence[Path], find: Callable[[Path], Iterable[str]]) -> list[str]:
    """What is found in any of the files, each with its path."""
    assert paths
    return [f"{path.relative_to(ROOT).as_posix()}: {fault}" for path in paths for fault in find(path)]


def floor_of(name: str, floors: list[str]) -> int:
    room = name.lstrip(".").partition(".")[0]
    found = [number for number, floor in enumerate(floors) if room in floor.split()]
    assert found, f"`{room}` stands on no floor: add it where it belongs"
    return found[0]


def upward(path: Path, floors: list[str]) -> list[str]:
    """The imports of a file that lead to its own floor, outside its folder, or to one above."""
    own = path.relative_to(ROOT).with_suffix("").parts[1:]
    here = floor_of(own[0], floors)
    return [
        name
        for name in imports(path)
        if name.startswith(".") and name not in {".__version__"}
        if floor_of(name, floors) <= here and not (len(own) > 1 and name.startswith(f".{own[0]}."))
    ]


def private_reaches(said: Iterable[ast.AST]) -> list[str]:
    """What a file takes from other files or objects although its name begins with an underscore."""
    found = []
    for node in said:
        if isinstance(node, ast.ImportFrom):
            found += [f"import {alias.name}" for alias in node.names if is_private(alias.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            found += [] if own else [ast.unparse(node)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "hasattr", "setattr"}:
            named = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            own = ast.unparse(node.args[0]) in {"self", "cls"}
            found += [f"{ast.unparse(node.func)} {named}"] if is_private(str(named)) and not own else []
    return [name for name in found if name not in FOREIGN]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def test_the_generator_imports_neither_the_runtime_nor_what_it_needs() -> None:
    def foreign(path: Path) -> list[str]:
        halves = (".runtime", ".templates")
        return [n for n in imports(path) if n.partition(".")[0] in HEAVY | {"paccel"} or n.startswith(halves)]

    assert faults(GENERATOR, foreign) == []


def test_the_runtime_imports_neither_the_generator_nor_what_it_needs() -> None:
    def foreign(path: Path) -> list[str]:
        return [name for name in imports(path) if name.partition(".")[0] in LIGHT | {"paccel"}]

    assert faults(RUNTIME, foreign) == []


def test_the_generator_imports_downwards_only() -> None:
    paths = [path for path in GENERATOR if path != ROOT / "generator" / "__init__.py"]
    assert faults(paths, lambda path: upward(path, GENERATOR_FLOORS)) == []


def test_the_runtime_imports_downwards_only() -> None:
    assert faults(RUNTIME, lambda path: upward(path, RUNTIME_FLOORS)) == []


def test_no_file_reaches_for_private_names() -> None:
    assert faults(GENERATOR + RUNTIME, lambda path: private_reaches(nodes(path))) == []


@pytest.mark.parametrize(
    ("source", "reach"),
    [
        ("from .run import _position", "import _position"),
        ("def save(run):\n    run._position = 1", "run._position"),
        ("def save(self):\n    self.run._position = 1", "self.run._position"),
        ("setattr(run, '_position', 1)", "setattr _position"),
    ],
)
def test_a_private_reach_is_found(source: str, reach: str) -> None:
    assert private_reaches(ast.walk(ast.parse(source))) == [reach]


def test_an_import_upwards_is_found() -> None:
    assert upward(ROOT / "generator" / "cli" / "new.py", GENERATOR_FLOORS[::-1]) != []
    assert upward(ROOT / "runtime" / "loop" / "walk.py", RUNTIME_FLOORS[::-1]) != []


def test_the_package_itself_imports_nothing() -> None:
    assert imports(ROOT / "generator" / "__init__.py") == []


def test_the_command_line_starts_with_click_alone(tmp_path: Path) -> None:
    program = "import sys; before = set(sys.modules); import paccel.cli; print(*set(sys.modules) - before)"
    loaded = set(blocked(HEAVY, program, tmp_path).stdout.split())
    assert {name for name in loaded if name.startswith("paccel.")} <= {
        "paccel.errors",
        "paccel.cli",
        *(
            f"paccel.cli.{name}"
            for name in (
                "main",
                "console",
                "new",
                "upgrade",
                "eject",
                "template",
                "health",
                "runs",
                "experiments",
                "try_",
            )
        ),
    }
    assert {name.partition(".")[0] for name in loaded} <= sys.stdlib_module_names | {"click", "paccel"}


def test_only_the_command_line_prints() -> None:
    def prints(path: Path) -> list[str]:
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        named = [call for call in calls if getattr(call, "id", "") == "print" or getattr(call, "attr", "") == "echo"]
        return [call for call in map(ast.unparse, named) if call in {"print", "click.echo"}]

    assert faults([path for path in GENERATOR if path.parent.name != "cli"], prints) == []
    assert faults([path for path in GENERATOR if path.parent.name == "cli"], prints)


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="needs paccel[runtime]")
def test_the_runtime_works_without_what_the_generator_needs(tmp_path: Path) -> None:
    result = blocked(LIGHT, "import paccel.runtime", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
