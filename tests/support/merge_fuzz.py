"""Random merges of real files: edits like those of people and templates, the laws of a merge, and minimized
counter-examples.

A `Triple` is a function of a number, so that a counter-example is reproducible. `broken_laws` lists the laws that the
merge of a triple breaks; `minimized` shrinks a triple that breaks one.
"""

import ast
import io
import json
import random
import re
import tokenize
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import black

from paccel.merge.diff import changes
from paccel.merge.diff3 import merge3
from paccel.merge.file import MergeResult, merge_file
from paccel.merge.languages import language_of, parses
from paccel.merge.restyle import single_quoted
from paccel.merge.text import decode

TESTS = Path(__file__).parents[1]
FOLDER = TESTS / "merge_fuzz"
"""Counter-examples that were found and fixed, one file each."""

Lines = list[str]


class Triple(NamedTuple):
    """Three versions of a file."""

    path: str
    base: str
    ours: str
    theirs: str

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.base, self.ours, self.theirs


# --- the files ---------------------------------------------------------------------------------------------------------

SETTINGS = """\
// For everyone who opens this folder
{
    // formatting
    "editor.rulers": [120],
    "editor.formatOnSave": true,
    "[python]": {
        "editor.defaultFormatter": "ms-python.black-formatter", // as CI does
        "editor.tabSize": 4,
    },
    /* tests */
    "python.testing.pytestEnabled": true,
    "python.testing.pytestArgs": ["tests"],
    "files.exclude": {"**/__pycache__": true, "runs": false}
}
"""
PACKAGE = """\
{
  "name": "digits",
  "version": "0.1.0",
  "scripts": {"train": "python train.py", "test": "pytest -q"},
  "settings": {
    "epochs": 10,
    "learning_rate": 0.001,
    "layers": [64, 64],
    "optimizer": {
      "name": "adamw",
      "weight_decay": 0.01
    }
  },
  "keywords": [
    "training",
    "digits"
  ]
}
"""
WORKFLOW = """\
name: tests
on:
  push:
    branches: [main]
  pull_request:

env:
  PYTHONHASHSEED: "0"

jobs:
  test:
    runs-on: ubuntu-latest
    strategy:
      matrix:
        python: ["3.11", "3.12"]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: ${{ matrix.python }}
      - run: pip install -e .[dev]
      - run: pytest -q
  # slow, so only on main
  train:
    runs-on: ubuntu-latest
    needs: test
    steps:
      - uses: actions/checkout@v4
      - name: Train
        run: |
          pip install -e .
          python train.py --epochs 1
"""
REQUIREMENTS = """\
# what train.py needs
accelerate>=1.10
numpy>=1.26
torch>=2.6
torchvision>=0.21 ; sys_platform != "win32"

# tools
black>=26.1,<27
pytest>=8
ruff
"""
DOCKERFILE = """\
FROM python:3.12-slim
RUN apt-get update \\
    && apt-get install -y git \\
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml .
RUN pip install .
COPY . .
ENV PYTHONUNBUFFERED=1
CMD ["python", "train.py"]
"""
MAKEFILE = """\
.PHONY: test lint
PYTHON ?= python

test: lint
	$(PYTHON) -m pytest

# quick
lint:
	ruff check .
"""
SETUP = """\
[options]
python_requires = >=3.11
install_requires =
    numpy
    torch>=2.6

[flake8]
max-line-length = 88
exclude = build

[mypy]
strict = true
"""
VARIABLES = """\
# where data are
DATA_DIR=/data
export WANDB_MODE=offline
NAME='a b'

CUDA_VISIBLE_DEVICES=0,1
"""
COMPOSE = """\
services:
  train:
    image: net
    environment:
      EPOCHS: 3
      SEED: 1
    volumes:
      - data:/data
  # curves
  board:
    image: tensorboard
    ports: ["6006:6006"]
volumes:
  data:
"""
WRITTEN = {
    "Makefile": MAKEFILE,
    "setup.cfg": SETUP,
    ".env": VARIABLES,
    "compose.yaml": COMPOSE,
    ".vscode/settings.json": SETTINGS,
    "package.json": PACKAGE,
    "one-line.json": json.dumps(json.loads(PACKAGE)) + "\n",
    ".github/workflows/test.yaml": WORKFLOW,
    "requirements.txt": REQUIREMENTS,
    "Dockerfile": DOCKERFILE,
}


