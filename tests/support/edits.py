"""Typical edits of the default template's train.py, and the required outcome when a feature is turned on afterwards.

"clean" if the edit and the feature change different statements, "either" if merging by hand would need thought; written
before the first run.
"""

import ast
import re
from collections.abc import Callable
from functools import partial
from typing import Literal

import black

from paccel.merge.restyle import single_quoted

Edit = Callable[[str], str]


def replaced(old: str, new: str, source: str) -> str:
    assert old in source, old
    return source.replace(old, new)


def renamed(source: str) -> str:
    return re.sub(r"\bcompute_loss\b", "loss_of_batch", source)


def function(source: str, name: str) -> str:
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == name)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "".join(source.splitlines(keepends=True)[first - 1 : node.end_lineno])


def split(source: str) -> str:
    """The loss moves to its own file."""
    return replaced(function(source, "compute_loss"), "from losses import compute_loss\n", source)


def wrapped(head: str, tail: str, source: str) -> str:
    """The loop over epochs moves into a block of the user's."""
    lines = source.splitlines(keepends=True)
    (first,) = (i for i, line in enumerate(lines) if line.lstrip().startswith("for epoch in "))
    indent = len(lines[first]) - len(lines[first].lstrip())
    last = first + 1
    while last < len(lines) and (not lines[last].strip() or lines[last].startswith(" " * (indent + 1))):
        last += 1
    while not lines[last - 1].strip():
        last -= 1
    space = " " * indent
    after = "".join(f"{space}{line}\n" for line in tail.splitlines())
    inner = ["    " + line if line.strip() else line for line in lines[first:last]]
    return "".join([*lines[:first], f"{space}{head}\n", *inner, after, *lines[last:]])


def tabs(source: str) -> str:
    return re.sub(r"^(?: {4})+", lambda found: "\t" * (len(found[0]) // 4), source, flags=re.MULTILINE)


def argparse_config(source: str) -> str:
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Config")
    lines = source.splitlines(keepends=True)
    old = "".join(lines[min(d.lineno for d in node.decorator_list) - 1 : node.end_lineno])
    new = "parser = argparse.ArgumentParser()\nparser.add_argument('--epochs', type=int, default=20)\nConfig = parser.parse_args\n"
    return "import argparse\n" + replaced(old, new, source)


def narrow(source: str) -> str:
    return black.format_str(source, mode=black.Mode(line_length=79))


def uncommented(source: str) -> str:
    return "".join(line for line in source.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def ddp(source: str) -> str:
    call = re.findall(r"^.*run\.prepare\(.*\n", source, flags=re.MULTILINE)[0]
    space = call[: len(call) - len(call.lstrip())]
    return replaced(call, f"{space}model = SyncBatchNorm.convert_sync_batchnorm(model)\n{call}", source)


def reordered(source: str) -> str:
    """The loss moves below `evaluate`."""
    loss, evaluate = function(source, "compute_loss"), function(source, "evaluate")
    marked = replaced(loss, "@1", replaced(evaluate, "@2", source))
    return marked.replace("@1", evaluate).replace("@2", loss)


def same(source: str) -> str:
    return source


EDITS: dict[str, tuple[Edit, Literal["clean", "either"]]] = {
    "nothing": (same, "clean"),
    "a function renamed": (renamed, "clean"),
    "the loss in a file of its own": (split, "either"),
    "the loop in try and finally": (partial(wrapped, "try:", "finally:\n    print('over')"), "clean"),
    "the loop in a with": (partial(wrapped, "with profiler():", ""), "clean"),
    "tabs": (tabs, "either"),
    "argparse for Config": (argparse_config, "either"),
    "single quotes": (single_quoted, "clean"),
    "79 columns": (narrow, "clean"),
    "no comments": (uncommented, "either"),
    "lines before prepare": (ddp, "either"),
    "definitions reordered": (reordered, "clean"),
    "CRLF": (lambda source: source.replace("\n", "\r\n"), "clean"),
}
