"""The code cells of a notebook as one Python module, and edits of this module written back into the notebook's bytes."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..files.tree import File

_CODE = "-cells.py"
"""The suffix of the Python file that stands for a notebook's code; it exists only in memory."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_MAGIC = re.compile(r"^[ \t]*[%!?][^\n]*", re.MULTILINE)


class _Piece(NamedTuple):
    """A string with code in a notebook's JSON: its span, the module's line where it begins, and its value."""

    start: int
    end: int
    line: int
    value: str


class Cells(NamedTuple):
    """The code of a notebook.

    Attributes:
        text: The notebook's JSON.
        code: The module: all code cells, one after the other, with blank lines for magic commands.
        pieces: The strings in the JSON that make up the code.
    """

    text: str
    code: str
    pieces: tuple[_Piece, ...]

    def line_of(self, line: int) -> int:
        """The line of the notebook's JSON with a line of the module."""
        before = [piece for piece in self.pieces if piece.line <= line]
        return self.text.count("\n", 0, before[-1].start) + 1 if before else 1

    def with_code(self, code: str) -> bytes | None:
        """The notebook with other code; None if lines were added or removed."""
        old, new = self.code.split("\n"), code.split("\n")
        if len(old) != len(new):
            return None
        text = self.text
        for piece in reversed(self.pieces):
            first = piece.line - 1
            lines = piece.value.split("\n")
            for number in range(len(lines)):
                # The empty line after the last newline belongs to the next string.
                if lines[number] and old[first + number] != new[first + number]:
                    lines[number] = new[first + number]
            value = "\n".join(lines)
            if value != piece.value:
                raw = text[piece.start : piece.end]
                text = text[: piece.start] + json.dumps(value, ensure_ascii=raw.isascii()) + text[piece.end :]
        return text.encode()


class Code(NamedTuple):
    """A project's files, with an additional Python file for the code of each notebook.

    Attributes:
        files: All files.
        cells: Path of such a Python file -> the notebook's code.
    """

    files: dict[str, File]
    cells: dict[str, Cells]

    def real_path(self, path: str) -> str:
        """The path of a file on the disk: for the code of a notebook, the notebook's."""
        return path.removesuffix(_CODE) if path in self.cells else path

    def line(self, path: str, line: int) -> int:
        """The line of that file."""
        return self.cells[path].line_of(line) if path in self.cells else line

    def put_back(self, files: Mapping[str, File]) -> dict[str, File]:
        """The files of the disk, with changed code written back into the notebooks."""
        done = {path: file for path, file in files.items() if path not in self.cells}
        for path, cells in self.cells.items():
            if files[path] != self.files[path]:
                content = cells.with_code(files[path].content.decode())
                assert content is not None
                notebook = self.real_path(path)
                done[notebook] = done[notebook]._replace(content=content)
        return done


def with_code_of_notebooks(files: Mapping[str, File]) -> Code:
    """Add a Python file for the code of each notebook that can be read."""
    found = {f"{path}{_CODE}": read_cells(file) for path, file in files.items() if path.endswith(".ipynb")}
    cells = {path: one for path, one in found.items() if one is not None and path not in files}
    return Code({**files, **{path: File(one.code.encode()) for path, one in cells.items()}}, cells)


def read_cells(file: File) -> Cells | None:
    """Read the code of a notebook; None if the file is not valid nbformat 4."""
    try:
        text = file.content.decode()
        data = json.loads(text)
        kinds = [cell["cell_type"] for cell in data["cells"]]
        strings = list(_strings(text))
    except (ValueError, KeyError, TypeError, RecursionError, IndexError):
        return None
    pieces: list[_Piece] = []
    code: list[str] = []
    line = 1
    last: object = None
    for place, start, end in strings:
        is_source = place[:1] == ("cells",) and place[2:3] == ("source",) and len(place) in (3, 4)
        if not is_source or kinds[int(str(place[1]))] != "code":
            continue
        if last is not None and place[1] != last and not code[-1].endswith("\n"):
            code.append("\n")
            line += 1
        last = place[1]
        value = json.loads(text[start:end], strict=False)
        if code and not code[-1].endswith("\n"):
            return None  # one line is split over two strings
        pieces.append(_Piece(start, end, line, value))
        code.append(value)
        line += value.count("\n")
    module = _MAGIC.sub("", "".join(code))
    return Cells(text, module, tuple(pieces))


def _strings(text: str) -> Iterator[tuple[tuple[object, ...], int, int]]:
    """Yield each string value in a JSON text: the keys and indices that lead to it, and its span."""
    stack: list[list[object]] = []  # per open object or array: its bracket, and the key or index of the next value
    previous: tuple[int, int] | None = None
    for found in _TOKEN.finditer(text):
        sign = found[0]
        if sign in "{[":
            stack.append([sign, 0])
        elif sign in "}]":
            stack.pop()
        elif sign == "," and stack[-1][0] == "[":
            stack[-1][1] = int(str(stack[-1][1])) + 1
        elif sign == ":" and previous is not None:
            stack[-1][1] = json.loads(text[previous[0] : previous[1]], strict=False)
        elif sign[0] == '"':
            previous = (found.start(), found.end())
            ahead = _TOKEN.search(text, found.end())
            if ahead is None or ahead[0] != ":":
                yield tuple(one[1] for one in stack), found.start(), found.end()
