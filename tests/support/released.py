"""Projects of released versions in `tests/released`: the stored state of each, and its whole tree unpacked from that."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from paccel.catalog.catalog import DEFAULT_TEMPLATE
from paccel.files.tree import STATE_DIR, write_tree
from paccel.project.state import read_state
from support.sampled import every_third_day

RELEASED = Path(__file__).parents[1] / "released"


def project_params(*paths: Path) -> list[Any]:
    """A parameter for each project: that of the default template is in the quick suite, the others run a third per day."""
    return [
        pytest.param(
            path,
            id=f"{path.parent.name}-{path.name}",
            marks=[] if path.name == f"{DEFAULT_TEMPLATE}-other" else [pytest.mark.slow, every_third_day(number % 3)],
        )
        for number, path in enumerate(paths)
    ]


def unpacked(state: Path, folder: Path) -> Path:
    """Unpack a project into `folder`, as its user had it after `paccel new`."""
    root = folder / "my-project"
    shutil.copytree(state, root / STATE_DIR)
    write_tree(root, read_state(root)[1])
    return root


def freezer() -> ModuleType:
    """Import `tests/released/freeze.py`, which is a script."""
    spec = importlib.util.spec_from_file_location("freeze", RELEASED / "freeze.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
