"""The walls of the house: who may import whom, and that each half works where the other's dependencies are missing."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
    "run",
    "replay",
    "ema early_stopping schedules config tokens mixture shards",
    "loop",
    "record",
    "hardware",
    "data",
    "storage",
    "limits",
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


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each module that a file imports, anywhere in it, and whether it is imported when the file is.

    Modules of the same package are named from its top, with a dot before: `.merge.gate`.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.walk(node)
    }
    top = ROOT / path.relative_to(ROOT).parts[0]
    folders = path.relative_to(top).parts[:-1]
    for node in ast.walk(tree):
        at_start = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_start) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= len(folders) + 1, f"{path} leaves its package"
            package = [*folders[: len(folders) + 1 - node.level], *(node.module or "").split(".")]
            start = "." + ".".join(part for part in package if part)
            names = [f".{alias.name}" if start == "." else f"{start}.{alias.name}" for alias in node.names]
            yield from ((name, at_start) for name in ([start] if node.module else names))
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", at_start


def named(paths: Sequence[Path]) -> list[object]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


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
        for name, _ in imports(path)
        if name.startswith(".") and name not in {".__version__"}
        if floor_of(name, floors) <= here and not (len(own) > 1 and name.startswith(f".{own[0]}."))
    ]


def private_reaches(source: str) -> list[str]:
    """What a file takes from other files or objects although its name begins with an underscore."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found += [f"import {alias.name}" for alias in node.names if is_private(alias.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            found += [] if own else [ast.unparse(node)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr", "setattr"}:
            named = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            own = ast.unparse(node.args[0]) in {"self", "cls"}
            found += [f"{ast.unparse(node.func)} {named}"] if is_private(str(named)) and not own else []
    return [name for name in found if name not in FOREIGN]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


@pytest.mark.parametrize("path", named(GENERATOR))
def test_the_generator_imports_neither_the_runtime_nor_what_it_needs(path: Path) -> None:
    for name, _ in imports(path):
        assert name.partition(".")[0] not in HEAVY | {"paccel"}, name
        assert not name.startswith((".runtime", ".templates")), name


@pytest.mark.parametrize("path", named(RUNTIME))
def test_the_runtime_imports_neither_the_generator_nor_what_it_needs(path: Path) -> None:
    for name, _ in imports(path):
        assert name.partition(".")[0] not in LIGHT | {"paccel"}, name


@pytest.mark.parametrize("path", named([p for p in GENERATOR if p != ROOT / "generator" / "__init__.py"]))
def test_the_generator_imports_downwards_only(path: Path) -> None:
    assert upward(path, GENERATOR_FLOORS) == []


@pytest.mark.parametrize("path", named(RUNTIME))
def test_the_runtime_imports_downwards_only(path: Path) -> None:
    assert upward(path, RUNTIME_FLOORS) == []


@pytest.mark.parametrize("path", named(GENERATOR + RUNTIME))
def test_no_file_reaches_for_private_names(path: Path) -> None:
    assert private_reaches(path.read_text(encoding="utf-8")) == []


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
    assert private_reaches(source) == [reach]


def test_an_import_upwards_is_found() -> None:
    assert upward(ROOT / "generator" / "cli" / "new.py", GENERATOR_FLOORS[::-1]) != []
    assert upward(ROOT / "runtime" / "loop" / "walk.py", RUNTIME_FLOORS[::-1]) != []


def test_the_package_itself_imports_nothing() -> None:
    assert not list(imports(ROOT / "generator" / "__init__.py"))


def test_the_command_line_starts_with_click_alone(tmp_path: Path) -> None:
    program = "import sys; before = set(sys.modules); import paccel.cli; print(*set(sys.modules) - before)"
    loaded = set(blocked(HEAVY, program, tmp_path).stdout.split())
    assert {name for name in loaded if name.startswith("paccel.")} <= {
        "paccel.errors",
        "paccel.cli",
        *(
            f"paccel.cli.{name}"
            for name in ("main", "console", "new", "upgrade", "eject", "template", "health", "runs", "experiments")
        ),
    }
    assert {name.partition(".")[0] for name in loaded} <= sys.stdlib_module_names | {"click", "paccel"}


@pytest.mark.parametrize("path", named(GENERATOR))
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    prints = [ast.unparse(call.func) for call in calls if ast.unparse(call.func) in {"print", "click.echo"}]
    assert not prints or path.parent.name == "cli"


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


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="needs paccel[runtime]")
def test_the_runtime_works_without_what_the_generator_needs(tmp_path: Path) -> None:
    result = blocked(LIGHT, "import paccel.runtime", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