def files() -> list[tuple[str, str]]:
    """Path and text of the files to edit: projects of the bundled templates, and a file of each other language."""
    found = [
        (path.relative_to(path.parents[len(path.relative_to(TESTS / "snapshots").parts) - 3]).as_posix(), path)
        for path in sorted((TESTS / "snapshots").glob("*/default/**/*"))
        if path.is_file()
    ]
    found += [
        (path.name, path)
        for path in sorted((TESTS / "merge_cases" / "_projects").glob("*/*"))
        if path.suffix in {".ipynb", ".yaml", ".sh", ".txt"}
    ]
    return [*((name, path.read_text(encoding="utf-8")) for name, path in found), *WRITTEN.items()]


# --- edits -------------------------------------------------------------------------------------------------------------


class Hand:
    """Draws the edits of one side, near a focus, so that the two sides often touch."""

    def __init__(self, rng: random.Random, focus: float | None, mark: str) -> None:
        self.rng, self.focus, self.mark = rng, focus, mark

    def place(self, count: int) -> int:
        """One of `count` places."""
        if count <= 1:
            return 0
        if self.focus is None:
            return self.rng.choice([0, count - 1, *(self.rng.randrange(count) for _ in range(6))])
        return min(max(round(self.rng.gauss(self.focus * count, 2)), 0), count - 1)

    def pick(self, found: list[Any]) -> Any:
        return found[self.place(len(found))]

    def word(self) -> str:
        """A name: mostly one of this side only, sometimes one that the other side may draw, too."""
        return self.rng.choice(["shared", "common", *(f"{self.mark}{k}" for k in range(9))])


Edit = Callable[[Hand, str, Lines], Lines | None]
"""Edit the lines of a file at a path; None where there is nothing of the kind."""


