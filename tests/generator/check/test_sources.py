"""The files that a check reads: the project's code, not its data, environments and links."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paccel.check import sources


def test_code_and_declarations_are_read_and_data_and_environments_are_not(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    kept = ["a.py", "pkg/b.pyi", "notes.ipynb", "pyproject.toml", "data/c.py", "requirements/dev.txt"]
    kept += [".github/workflows/ci.yml", "src/py.typed", "README.md", "run.sh", "conf/net.yaml", "Makefile"]
    left = [".git/x.py", "runs/1/code/x.py", ".venv/lib/x.py", "env2/pyvenv.cfg", "env2/x.py", "node_modules/x.py"]
    left += ["NOTES.md", "data/raw/x.csv", "datasets/x.yaml", "large.py", ".paccel/x.py"]
    root = write(
        tmp_path / "project", dict.fromkeys([*kept, *left], "") | {"large.py": "#" * (sources.MAX_FILE_BYTES + 1)}
    )
    if os.name != "nt":
        (root / "link.py").symlink_to(root / "a.py")
    assert sorted(sources.read_sources(root)) == sorted(kept)


def test_of_many_settings_the_first_are_read_and_refuse_nothing(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_TEXTS", 2)
    monkeypatch.setattr(sources, "MAX_TEXT_BYTES", 10)
    root = write(tmp_path / "project", dict.fromkeys(["a.json", "c.json", "d.json", "e.py"], "") | {"b.json": "x" * 11})
    assert sorted(sources.read_sources(root)) == ["a.json", "c.json", "e.py"]


def test_a_project_with_too_many_files_is_refused(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "project", {f"{number}.py": "x" for number in range(5)})
    for name in ("MAX_FILES", "MAX_BYTES", "MAX_SEEN"):
        with monkeypatch.context() as patch:
            patch.setattr(sources, name, 4)
            with pytest.raises(sources.TooLarge, match="too many files"):
                sources.read_sources(root)
