"""The user's formatter, read from the project or found by trying, so that formatting is not taken for a change.

black is imported only when a merge has failed: it takes longer to import than most upgrades take.
"""

import io
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from .pieces import source_of

Quotes = Literal["double", "single", "kept"]

_QUOTES: dict[str, Quotes] = {"double": "double", "single": "single"}
_GUESSED_QUOTES: tuple[Quotes, ...] = ("double", "single", "kept")
_USUAL = (88, 79, 100, 120, 80, 99, 110, 119, 72, 60)


class Style(NamedTuple):
    """What decides how black writes a file.

    Attributes:
        width: The line length.
        quotes: Which quotes strings get: "double", "single", or "kept" as they are.
        magic_comma: Whether a last comma keeps a list on several lines.
        preview: black's preview style.
    """

    width: int = 88
    quotes: Quotes = "double"
    magic_comma: bool = True
    preview: bool = False


def read_styles(project: Mapping[str, bytes]) -> tuple[Style, ...]:
    """The styles that a project's settings name: of black, then of ruff's formatter.

    Args:
        project: Path -> content of `pyproject.toml`, `ruff.toml` and `.ruff.toml`, those there are; broken ones count
            as missing.
    """
    tables = {path: _table(content) for path, content in project.items()}
    tool = tables.get("pyproject.toml", {}).get("tool", {})
    styles: list[Style] = []
    black = tool.get("black") if isinstance(tool, dict) else None
    if isinstance(black, dict):
        styles.append(
            Style(
                width=_width(black.get("line-length", 88)),
                quotes="kept" if black.get("skip-string-normalization", False) else "double",
                magic_comma=not black.get("skip-magic-trailing-comma", False),
                preview=bool(black.get("preview", False)),
            )
        )
    for ruff in (
        tool.get("ruff") if isinstance(tool, dict) else None,
        tables.get("ruff.toml"),
        tables.get(".ruff.toml"),
    ):
        if isinstance(ruff, dict):
            rules = ruff.get("format", {})
            rules = rules if isinstance(rules, dict) else {}
            styles.append(
                Style(
                    width=_width(rules.get("line-length", ruff.get("line-length", 88))),
                    quotes=_QUOTES.get(str(rules.get("quote-style", "double")), "kept"),
                    magic_comma=not rules.get("skip-magic-trailing-comma", False),
                )
            )
    return tuple(dict.fromkeys(styles))


def styles_of(ours: Sequence[str], known: Sequence[Style]) -> Iterator[Style]:
    """Styles worth trying on the template's side of a merge with `ours`, the surest first.

    First the style that gives `ours` back when it is formatted: the settings' own, else one found by its line length.
    A file that no formatter wrote gets the settings' style, with which changed lines may still match.
    """
    source = source_of(ours)
    if any(formatted(source, style) == source for style in known):
        yield from (style for style in known if formatted(source, style) == source)
        return
    longest = max((len(line) for line in ours), default=0)
    # Narrower ones than the longest line too: no formatter breaks a comment or a string.
    for width in sorted({*_USUAL, longest, longest + 1} - {0}, key=lambda width: (width < longest, _rank(width))):
        if formatted(source, Style(width, "kept")) == source:  # as it is in any style that keeps the file
            yield next(
                style for quotes in _GUESSED_QUOTES if formatted(source, style := Style(width, quotes)) == source
            )
            return
    yield from known or (Style(),)


def _rank(width: int) -> int:
    return _USUAL.index(width) if width in _USUAL else len(_USUAL)


@lru_cache(maxsize=128)
def formatted(source: str, style: Style) -> str | None:
    """`source` as black writes it in `style`; None where black cannot read it."""
    import black

    mode = black.Mode(
        line_length=style.width,
        string_normalization=style.quotes == "double",
        magic_trailing_comma=style.magic_comma,
        preview=style.preview,
    )
    try:
        text = black.format_str(source, mode=mode)
    except (ValueError, RecursionError, AssertionError):  # black's InvalidInput is a ValueError
        return None
    return single_quoted(text) if style.quotes == "single" else text


def format_lines(lines: Sequence[str], style: Style) -> tuple[str, ...] | None:
    """`lines` as black writes them in `style`; None where black cannot read them."""
    if not lines:
        return ()
    text = formatted(source_of(lines), style)
    return None if text is None else tuple(text.split("\n")[:-1])


def _table(content: bytes) -> dict[str, object]:
    try:
        return tomllib.loads(content.decode())
    except ValueError:
        return {}


def _width(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 1000 else 88


def single_quoted(source: str) -> str:
    """`source` with single quotes around every string that holds no quote and no backslash, as some formatters do."""
    lines = source.split("\n")
    starts: list[tuple[int, int]] = []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":  # from Python 3.12 on; before, an f-string is one token
            starts.append((token.end[0] - 1, token.end[1] - 1))
        ends = name == "STRING" or (name == "FSTRING_END" and starts)
        if not ends or token.end[0] != token.start[0]:
            continue
        row, last = token.end[0] - 1, token.end[1] - 1
        if name == "STRING":
            first = token.start[1] + token.string.find('"')
        else:
            start_row, first = starts.pop()
            if start_row != row:
                continue
        line = lines[row]
        inside = line[first + 1 : last]
        if line[first] == line[last] == '"' and first < last and not set(inside) & set("'\"\\"):
            lines[row] = f"{line[:first]}'{inside}'{line[last + 1 :]}"
    return "\n".join(lines)
