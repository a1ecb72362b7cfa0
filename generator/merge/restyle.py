"""The views in which formatting does not count: base and theirs as the user's formatter writes them.

The user's style comes from the project's settings, or is detected in the user's file.
"""

import io
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Literal, NamedTuple, get_args

from .pieces import Lines, Sides, View, source_of

Quotes = Literal["double", "single", "kept"]

_QUOTES: dict[str, Quotes] = {"double": "double", "single": "single"}
_CODE = {tokenize.NAME, tokenize.NUMBER, tokenize.OP}
_USUAL_WIDTHS = (79, 88, 100, 120)

STYLES_TRIED = 4
"""How often black usually formats a file until its style is detected, or it is clear that it has none."""


class Style(NamedTuple):
    """The settings of black that a file is formatted with.

    Attributes:
        width: The line length.
        quotes: The quotes of strings: "double", "single", or "kept" as they are.
        magic_comma: Whether a trailing comma keeps a list on several lines.
        preview: Whether black's preview style is on.
    """

    width: int = 88
    quotes: Quotes = "double"
    magic_comma: bool = True
    preview: bool = False


def formatting_views(ours: Sequence[str], formatter_files: Mapping[str, bytes]) -> Iterator[View]:
    """Yield a view for each style that the user's file may have, the most likely first; files as for `read_styles`."""
    styles = styles_of(ours, read_styles(formatter_files))
    # Also without magic commas: a list that the template only wrapped over more lines is then no change.
    for style in (*styles, *(style._replace(magic_comma=False) for style in styles if style.magic_comma)):
        yield View("your formatting kept", partial(_restyled, style=style))


def _restyled(sides: Sides, style: Style) -> Sides | None:
    """Format base and theirs in a style; None if they are in it already, or not valid."""
    base, theirs = _format_lines(sides.base, style), _format_lines(sides.theirs, style)
    if base is None or theirs is None or (base, theirs) == (sides.base, sides.theirs):
        return None
    return sides._replace(base=base, theirs=theirs)


def read_styles(project: Mapping[str, bytes]) -> tuple[Style, ...]:
    """The styles in a project's settings: of black, then of ruff's formatter.

    Args:
        project: Path -> content of `pyproject.toml`, `ruff.toml` and `.ruff.toml`, where they exist; a broken file is
            ignored.
    """
    tables = {path: _table(content) for path, content in project.items()}
    tool = _subtable(tables.get("pyproject.toml", {}), "tool")
    styles: list[Style] = []
    if isinstance(tool.get("black"), dict):
        # The spellings that black accepts, and paccel's own formatter too.
        black = {name.removeprefix("--").replace("-", "_"): value for name, value in _subtable(tool, "black").items()}
        styles.append(
            Style(
                width=_width(black.get("line_length", 88)),
                quotes="kept" if black.get("skip_string_normalization", False) else "double",
                magic_comma=not black.get("skip_magic_trailing_comma", False),
                preview=bool(black.get("preview", False)),
            )
        )
    for ruff in (tool.get("ruff"), tables.get("ruff.toml"), tables.get(".ruff.toml")):
        if isinstance(ruff, dict):
            rules = _subtable(ruff, "format")
            styles.append(
                Style(
                    width=_width(rules.get("line-length", ruff.get("line-length", 88))),
                    quotes=_QUOTES.get(str(rules.get("quote-style", "double")), "kept"),
                    magic_comma=not rules.get("skip-magic-trailing-comma", False),
                )
            )
    return tuple(dict.fromkeys(styles))


def styles_of(ours: Sequence[str], known: Sequence[Style]) -> tuple[Style, ...]:
    """The styles that `ours` may have: those of the settings that it follows, else one detected in the file.

    A file that follows none, and shows none, gets all styles of the settings: its changed lines may still match.
    """
    source = source_of(ours)
    written = tuple(style for style in known if formatted(source, style) == source)
    if written:
        return written
    found = _found_in(source)
    return (found,) if found is not None else tuple(known)


def _found_in(source: str) -> Style | None:
    """The style that a formatter wrote a file in, with the smallest usual width; None if no formatter wrote it."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    # Without comments and strings, which no formatter wraps.
    longest = max((token.end[1] for token in tokens if token.type in _CODE), default=1)
    count = len(source.split("\n"))
    for width in (*(usual for usual in _USUAL_WIDTHS if usual >= longest), longest):
        text = formatted(source, Style(width, "kept"))
        if text == source:
            styles = (Style(width, quotes) for quotes in get_args(Quotes))  # the last keeps any quotes
            return next(style for style in styles if formatted(source, style) == source)
        if text is None or (width != longest and len(text.split("\n")) == count):
            return None  # more than line breaks differ
    return None


@lru_cache(maxsize=128)
def formatted(source: str, style: Style) -> str | None:
    """`source` formatted by black in `style`; None if black cannot parse it."""
    import black  # slow to import, and only some merges need it

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


def _format_lines(lines: Sequence[str], style: Style) -> Lines | None:
    """`lines` formatted by black in `style`; None if black cannot parse them."""
    if not lines:
        return ()
    text = formatted(source_of(lines), style)
    return None if text is None else tuple(text.split("\n")[:-1])


def _table(content: bytes) -> dict[str, object]:
    try:
        return tomllib.loads(content.decode())
    except ValueError:
        return {}


def _subtable(table: Mapping[str, object], name: str) -> dict[str, object]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _width(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 1000 else 88


def single_quoted(source: str) -> str:
    """`source` with single quotes around every string that has no quotes and no backslashes, as some formatters do."""
    lines = source.split("\n")
    starts: list[tuple[int, int]] = []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":  # since Python 3.12; before, an f-string is one token
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
