"""A small template and a project of it, to edit both and upgrade."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paccel.files.tree import read_tree

PROJECT = "{{cookiecutter.project_name}}"
TRAIN = """import os


def main():
    rate = 0.1
    first = 1
    second = 2
    third = 3
    print(os.name, rate, first, second, third)
# % if cookiecutter.average
    print("average")
# % endif


main()
"""
DATA = "".join(f"value_{i} = {i}\n" for i in range(10))
QUESTIONS = {
    "average": False,
    "tracker": ["none", "tb"],
    "_jinja2_env_vars": {"line_statement_prefix": "# %", "trim_blocks": True, "lstrip_blocks": True},
}

Run = Callable[..., Any]


class Case:
    """A template, and a project of it in the working directory."""

    def __init__(self, paccel: Run, template: Callable[..., Path], work: Path) -> None:
        self.run, self.make, self.work = paccel, template, work
        self.source = template({"train.py": TRAIN, "data.py": DATA}, QUESTIONS)
        assert paccel("new", "project", "--template", self.source, "--no-input").code == 0
        self.root = work / "project"

    def edit(self, path: str, old: str, new: str) -> None:
        """Edit the user's file."""
        self._edit(self.root / path, old, new)

    def change(self, path: str, old: str, new: str) -> None:
        """Change the template's file."""
        self._edit(self.source / PROJECT / path, old, new)

    def _edit(self, file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def tree(self) -> dict[str, bytes]:
        return {path: file.content for path, file in read_tree(self.root, ignore=(".git",)).items()}
