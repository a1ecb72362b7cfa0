"""TOML, INI, YAML, `.env` and makefiles read as mappings: keys, each with its lines.

A member keeps the comments above it and all lines that belong to it; a table or a nested mapping has members again.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from .languages import Language
from .logical_lines import logical_lines
from .pieces import Lines, indent_of, is_blank_or_comment

Key = tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """One member of a mapping.

    Attributes:
        lead: The blank lines and comments above it.
        lines: Its first line, and the lines that belong to it but not to an inner member.
        inner: Its inner members; None for a plain value.
        table: Whether it is a table, which extends to the next table.
    """

    lead: Lines
    lines: Lines
    inner: "Mapping[Key, Member] | None" = None
    table: bool = False

    def text(self) -> Iterator[str]:
        yield from (*self.lead, *self.lines)
        for member in (self.inner or {}).values():
            yield from member.text()

    def means(self, other: "Member") -> bool:
        """Whether both are the same apart from blank lines."""
        mine, theirs = ([line.rstrip() for line in one.text() if line.strip()] for one in (self, other))
        return mine == theirs


@dataclass
class MappingText:
    """The members of a text, and the blank lines after the last."""

    members: dict[Key, Member] = field(default_factory=dict)
    tail: Lines = ()


_Reader = Callable[[Lines], MappingText | None]

_COMMENTS = ("#", "")  # the key of comments at the end; no text has it


def _collect(chunks: Iterable[tuple[Key | None, Lines]]) -> MappingText | None:
    """Make members of chunks, each with its key; a chunk without one is blank or a comment, and belongs to the next."""
    found = MappingText()
    lead: list[str] = []
    for key, lines in chunks:
        if key is None:
            lead += lines
            continue
        if key in found.members:
            return None
        found.members[key] = Member(tuple(lead), lines)
        lead = []
    if any(line.strip() for line in lead):  # comments at the end are a member
        end = max(place for place, line in enumerate(lead) if line.strip()) + 1
        found.members[_COMMENTS] = Member((), tuple(lead[:end]))
        lead = lead[end:]
    found.tail = tuple(lead)
    return found


def _read_lines(
    lines: Lines, key_of: Callable[[str], Key | None], belongs: Callable[[str], bool], comments: str = "#"
) -> MappingText | None:
    """Read lines with a key, each with the lines below that belong to it; None if another line is neither.

    Args:
        key_of: The key of a line.
        belongs: Whether a line belongs to the member above it.
        comments: What a comment at the start of a line begins with.
    """
    found: list[tuple[Key | None, Lines]] = []
    waiting: list[str] = []
    for line in lines:
        if not line.strip() or line[0] in comments:
            waiting.append(line)
        elif found and belongs(line):
            key, before = found[-1]
            found[-1] = (key, (*before, *waiting, line))
            waiting = []
        else:
            key = key_of(line)
            if key is None:
                return None
            found += [(None, tuple(waiting)), (key, (line,))]
            waiting = []
    return _collect([*found, (None, tuple(waiting))])


def _with_tables(lines: Lines, head: Callable[[str], Key | None], read: _Reader) -> MappingText | None:
    """Read members, then tables of members; the comments right above a table belong to it."""
    heads = [(place, key) for place, line in enumerate(lines) if (key := head(line)) is not None]
    starts = []
    for place, _ in heads:
        while place and is_blank_or_comment(lines[place - 1]):
            place -= 1
        starts.append(place)
    found = read(lines[: starts[0]] if starts else lines)
    if found is None or (found.tail and starts):
        return None
    for (place, key), start, stop in zip(heads, starts, (*starts, len(lines))[1:], strict=True):
        inside = read(lines[place + 1 : stop])
        if inside is None or key in found.members:
            return None
        found.members[key] = Member(lines[start:place], lines[place : place + 1], inside.members, table=True)
        found.tail = inside.tail
    return found


_PART = r"""(?:[\w-]+|"[^"\\]*"|'[^']*')"""
_TOML_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_TOML_TABLE = re.compile(rf"\[\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]\s*(?:#.*)?")


