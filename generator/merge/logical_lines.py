"""Logical lines: a statement over several lines is one, and a merge does not look into it."""

import io
import re
import tokenize
from collections.abc import Sequence

from .languages import Language
from .pieces import source_of


def logical_lines(language: Language, lines: Sequence[str]) -> list[range] | None:
    """The logical lines of a text, as ranges that cover all its lines; None if they cannot be found.

    Each blank line and each line with only a comment is one too.
    """
    if language == "python":
        return _python_lines(lines)
    if language == "toml":
        return _toml_lines(lines)
    if language in {"yaml", "requirements", "ignore", "commands", "ini", "env", "make"}:
        return _continued_lines(lines)
    return None


def _python_lines(lines: Sequence[str]) -> list[range] | None:
    spans: list[range] = []
    begin: int | None = None
    no_begin = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source_of(lines)).readline):
            if token.type == tokenize.NEWLINE and begin is not None:
                spans.append(range(begin, token.end[0]))
                begin = None
            elif begin is None and token.type not in no_begin:
                begin = token.start[0] - 1
    except (tokenize.TokenError, SyntaxError):
        return None
    return _covered(spans, len(lines)) if begin is None else None


def _toml_lines(lines: Sequence[str]) -> list[range] | None:
    spans: list[range] = []
    depth = begin = 0
    for number, line in enumerate(lines):
        if '"""' in line or "'''" in line:
            return None
        bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line).partition("#")[0]
        if depth == 0:
            begin = number
            if bare.lstrip().startswith("["):  # a table header closes on its line
                continue
        depth += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
        if depth == 0 and number > begin:
            spans.append(range(begin, number + 1))
    return _covered(spans, len(lines)) if depth == 0 else None


def _continued_lines(lines: Sequence[str]) -> list[range]:
    spans: list[range] = []
    begin = 0
    for number, line in enumerate(lines):
        if not line.endswith("\\"):
            spans.append(range(begin, number + 1))
            begin = number + 1
    return _covered(spans, len(lines))


def _covered(spans: list[range], count: int) -> list[range]:
    """Fill the gaps between the spans with a range for each line."""
    covered: list[range] = []
    done = 0
    for span in [*spans, range(count, count)]:
        covered += [range(i, i + 1) for i in range(done, span.start)]
        if span:
            covered.append(span)
        done = max(done, span.stop)
    return covered
