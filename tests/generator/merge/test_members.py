"""Both sides add members to a mapping at one place: tables of TOML and INI, YAML, `.env`, targets of make."""

from textwrap import dedent

import pytest

from paccel.merge.file import MergeResult, merge_file


def merge(path: str, base: str, ours: str, theirs: str) -> MergeResult:
    return merge_file(*(dedent(text).lstrip("\n").encode() for text in (base, ours, theirs)), path=path)


TOML = """
[project]
name = "a"

[tool.ruff]
line-length = 88
"""
WORKFLOW = """
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    env:
      A: 1
    steps:
      - run: pytest
"""
COMPOSE = """
services:
  train:
    image: a
volumes:
  data:
"""
MAKE = ".PHONY: test\n\ntest:\n\tpytest\n"
INI = "[flake8]\nmax-line-length = 88\n\n[options]\ninstall_requires =\n    numpy\n"

ADDED: dict[str, tuple[str, str, str, str, str]] = {
    "keys of a table": (
        "pyproject.toml",
        TOML,
        TOML + 'target-version = "py311"\n',
        TOML + "# as the team has it\nfix = true\n",
        TOML + 'target-version = "py311"\n# as the team has it\nfix = true\n',
    ),
    "dotted keys and arrays": (
        "pyproject.toml",
        TOML,
        TOML + 'lint.select = ["E"]\n',
        TOML + 'lint.ignore = [\n    "F",\n]\n',
        TOML + 'lint.select = ["E"]\nlint.ignore = [\n    "F",\n]\n',
    ),
    "tables": (
        "pyproject.toml",
        TOML,
        TOML + "\n[tool.mypy]\nstrict = true\n",
        TOML + "\n[tool.pytest]\nx = 1\n",
        TOML + "\n[tool.mypy]\nstrict = true\n\n[tool.pytest]\nx = 1\n",
    ),
    "tables between others": (
        "pyproject.toml",
        TOML,
        TOML.replace("[tool.ruff]", "[project.scripts]\na = 'a:b'\n\n[tool.ruff]"),
        TOML.replace("[tool.ruff]", "[project.urls]\nb = 'b:c'\n\n[tool.ruff]"),
        TOML.replace("[tool.ruff]", "[project.scripts]\na = 'a:b'\n\n[project.urls]\nb = 'b:c'\n\n[tool.ruff]"),
    ),
    "one table with other keys": (
        "pyproject.toml",
        TOML,
        TOML + "\n[project.scripts]\na = 'a:b'\n",
        TOML + "\n[project.scripts]\nb = 'b:c'\n",
        TOML + "\n[project.scripts]\na = 'a:b'\nb = 'b:c'\n",
    ),
    "a key before a table": (
        "pyproject.toml",
        TOML,
        TOML + "\n[tool.mypy]\nstrict = true\n",
        TOML + "fix = true\n",
        TOML + "fix = true\n\n[tool.mypy]\nstrict = true\n",
    ),
    "a key beside one that changed": (
        "pyproject.toml",
        TOML,
        TOML.replace("line-length = 88", "line-length = 88\nfix = true"),
        TOML.replace("line-length = 88", "line-length = 100\npreview = true"),
        TOML.replace("line-length = 88", "line-length = 100\nfix = true\npreview = true"),
    ),
    "extras with strings": (
        "pyproject.toml",
        TOML + '\n[project.optional-dependencies]\ndev = ["pytest"]\n',
        TOML + '\n[project.optional-dependencies]\ndev = ["pytest", "ruff"]\nmine = ["a"]\n',
        TOML + '\n[project.optional-dependencies]\ndev = ["pytest", "mypy"]\ndocs = ["b"]\n',
        TOML + '\n[project.optional-dependencies]\ndev = ["pytest", "ruff", "mypy"]\nmine = ["a"]\ndocs = ["b"]\n',
    ),
    "jobs": (
        ".github/workflows/ci.yml",
        WORKFLOW,
        WORKFLOW + "  lint:\n    steps:\n      - run: ruff\n",
        WORKFLOW + "  # slow\n  docs:\n    steps:\n      - run: sphinx\n",
        WORKFLOW + "  lint:\n    steps:\n      - run: ruff\n  # slow\n  docs:\n    steps:\n      - run: sphinx\n",
    ),
    "variables of a job": (
        "ci.yaml",
        WORKFLOW,
        WORKFLOW.replace("A: 1\n", "A: 1\n      B: 2\n"),
        WORKFLOW.replace("A: 1\n", "A: 1\n      C: 3\n"),
        WORKFLOW.replace("A: 1\n", "A: 1\n      B: 2\n      C: 3\n"),
    ),
    "services": (
        "compose.yaml",
        COMPOSE,
        COMPOSE.replace("volumes:", "  db:\n    image: b\n    command: |\n      a: b\n\n      c\nvolumes:"),
        COMPOSE.replace("volumes:", "  board:\n    image: c\n    ports:\n    - '6006'\nvolumes:"),
        COMPOSE.replace(
            "volumes:",
            "  db:\n    image: b\n    command: |\n      a: b\n\n      c\n"
            "  board:\n    image: c\n    ports:\n    - '6006'\nvolumes:",
        ),
    ),
    "one block with other keys": (
        "compose.yaml",
        COMPOSE,
        COMPOSE.replace("image: a\n", "image: a\n    environment:\n      A: 1\n"),
        COMPOSE.replace("image: a\n", "image: a\n    environment:\n      B: 2\n"),
        COMPOSE.replace("image: a\n", "image: a\n    environment:\n      A: 1\n      B: 2\n"),
    ),
    "variables": (
        ".env.example",
        "A=1\n",
        "A=1\nexport B='x y'\n",
        "A=1\n# for the tracker\nWANDB_MODE=offline\n",
        "A=1\nexport B='x y'\n# for the tracker\nWANDB_MODE=offline\n",
    ),
    "requirements": ("requirements.txt", "torch\n", "torch\nnumpy\n", "torch\nscipy\n", "torch\nnumpy\nscipy\n"),
    "JSON": (
        "a.json",
        '{\n  "a": 1\n}\n',
        '{\n  "a": 1,\n  "b": 2\n}\n',
        '{\n  "a": 1,\n  "c": 3\n}\n',
        '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}\n',
    ),
    "keys of an INI section": (
        "setup.cfg",
        INI,
        INI.replace("88\n", "88\nextend-ignore =\n    E203\n    W503\n"),
        INI.replace("88\n", "88\nexclude = build\n"),
        INI.replace("88\n", "88\nextend-ignore =\n    E203\n    W503\nexclude = build\n"),
    ),
    "INI sections": (
        "setup.cfg",
        INI,
        INI + "\n[mypy]\nstrict = true\n",
        INI + "\n[tool:pytest]\nx = 1\n",
        INI + "\n[mypy]\nstrict = true\n\n[tool:pytest]\nx = 1\n",
    ),
    "requirements of setup.cfg": (
        "setup.cfg",
        INI,
        INI + "    scipy\n",
        INI + "    pandas>=2\n",
        INI + "    scipy\n    pandas>=2\n",
    ),
    "targets": (
        "Makefile",
        MAKE,
        MAKE.replace(": test\n", ": test lint\n", 1) + "\nlint:\n\truff check\n",
        MAKE.replace(": test\n", ": test docs\n", 1) + "\n# the pages\ndocs: test\n\tsphinx\n\n",
        MAKE.replace(": test\n", ": test lint docs\n", 1)
        + "\nlint:\n\truff check\n\n# the pages\ndocs: test\n\tsphinx\n",
    ),
    "recipes": (
        "justfile",
        "test:\n    pytest\n",
        "test:\n    pytest\n\nlint path='.':\n    ruff {{path}}\n",
        "test:\n    pytest\n\n[private]\ndocs:\n    sphinx\n",
        "test:\n    pytest\n\nlint path='.':\n    ruff {{path}}\n\n[private]\ndocs:\n    sphinx\n",
    ),
}