def _parts(dotted: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _read_toml(lines: Lines) -> MappingText | None:
    spans = logical_lines("toml", lines)
    if spans is None:
        return None
    heads = {span.start for span in spans if _TOML_TABLE.fullmatch(lines[span.start])}

    def head(line: str) -> Key | None:
        found = _TOML_TABLE.fullmatch(line)
        return ("[", *_parts(found[1])) if found else None

    def keys(lines: Lines) -> MappingText | None:
        chunks: list[tuple[Key | None, Lines]] = []
        for span in logical_lines("toml", lines) or ():
            text = lines[span.start : span.stop]
            found = _TOML_KEY.match(text[0])  # `[[table]]` has none: its order matters
            if found is None and not is_blank_or_comment(text[0]):
                return None
            chunks.append((_parts(found[1]) if found else None, text))
        return _collect(chunks)

    inside_an_array = any(head(line) and place not in heads for place, line in enumerate(lines))
    return None if inside_an_array else _with_tables(lines, head, keys)


_INI_TABLE = re.compile(r"\[([^\]]+)\]\s*(?:[#;].*)?")
_INI_KEY = re.compile(r"([^\s\[#;=:][^=:]*?)\s*(?:[=:].*)?")


def _read_ini(lines: Lines) -> MappingText | None:
    def head(line: str) -> Key | None:
        found = _INI_TABLE.fullmatch(line)
        return ("[", found[1]) if found else None

    def key(line: str) -> Key | None:
        found = _INI_KEY.fullmatch(line)
        return (found[1].lower(),) if found else None

    def keys(lines: Lines) -> MappingText | None:
        return _read_lines(lines, key, lambda line: line[:1].isspace(), "#;")

    return _with_tables(lines, head, keys)


_ENV_KEY = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_]\w*)=(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^"'\s\\](?:[^\\]*[^\\\s])?)?\s*(?:#.*)?"""
)


def _read_env(lines: Lines) -> MappingText | None:
    def key(line: str) -> Key | None:
        found = _ENV_KEY.fullmatch(line)
        return (found[1],) if found else None

    return _read_lines(lines, key, lambda line: False)


_MAKE_VARIABLE = re.compile(r"(?:(?:export|override|set|alias)\s+)*([\w.-]+)\s*(?:[:?+!]{0,2}=)")
_MAKE_TARGET = re.compile(r"@?([\w./%$()-]+)(?:\s[^#]*?)?:(?!=)")


def _read_make(lines: Lines) -> MappingText | None:
    def key(line: str) -> Key | None:
        variable, target = _MAKE_VARIABLE.match(line), _MAKE_TARGET.match(line)
        if target and target[1] == ".PHONY" and len(lines) > 1:
            return (".PHONY", *line.split()[1:])  # may be repeated
        return ("=", variable[1]) if variable else (target[1],) if target else None

    if any(line.endswith("\\") and not line[:1].isspace() for line in lines):
        return None
    # An attribute of a recipe (`[private]` in a justfile) is treated as a comment above it.
    return _read_lines(lines, key, lambda line: line[:1].isspace(), "#[")


_YAML_KEY = re.compile(r"""\s*(?!-\s|\?\s)("[^"\\]*"|'[^']*'|[\w./$<-][^#:"'\[\]{}]*?(?::[^\s#:]+)*?)\s*:(?=\s|$)""")


def _read_yaml(lines: Lines) -> MappingText | None:
    indent = indent_of_first(lines)

    def key(line: str) -> Key | None:
        found = _YAML_KEY.match(line) if indent_of(line) == indent else None
        return (found[1].strip("\"'"),) if found else None

    def belongs(line: str) -> bool:
        deeper = indent_of(line) - indent
        return deeper > 0 or (deeper == 0 and re.match(r"\s*-(\s|$)", line) is not None)

    # A comment belongs to the member below it if both have the same indentation.
    bare = tuple(line.removeprefix(" " * indent) if line.lstrip().startswith("#") else line for line in lines)
    found = _read_lines(bare, key, belongs)
    if found is None:
        return None
    members = {}
    for name, member in found.members.items():
        lead = tuple(" " * indent + line if line.strip() else line for line in member.lead)
        own = tuple(" " * indent + line if line[:1] == "#" else line for line in member.lines)
        members[name] = replace(member, lead=lead, lines=own)
        nested = re.search(r":\s*(?:#.*)?$", own[0]) and len(own) > 1
        inside = _read_yaml(own[1:]) if nested and indent_of_first(own[1:]) > indent else None
        if inside is not None and not inside.tail:
            members[name] = Member(lead, own[:1], inside.members)
    return MappingText(members, found.tail)


def indent_of_first(lines: Lines) -> int:
    """The indentation of the first line that is not blank or a comment."""
    return indent_of(next((line for line in lines if not is_blank_or_comment(line)), ""))


def read_mapping(language: Language, lines: Lines) -> MappingText | None:
    """Read lines as members of a mapping; None if they are anything else, or a key is repeated."""
    return _READERS[language](lines)


_READERS: dict[Language, _Reader] = {
    "toml": _read_toml,
    "yaml": _read_yaml,
    "ini": _read_ini,
    "env": _read_env,
    "make": _read_make,
}
