"""The views in which formatting does not count: the template's side as the user's formatter writes it.

The user's style is read from the project's settings, or found in the user's file.
"""

import io
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Literal, NamedTuple

from .pieces import Lines, Sides, View, source_of

Quotes = Literal["double", "single", "kept"]

_QUOTES: dict[str, Quotes] = {"double": "double", "single": "single"}
_FOUND_QUOTES: tuple[Quotes, ...] = ("double", "single", "kept")
_CODE = {tokenize.NAME, tokenize.NUMBER, tokenize.OP}
_USUAL_WIDTHS = (79, 88, 100, 120)

STYLES_TRIED = 4
"""How often black writes a file until its style is found, or it is clear that it has none; more is rare."""


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


def formatting_views(ours: Sequence[str], formatter_files: Mapping[str, bytes]) -> Iterator[View]:
    """Views of the template's texts in the user's style, the most likely first; see `read_styles` for the files."""
    styles = styles_of(ours, read_styles(formatter_files))
    # Without the last comma's say too: a list that the template only wrapped over more lines is no change then.
    for style in (*styles, *(style._replace(magic_comma=False) for style in styles if style.magic_comma)):
        yield View("your formatting kept", partial(restyled, style=style))


def restyled(sides: Sides, style: Style) -> Sides | None:
    """The sides with base and theirs in a style; None where they are already, or are not valid."""
    base, theirs = format_lines(sides.base, style), format_lines(sides.theirs, style)
    if base is None or theirs is None or (base, theirs) == (sides.base, sides.theirs):
        return None
    return sides._replace(base=base, theirs=theirs)


def read_styles(project: Mapping[str, bytes]) -> tuple[Style, ...]:
    """The styles that a project's settings name: of black, then of ruff's formatter.

    Args:
        project: Path -> content of `pyproject.toml`, `ruff.toml` and `.ruff.toml`, where they exist; broken ones are
            passed over.
    """
    tables = {path: _table(content) for path, content in project.items()}
    tool = _subtable(tables.get("pyproject.toml", {}), "tool")
    styles: list[Style] = []
    if isinstance(tool.get("black"), dict):
        # As black itself reads them, and the formatter of a render does.
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
    """The styles in which `ours` may be written: those of the settings in which it is, else one found in the file itself.

    A file that no formatter wrote has the style of the settings: changed lines may still match in it.
    """
    source = source_of(ours)
    written = tuple(style for style in known if formatted(source, style) == source)
    if written:
        return written
    found = _found_in(source)
    return (found,) if found is not None else tuple(known)


def _found_in(source: str) -> Style | None:
    """The style in which a formatter wrote a file, in the narrowest usual width; None if no formatter wrote it."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    # No formatter breaks a comment or a string.
    longest = max((token.end[1] for token in tokens if token.type in _CODE), default=1)
    count = len(source.split("\n"))
    for width in (*(usual for usual in _USUAL_WIDTHS if usual >= longest), longest):
        text = formatted(source, Style(width, "kept"))
        if text == source:  # as it is in any style that keeps the file
            styles = [Style(width, quotes) for quotes in _FOUND_QUOTES]
            return next(style for style in styles if formatted(source, style) == source)
        if text is None or (width != longest and len(text.split("\n")) == count):
            return None  # it differs in more than where lines are broken
    return None


@lru_cache(maxsize=128)
def formatted(source: str, style: Style) -> str | None:
    """`source` as black writes it in `style`; None where black cannot read it."""
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


def format_lines(lines: Sequence[str], style: Style) -> Lines | None:
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


def _subtable(table: Mapping[str, object], name: str) -> dict[str, object]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


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