@pytest.mark.parametrize("name", ADDED)
def test_both_sides_add_at_one_place(name: str) -> None:
    path, base, ours, theirs, expected = ADDED[name]
    result = merge(path, base, ours, theirs)
    assert result.content.decode().rstrip("\n") == dedent(expected).strip("\n")
    assert not result.conflicts
    again = merge_file(
        *(dedent(text).lstrip("\n").encode() for text in (theirs, result.content.decode(), theirs)), path
    )
    assert again.content == result.content


CONFLICTS: dict[str, tuple[str, str, str, str]] = {
    "one key, two values": ("a.toml", TOML, TOML + "fix = true\n", TOML + "fix = false\n"),
    "one key in one table": ("a.toml", TOML, TOML + "\n[t]\nfix = true\n", TOML + "\n[t]\nfix = false\n"),
    "lists of tables": ("a.toml", TOML, TOML + "\n[[t]]\nx = 1\n", TOML + "\n[[t]]\ny = 1\n"),
    "one job": ("a.yml", WORKFLOW, WORKFLOW + "  a:\n    x: 1\n", WORKFLOW + "  a:\n    x: 2\n"),
    "steps": ("a.yml", WORKFLOW, WORKFLOW + "      - run: a\n", WORKFLOW + "      - run: b\n"),
    "a text of several lines": (
        "a.yml",
        "run: |\n  first: 1\n",
        "run: |\n  first: 1\n  a: 1\n",
        "run: |\n  first: 1\n  b: 1\n",
    ),
    "one variable": (".env", "A=1\n", "A=1\nB=1\n", "A=1\nB=2\n"),
    "a value of several lines": (".env", "A=1\n", 'A=1\nB="1\nC=2"\n', "A=1\nD=2\n"),
    "one requirement": ("requirements.txt", "a\n", "a\nb>1\n", "a\nb>2\n"),
    "one option": ("a.ini", INI, INI + "name = a\n", INI + "Name = b\n"),
    "commands": (
        "tox.ini",
        "[a]\ncommands =\n    a\n",
        "[a]\ncommands =\n    a\n    b\n",
        "[a]\ncommands =\n    a\n    c\n",
    ),
    "one target": ("Makefile", MAKE, MAKE + "\na:\n\tb\n", MAKE + "\na:\n\tc\n"),
    "commands of one target": ("Makefile", MAKE, MAKE + "\ta\n", MAKE + "\tb\n"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_is_no_set_or_has_two_values_stays_a_conflict(name: str) -> None:
    path, base, ours, theirs = CONFLICTS[name]
    result = merge(path, base, ours, theirs)
    assert result.conflicts == 1
    for line in (ours + theirs).splitlines():
        assert not line or line in result.content.decode().splitlines()


@pytest.mark.parametrize("path", ["a.toml", "a.yml", "a.ini", "setup.cfg", ".env", "Makefile"])
@pytest.mark.parametrize("old", ["", "# old\n"])
def test_two_comments_are_a_conflict(path: str, old: str) -> None:
    start = {"a.toml": "a = 1\n", "a.yml": "a: 1\n", "a.ini": INI, "setup.cfg": INI}.get(path, "A=1\n")
    result = merge_file(*((start + end).encode() for end in (old, "# mine\n", "# theirs\n")), path)
    assert result.conflicts == 1
    assert b"# mine\n" in result.content
    assert b"# theirs\n" in result.content


def test_what_follows_a_table_stays_in_its_own() -> None:
    """Both sides add a table above keys, which would then belong to it: not to be merged by key."""
    base = "[a]\nx = 1\ny = 2\nz = 3\n"
    result = merge("a.toml", base, base.replace("y", "[b]\nq = 1\ny"), base.replace("y", "[c]\nr = 1\ny"))
    assert result.conflicts


@pytest.mark.parametrize(
    ("path", "base", "top", "bottom"),
    [
        (".env", "A=1\n\nC=1\n", "B=1", "B=2"),
        ("a.ini", "[a]\nx = 1\ny = 1\nz = 1\n", "[b]\nc = 1", "[b]\nc = 1"),
        ("a.ini", "[a]\nx = 1\n\ny = 1\n", "[a]\nw = 1", "W = 2"),
        ("Makefile", "a:\n\techo 1\n\nb:\n\techo 2\n", "c:\n\techo 3\n", "\nc:\n\techo 4"),
    ],
)
def test_one_name_at_two_places_is_a_conflict(path: str, base: str, top: str, bottom: str) -> None:
    ours = base.replace("[a]", top, 1) if top.startswith("[a]") else f"{top}\n{base}"
    result = merge(path, base, ours, f"{base}{bottom}\n")
    assert result.conflicts
    assert "twice" in result.notes[0]
    repeated = f"{base}{bottom}\n{bottom}\n"  # what was there before is nobody's
    assert not merge(path, repeated, repeated, repeated + "# end\n").conflicts