def indent_of(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def new_lines(hand: Hand, path: str, near: str) -> Lines:
    """One to three plausible lines beside `near`."""
    space, word = indent_of(near), hand.word()
    rng = hand.rng
    language = language_of(path)
    if language == "python":
        choices = [
            [f"{space}{word} = {rng.randrange(5)}"],
            [f"{space}print({word!r}, {rng.randrange(5)})"],
            [f"{space}if {rng.randrange(5)}:", f"{space}    {word} = None"],
            [f"{space}# {word}: a remark"],
            ["", f"{space}{word} = [{rng.randrange(5)}, {rng.randrange(5)}]"],
        ]
        if re.match(r"\s*(import|from) ", near):
            choices = [[f"{space}import {word}"], [f"{space}from {word} import {hand.word()}"]]
        elif re.match(r"    \w+: [\w|. ]+ = ", near):
            choices = [[f"{space}{word}: int = {rng.randrange(5)}"], [f"{space}{word}: str = 'x'  # {word} of it"]]
        return rng.choice(choices)
    if language == "toml":
        if near.strip().startswith(('"', "'")):
            return [f'{space}"{word}>={rng.randrange(5)}",']
        return rng.choice(
            [
                [f"{word} = {rng.randrange(5)}"],
                [f'{word} = ["a", "b"]'],
                [f"# {word}"],
                ["", f"[tool.{word}]", "on = true"],
            ]
        )
    if language == "json":
        return [f'{space}"{word}": {rng.randrange(5)},']
    if language == "yaml":
        if near.strip().startswith("- "):
            return [f"{space}- {word}"]
        return [f"{space}{word}: {rng.randrange(5)}"]
    if language == "requirements":
        return [rng.choice([f"{word}>={rng.randrange(5)}", f"# {word}"])]
    if language == "ignore":
        return [rng.choice([f"/{word}/", f"*.{word}", f"# {word}"])]
    return rng.choice(
        [[f"{space}{word} is {rng.randrange(5)}"], [f"{space}- {word}"], ["", f"## {word}", "", f"Of {word}."]]
    )


def insert(hand: Hand, path: str, lines: Lines) -> Lines:
    at = hand.place(len(lines) + 1)
    near = lines[min(at, len(lines) - 1)] if lines else ""
    return [*lines[:at], *new_lines(hand, path, near), *lines[at:]]


def append(hand: Hand, path: str, lines: Lines) -> Lines:
    return [*lines, *new_lines(hand, path, lines[-1] if lines else "")]


def prepend(hand: Hand, path: str, lines: Lines) -> Lines:
    return [*new_lines(hand, path, lines[0] if lines else ""), *lines]


def delete(hand: Hand, path: str, lines: Lines) -> Lines:
    at = hand.place(len(lines))
    return lines[:at] + lines[at + hand.rng.choice([1, 1, 1, 2, 3, 6]) :]


def change(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """Another number or word in a line."""
    if not lines:
        return None
    at = hand.place(len(lines))
    line = lines[at]
    numbers = list(re.finditer(r"\d+", line))
    words = list(re.finditer(r"\b[a-z]{3,}\b", line))
    if numbers and hand.rng.random() < 0.7:
        found, text = hand.rng.choice(numbers), str(hand.rng.randrange(9))
    elif words:
        found, text = hand.rng.choice(words), hand.word()
    else:
        return None
    return [*lines[:at], line[: found.start()] + text + line[found.end() :], *lines[at + 1 :]]


def rewrite(hand: Hand, path: str, lines: Lines) -> Lines:
    at = hand.place(len(lines))
    return [*lines[:at], *new_lines(hand, path, lines[at] if lines else ""), *lines[at + hand.rng.choice([1, 1, 2]) :]]


def duplicate(hand: Hand, path: str, lines: Lines) -> Lines:
    at, size = hand.place(len(lines)), hand.rng.choice([1, 2, 4])
    return lines[: at + size] + lines[at : at + size] + lines[at + size :]


def move(hand: Hand, path: str, lines: Lines) -> Lines:
    at, size = hand.place(len(lines)), hand.rng.choice([1, 2, 4])
    block, rest = lines[at : at + size], lines[:at] + lines[at + size :]
    to = hand.place(len(rest) + 1)
    return rest[:to] + block + rest[to:]


def swap(hand: Hand, path: str, lines: Lines) -> Lines | None:
    if len(lines) < 2:
        return None
    at = hand.place(len(lines) - 1)
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def blank(hand: Hand, path: str, lines: Lines) -> Lines:
    at = hand.place(len(lines) + 1)
    return [*lines[:at], "", *lines[at:]]


def unblank(hand: Hand, path: str, lines: Lines) -> Lines | None:
    places = [at for at, line in enumerate(lines) if not line.strip()]
    if not places:
        return None
    at = hand.pick(places)
    return lines[:at] + lines[at + 1 :]


def comment(hand: Hand, path: str, lines: Lines) -> Lines | None:
    if language_of(path) in {"json", "text"} or not lines:
        return None
    at = hand.place(len(lines))
    line = lines[at]
    if line.strip().startswith("#") or not line.strip():
        return None
    new = hand.rng.choice([f"{line}  # {hand.word()}", f"{indent_of(line)}# {line.strip()}"])
    return [*lines[:at], new, *lines[at + 1 :]]


def trail(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """White space at a line's end."""
    if not lines:
        return None
    at = hand.place(len(lines))
    return [*lines[:at], lines[at].rstrip() + hand.rng.choice(["", "  "]), *lines[at + 1 :]]


def tabs(hand: Hand, path: str, lines: Lines) -> Lines:
    return [re.sub(r"^(?: {4})+", lambda found: "\t" * (len(found[0]) // 4), line) for line in lines]


def tree_of(lines: Lines) -> ast.Module | None:
    try:
        return ast.parse("\n".join(lines).replace("\r", "") + "\n")  # also in a file with CRLF, every line is one line
    except (SyntaxError, ValueError):
        return None


def span(node: ast.stmt) -> tuple[int, int]:
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
    return first - 1, node.end_lineno or first


def functions(lines: Lines) -> list[ast.stmt]:
    tree = tree_of(lines)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in tree.body if isinstance(node, kinds)] if tree else []


def rename(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """Another name for a function, wherever it is used."""
    found: list[Any] = functions(lines)
    if not found:
        return None
    old, new = hand.pick(found).name, hand.word()
    return [re.sub(rf"\b{old}\b", new, line) for line in lines]


def rename_local(hand: Hand, path: str, lines: Lines) -> Lines | None:
    tree = tree_of(lines)
    names = (
        [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        if tree
        else []
    )
    if not names:
        return None
    old, new = hand.pick(names), hand.word()
    return [re.sub(rf"\b{old}\b", new, line) for line in lines]


def move_function(hand: Hand, path: str, lines: Lines) -> Lines | None:
    found = functions(lines)
    if len(found) < 2:
        return None
    first, last = span(hand.pick(found))
    block, rest = lines[first:last], lines[:first] + lines[last:]
    to = span(hand.pick(functions(rest)))[0] if functions(rest) and hand.rng.random() < 0.7 else len(rest)
    return rest[:to] + (["", "", *block] if to == len(rest) else [*block, "", ""]) + rest[to:]


def add_function(hand: Hand, path: str, lines: Lines) -> Lines | None:
    found = functions(lines)
    word = hand.word()
    new = [f"def {word}(x):", f"    return x + {hand.rng.randrange(5)}"]
    if not found or hand.rng.random() < 0.4:
        return [*lines, "", "", *new]
    at = span(hand.pick(found))[0]
    return [*lines[:at], *new, "", "", *lines[at:]]


def drop_function(hand: Hand, path: str, lines: Lines) -> Lines | None:
    found = functions(lines)
    if not found:
        return None
    first, last = span(hand.pick(found))
    return lines[:first] + lines[last:]


def imports_of(lines: Lines) -> list[ast.stmt]:
    tree = tree_of(lines)
    return [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))] if tree else []


def reorder_imports(hand: Hand, path: str, lines: Lines) -> Lines | None:
    found = imports_of(lines)
    if len(found) < 2:
        return None
    first, last = span(found[0])[0], span(found[-1])[1]
    blocks = [lines[slice(*span(node))] for node in found]
    if sum(map(len, blocks)) != sum(1 for line in lines[first:last] if line.strip()):
        return None
    hand.rng.shuffle(blocks)
    return [*lines[:first], *(line for block in blocks for line in block), *lines[last:]]


def add_import(hand: Hand, path: str, lines: Lines) -> Lines | None:
    found = imports_of(lines)
    new = hand.rng.choice([f"import {hand.word()}", f"from {hand.word()} import {hand.word()}, {hand.word()}x"])
    at = span(hand.pick(found))[hand.rng.randrange(2)] if found else 0
    return [*lines[:at], new, *lines[at:]]


def add_name(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """One more name in a `from` import."""
    places = [at for at, line in enumerate(lines) if re.match(r"from \S+ import [\w, ]+$", line)]
    if not places:
        return None
    at = hand.pick(places)
    return [*lines[:at], lines[at] + f", {hand.word()}", *lines[at + 1 :]]


def wrap(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """A block in a `with`, an `if` or a `try`."""
    tree = tree_of(lines)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.col_offset] if tree else []
    nodes = [node for node in nodes if not isinstance(node, (ast.FunctionDef, ast.AnnAssign))]
    if not nodes:
        return None
    first, last = span(hand.pick(nodes))
    space = indent_of(lines[first])
    head, tail = hand.rng.choice(
        [
            (f"with {hand.word()}():", []),
            (f"if {hand.word()}:", []),
            ("try:", [f"{space}finally:", f"{space}    print({hand.word()!r})"]),
        ]
    )
    inside = [f"    {line}" if line.strip() else line for line in lines[first:last]]
    return [*lines[:first], space + head, *inside, *tail, *lines[last:]]


def unwrap(hand: Hand, path: str, lines: Lines) -> Lines | None:
    tree = tree_of(lines)
    nodes = (
        [node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.With)) and node.col_offset] if tree else []
    )
    nodes = [node for node in nodes if not getattr(node, "orelse", [])]
    if not nodes:
        return None
    node = hand.pick(nodes)
    first, last = span(node)
    body = span(node.body[0])[0]
    if body <= first:
        return None
    return lines[:first] + [line[4:] if line.strip() else line for line in lines[body:last]] + lines[last:]


def reformat(hand: Hand, path: str, lines: Lines) -> Lines | None:
    mode = black.Mode(line_length=hand.rng.choice([60, 79, 88, 100]), magic_trailing_comma=hand.rng.random() < 0.7)
    try:
        return black.format_str("\n".join(lines) + "\n", mode=mode).split("\n")[:-1]
    except (ValueError, AssertionError):
        return None


def requote(hand: Hand, path: str, lines: Lines) -> Lines:
    return single_quoted("\n".join(lines)).split("\n")


def add_field(hand: Hand, path: str, lines: Lines) -> Lines | None:
    places = [at for at, line in enumerate(lines) if re.match(r"    \w+: [\w|. ]+ = ", line)]
    if not places:
        return None
    at = hand.pick(places) + hand.rng.randrange(2)
    return [*lines[:at], f"    {hand.word()}: int = {hand.rng.randrange(5)}", *lines[at:]]


def add_argument(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """One more argument in a call or a signature on one line."""
    places = [at for at, line in enumerate(lines) if re.search(r"\w\([^()]+\)", line)]
    if not places:
        return None
    at = hand.pick(places)
    text = f"\\1, {hand.word()}={hand.rng.randrange(5)})"
    return [*lines[:at], re.sub(r"(\w\([^()]+)\)", text, lines[at], count=1), *lines[at + 1 :]]


def add_member(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """One more member of a one-line dictionary or list, in any language."""
    places = [at for at, line in enumerate(lines) if re.search(r"[\[{][^\[\]{}]+[\]}]", line)]
    if not places:
        return None
    at = hand.pick(places)
    pair = f', "{hand.word()}": {hand.rng.randrange(5)}' + "}"
    line = re.sub(r"(\{[^\[\]{}]*:[^\[\]{}]*)\}", lambda it: it[1] + pair, lines[at], count=1)
    if line == lines[at]:
        line = re.sub(r"""(\[[^\[\]{}]*["'])\]""", lambda it: f'{it[1]}, "{hand.word()}"]', line, count=1)
    return [*lines[:at], line, *lines[at + 1 :]] if line != lines[at] else None


def json_member(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """Add, remove or change a member somewhere, keeping the file's layout."""
    text = "\n".join(lines)
    try:
        value = json.loads(text)
    except ValueError:
        return None
    objects = [node for node in walk(value) if isinstance(node, dict)]
    if not objects:
        return None
    node = hand.pick(objects)
    what = hand.rng.randrange(3)
    if what == 0 or not node:
        node[hand.word()] = hand.rng.choice([1, "x", [1, 2], {"a": 1}, None])
    elif what == 1:
        del node[hand.rng.choice(list(node))]
    else:
        node[hand.rng.choice(list(node))] = hand.rng.randrange(9)
    styles: tuple[dict[str, Any], ...] = ({"indent": 2}, {"indent": 1}, {"indent": 4}, {}, {"separators": (",", ":")})
    style = next((some for some in styles if json.dumps(json.loads(text), **some) == text), styles[0])
    return json.dumps(value, **style).split("\n")


def jsonc_member(hand: Hand, path: str, lines: Lines) -> Lines | None:
    """Add, remove or comment a member, in a file with one member per line."""
    places = [at for at, line in enumerate(lines) if re.match(r"\s+\"[^\"]+\": .*,\s*(//.*)?$", line)]
    if not places:
        return None
    at = hand.pick(places)
    new = f'{indent_of(lines[at])}"{hand.word()}": {hand.rng.choice(["1", "true", "[1, 2]"])},'
    what = hand.rng.randrange(4)
    if what == 0:
        return lines[:at] + lines[at + 1 :]
    if what == 1:
        return [*lines[:at], f"{indent_of(new)}// {hand.word()}", *lines[at:]]
    return [*lines[: at + 1], new, *lines[at + 1 :]]


def json_layout(hand: Hand, path: str, lines: Lines) -> Lines | None:
    try:
        value = json.loads("\n".join(lines))
    except ValueError:
        return None
    return json.dumps(value, indent=hand.rng.choice([2, 4, None, 1])).split("\n")


def walk(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from walk(item)


ANY: tuple[Edit, ...] = (
    *(insert, insert, append, prepend, delete, delete, change, change, change, rewrite, duplicate, move, swap, blank),
    *(unblank, comment, trail, add_member),
)
PYTHON: tuple[Edit, ...] = (
    *(rename, rename_local, move_function, move_function, add_function, add_function, drop_function, reorder_imports),
    *(
        add_import,
        add_import,
        add_name,
        wrap,
        wrap,
        unwrap,
        reformat,
        requote,
        add_field,
        add_field,
        add_argument,
        tabs,
    ),
)
OF_LANGUAGE: dict[str, tuple[Edit, ...]] = {
    "python": (*PYTHON, *PYTHON),
    "json": (json_member, json_member, json_member, json_layout, jsonc_member, jsonc_member),
}


def edited(hand: Hand, path: str, text: str, count: int) -> str:
    """Make `count` edits, and sometimes change the line endings."""
    lines = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
    edits = (*ANY, *OF_LANGUAGE.get(language_of(path), ()))
    valid = parses(language_of(path), text)
    for _ in range(count):
        for _ in range(6):
            new = hand.rng.choice(edits)(hand, path, lines)
            # People and templates mostly leave a file valid.
            if (
                new is not None
                and new != lines
                and (not valid or hand.rng.random() < 0.03 or parses(language_of(path), joined(new)))
            ):
                lines = new
                break
    result = joined(lines)
    ending = hand.rng.random()
    if ending < 0.04:
        return result.replace("\n", "\r\n")
    return result.rstrip("\n") if ending < 0.08 else result


def joined(lines: Lines) -> str:
    return "".join(line + "\n" for line in lines)


def drawn(number: int, found: list[tuple[str, str]]) -> Triple:
    """The triple of a number: one of the files, or some of its lines, and two independent sequences of edits."""
    rng = random.Random(number)
    path, base = rng.choice(found)
    if rng.random() < 0.03:
        base = base.replace("\n", "\r\n")
    focus = rng.random() if rng.random() < 0.6 else None
    ours, theirs = (
        edited(Hand(rng, focus, mark), path, base, rng.choice([1, 1, 2, 3, 5, 8])) for mark in ("mine", "new")
    )
    if rng.random() < 0.1:  # both sides start with the same edits
        base, ours = (edited(Hand(rng, focus, "both"), path, text, 0) for text in (base, ours))
        common = random.Random(number + 1).getrandbits(32)
        ours, theirs = (edited(Hand(random.Random(common), focus, "both"), path, text, 2) for text in (ours, theirs))
    return Triple(path, base, ours, theirs)


# --- laws --------------------------------------------------------------------------------------------------------------

Merge = Callable[[Triple], MergeResult]
Things = Counter[str]


def merge(triple: Triple) -> MergeResult:
    return merge_file(*(text.encode() for text in triple.texts), triple.path)


def broken_laws(triple: Triple, merge: Merge = merge) -> list[str]:
    """The laws that the merge of a triple breaks, in words."""
    path, base, ours, theirs = triple
    found: list[str] = []
    try:
        result = merge(triple)
        back = merge(Triple(path, base, theirs, ours))
    except Exception as error:
        return [f"no exception ({type(error).__name__})"]
    for name, sides, expected in (
        ("an unedited file becomes the template's", (base, base, theirs), theirs),
        ("a file that the template left stays the user's", (base, ours, base), ours),
        ("two equal sides are the result", (base, ours, ours), ours),
    ):
        if merge(Triple(path, *sides)).content != expected.encode():
            found.append(name)
    if result.conflicts:
        if not holds_both(triple, result):
            found.append("a conflict holds the text of both")
        return found
    text = result.content.decode()
    language = language_of(path)
    if not adds_up(triple, text):
        found.append("nothing is lost and nothing is back")
    if valid(language, ours) and valid(language, theirs) and not valid(language, text):
        found.append("two valid sides give a valid result")
    again = merge(Triple(path, base, text, theirs))
    if again[:2] != result[:2] and not ambiguous(Triple(path, base, text, theirs), result, again):
        found.append("a clean result stays as it is when it is merged again")
    if not back.conflicts and not back.incoming and not adds_up(triple, back.content.decode()):
        found.append("nothing is lost and nothing is back, the sides swapped")
    return found


def valid(language: str, text: str) -> bool:
    return parses(language, "".join(line + "\n" for line in decode(text.encode()).lines))  # type: ignore[arg-type]


def ambiguous(triple: Triple, result: MergeResult, again: MergeResult) -> bool:
    """Whether it is undecidable if ours already has the template's changes.

    By chance, the user added a line equal to one that the template removed. Then it may look as if that line is back.
    """
    if adds_up_in(line_things, triple, triple.ours, moves=False):
        return False
    if not result.notes:  # it was merged by lines
        return True
    counts = COUNTS.get(language_of(triple.path), (line_things,))
    if not any(adds_up_in(count, triple, triple.ours) for count in counts):
        return True
    return not again.conflicts and any(same_in(count, triple.ours, again.content.decode()) for count in counts)


def same_in(count: Callable[[str], Things], one: str, other: str) -> bool:
    try:
        return count(plain(one)) == count(plain(other))
    except (ValueError, SyntaxError, RecursionError, tokenize.TokenError):
        return False


def holds_both(triple: Triple, result: MergeResult) -> bool:
    """Whether a conflict shows everything that either side added, however lines were wrapped or indented."""
    text = "\n".join(part.decode() for part in (result.content, result.incoming or b""))
    there, words = bare(text), {*re.findall(r"\w+", text)}
    for side in (triple.ours, triple.theirs):
        known, old = bare(triple.base), {*re.findall(r"\w+", triple.base)}
        for line in side.split("\n"):
            code, sign, remark = line.partition("#")
            if bare(line) in known or re.match(r"\s*(import|from)\b|\s*\w+,?$", line):
                continue
            new = {*re.findall(r"\w+", line)} - old
            if words >= new and (new or triple.path.endswith(".toml") or "{" in line):
                continue  # a line, an array or a dictionary that both have changed
            if bare(code) not in there or (sign and bare(remark) not in there):
                return False
    return True


def bare(text: str) -> str:
    return re.sub(r"[^\w]", "", text)


def adds_up(triple: Triple, result: str) -> bool:
    """Whether everything that a side added or removed occurs as often as both changes say.

    It is enough if one way of counting agrees: lines are wrapped, statements are merged by lines, and words repeat by
    chance.
    """
    language = language_of(triple.path)
    counts = COUNTS.get(language, ())
    if language == "python" and any(tree_of(plain(text).split("\n")) is None for text in triple.texts):
        counts = (python_lines,)
    return any(adds_up_in(count, triple, result) for count in (*counts, line_things))


def adds_up_in(count: Callable[[str], Things], triple: Triple, result: str, moves: bool = True) -> bool:
    try:
        base, ours, theirs, merged = (count(plain(text)) for text in (*triple.texts, result))
    except (ValueError, SyntaxError, RecursionError, tokenize.TokenError):
        return False
    # If one side moved a line and the other removed it, both removed it and one added it.
    moved = Counter[str]()
    for side in (triple.ours, triple.theirs):
        gone, new = (
            (count(joined(lines)) for lines in unmatched(triple.base, side))
            if moves and count is line_things
            else ({}, {})
        )
        moved.update({thing: min(gone[thing], new[thing]) for thing in gone.keys() & new.keys()})
    for thing in base.keys() | ours.keys() | theirs.keys() | merged.keys():
        by_ours, by_theirs = ours[thing] - base[thing], theirs[thing] - base[thing]
        bounds = [by_ours + by_theirs]
        if by_ours * by_theirs > 0:
            bounds.append(max(by_ours, by_theirs, key=abs) if by_ours < 0 else max(by_ours, by_theirs))
        if thing.startswith("import "):
            wanted = min(base[thing], ours[thing], theirs[thing]) > 0 or max(by_ours, by_theirs) > 0
            if (merged[thing] > 0) != wanted and by_ours * by_theirs >= 0:  # one doubled what the other removed: either
                return False
        elif not base[thing] + min(bounds) <= merged[thing] <= base[thing] + max(bounds) + moved[thing]:
            return False
    return True


def unmatched(base: str, side: str) -> tuple[Lines, Lines]:
    """The lines of either text that a diff of the two removes or adds."""
    texts = plain(base).split("\n"), plain(side).split("\n")
    spans = changes(*texts)
    return [texts[0][i] for old, _ in spans for i in old], [texts[1][j] for _, new in spans for j in new]


def plain(text: str) -> str:
    """The text without layout differences; tabs mixed with spaces can make a correct text unparsable."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").expandtabs(4)


def line_things(text: str) -> Things:
    return Counter(re.sub(r"\s|,$", "", line) for line in text.split("\n") if re.search(r"\w", line))


def python_things(source: str) -> Things:
    """Statements as `ast.unparse` writes them, imported names, and comments."""
    tree = ast.parse(source)
    found: Things = Counter()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = "." * getattr(node, "level", 0) + (getattr(node, "module", "") or "")
            found.update(f"import {module} {item.name} {item.asname}" for item in node.names)
    lines = (line.strip() for line in ast.unparse(tree).split("\n"))
    found.update(line for line in lines if re.search(r"\w", line) and not re.match(r"(import|from) ", line))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and re.search(r"\w", token.string):
            found[re.sub(r"\s", "", token.string)] += 1
    return found


def python_words(source: str) -> Things:
    """Words outside imports, and imported names."""
    statements = python_things(source)
    words = Counter(
        word for line in statements.elements() if not line.startswith("import ") for word in re.findall(r"\w+", line)
    )
    return words + Counter({name: count for name, count in statements.items() if name.startswith("import ")})


def python_lines(source: str) -> Things:
    """Lines without imports, for a text that does not parse: its imports are merged by name, too."""
    return line_things(re.sub(r"(?m)^\s*(import|from)\b.*$", "", source))


def json_things(source: str) -> Things:
    return Counter(members(json.loads(source)))


def toml_things(source: str) -> Things:
    tomllib.loads(source)
    return Counter(re.findall(r"""[\w."'>=<~!,*/-]+""", source.replace(",", " ")))


COUNTS: dict[str, tuple[Callable[[str], Things], ...]] = {
    "python": (python_things, python_words),
    "json": (json_things,),
    "toml": (toml_things,),
}
"""What a text says, however it is laid out."""


def members(value: Any, path: str = "") -> Iterator[str]:
    """Each value with its path of keys; objects and arrays count in addition to their members, even if empty."""
    if isinstance(value, dict):
        yield f"{path} {{}}"
        for key, item in value.items():
            yield from members(item, f"{path}.{key}")
    elif isinstance(value, list):
        yield f"{path} []"
        for item in value:
            yield from members(item, f"{path}[]")
    else:
        yield f"{path} {value!r}"


# --- small counter-examples ----------------------------------------------------------------------------------------------


def minimized(triple: Triple, breaks: Callable[[Triple], bool], tries: int = 150) -> Triple:
    """A smaller triple that still breaks a law, found by leaving out lines and edits, with a limited number of tries."""
    language = language_of(triple.path)
    validity = [valid(language, text) for text in triple.texts]
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(triple):
            shorter = sum(map(len, candidate.texts)) < sum(map(len, triple.texts))
            if not shorter or [valid(language, text) for text in candidate.texts] != validity:
                continue
            tries -= 1
            if tries < 0:
                return triple
            if breaks(candidate):
                triple, smaller = candidate, True
                break
    return triple


def _smaller(triple: Triple) -> Iterator[Triple]:
    """Triples with a range of lines left out of all three texts, or with one change undone; largest first."""
    texts = [text.split("\n") for text in triple.texts]
    regions = merge3(*texts)
    parts = [[text[s.start : s.stop] for text, s in zip(texts, region[1:], strict=True)] for region in regions]
    same = [place for place, region in enumerate(regions) if region.kind == "same"]
    size = len(parts)
    while size:
        for start in range(0, len(parts), size):
            rest = parts[:start] + parts[start + size :]
            yield _joined(triple, rest)
        size //= 2
    for place, part in enumerate(parts):
        base, ours, theirs = part
        if place in same:
            for step in sorted({len(base) // 2, len(base) // 4, 1} - {0}, reverse=True):
                for at in range(0, len(base), step):
                    if step < len(base):
                        left = base[:at] + base[at + step :]
                        yield _joined(triple, [*parts[:place], [left, left, left], *parts[place + 1 :]])
            continue
        options = [[base, base, theirs], [base, ours, base]]
        options += [[base, ours[:at] + ours[at + 1 :], theirs] for at in range(len(ours))]
        options += [[base, ours, theirs[:at] + theirs[at + 1 :]] for at in range(len(theirs))]
        options += [[base[:at] + base[at + 1 :], ours, theirs] for at in range(len(base))]
        for option in options:
            if option != part:
                yield _joined(triple, [*parts[:place], option, *parts[place + 1 :]])


def _joined(triple: Triple, parts: list[list[Lines]]) -> Triple:
    base, ours, theirs = ("\n".join(line for part in parts for line in part[side]) for side in range(3))
    return Triple(triple.path, base, ours, theirs)


def written(triple: Triple, law: str) -> str:
    """A counter-example as a file of `FOLDER`."""
    texts = zip(("base", "ours", "theirs"), triple.texts, strict=True)
    body = "".join(f"{name} = {json.dumps(text.splitlines(keepends=True), indent=4)}\n" for name, text in texts)
    return f"law = {json.dumps(law)}\npath = {json.dumps(triple.path)}\n{body}"


def read(path: Path) -> Triple:
    """Read a counter-example."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return Triple(data["path"], *("".join(data[name]) for name in ("base", "ours", "theirs")))
