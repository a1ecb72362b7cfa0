"""Conflicts whose lines are members of mappings, merged key by key: tables of TOML and INI, YAML, `.env`, targets of make.

A text is read as members, each with the comments above it and whatever belongs to it; a table or a nested mapping has
members of its own. Of three such texts each key is merged by itself. Our members keep their order and layout, those that
are new in the template's follow.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .languages import Language, logical_lines, requirement_key
from .pieces import Hunk, Lines, Sides
from .unions import MISSING, merge_keyed, union_array, union_requirements

Key = tuple[str, ...]


@dataclass(frozen=True)
class _Member:
    """One member of a mapping.

    Attributes:
        lead: The blank lines and comments above it.
        lines: Its first line, and those that belong to it and are no members of their own.
        inner: Its own members; None where it has a plain value.
        table: Whether it begins a table, to which everything up to the next one belongs.
    """

    lead: Lines
    lines: Lines
    inner: "Mapping[Key, _Member] | None" = None
    table: bool = False

    def text(self) -> Iterator[str]:
        yield from (*self.lead, *self.lines)
        for member in (self.inner or {}).values():
            yield from member.text()

    def means(self, other: "_Member") -> bool:
        """Whether both say the same, apart from blank lines."""
        mine, theirs = ([line.rstrip() for line in one.text() if line.strip()] for one in (self, other))
        return mine == theirs


@dataclass
class _Mapping:
    """Members, and the blank lines after the last."""

    members: dict[Key, _Member] = field(default_factory=dict)
    tail: Lines = ()


Reader = Callable[[Lines], _Mapping | None]


def union_members(hunk: Hunk) -> list[str] | None:
    """Merge members of mappings by key; None where both sides gave one key different values, or this is no mapping."""
    read = _READERS.get(hunk.sides.language)
    if read is None:
        return None
    for place, above in hunk.readings():
        sides = [read(lines) for lines in place.sides.texts]
        if any(side is None for side in sides) or not _in_place(place, [side for side in sides if side]):
            continue
        lines = _merged(hunk.sides.language, *(side for side in sides if side))
        if lines is not None and tuple(lines[: len(above)]) == above:
            return [*lines, *above][len(above) :]
    return None


def _merged(language: Language, base: _Mapping, ours: _Mapping, theirs: _Mapping) -> list[str] | None:
    if not ours.members or not theirs.members:
        return None
    merged = _merge(language, base.members, ours.members, theirs.members)
    if merged is None:
        return None
    # A key after a table would be the table's.
    ordered = sorted(merged.items(), key=lambda item: item[1].table)
    lines: list[str] = []
    for key, member in ordered:
        text = list(member.text())
        apart = key not in ours.members and lines and lines[-1].strip() and text[0].strip()
        if apart and (ours.tail or member.table):
            lines += ours.tail or ("",)
        lines += text
    return [*lines, *ours.tail]


def _merge(language: Language, *sides: Mapping[Key, _Member]) -> dict[Key, _Member] | None:
    def inside(base: Any, ours: Any, theirs: Any) -> Any:
        if ours is MISSING or theirs is MISSING:
            return MISSING
        if ours.inner is None or theirs.inner is None:
            return MISSING if base is MISSING else _merge_values(language, base, ours, theirs)
        if ours.lines != theirs.lines or (base is not MISSING and base.inner is None):
            return MISSING
        inner = _merge(language, {} if base is MISSING else base.inner, ours.inner, theirs.inner)
        return MISSING if inner is None else replace(ours, inner=inner)

    return merge_keyed(*sides, same=_Member.means, inside=inside)


def _merge_values(language: Language, base: _Member, ours: _Member, theirs: _Member) -> Any:
    """Merge what is a set within one member: names in an array, or those that a makefile calls phony."""
    sides = Sides(language, base.lines, ours.lines, theirs.lines)
    lines = None
    if language == "toml":
        lines = union_array(Hunk(sides))
    elif language == "make" and all(len(text) == 1 and text[0].startswith(".PHONY:") for text in sides.texts):
        words = [dict.fromkeys(text[0].split()[1:], True) for text in sides.texts]
        names = merge_keyed(*words) or {}
        lines = [" ".join([".PHONY:", *names])]
    return MISSING if lines is None else replace(ours, lines=tuple(lines))


def _in_place(hunk: Hunk, sides: Sequence[_Mapping]) -> bool:
    """Whether what is written at the hunk's place is read as these members there too."""
    below = next((line for line in hunk.below or () if not _passed_over(line)), None)
    if any(member.table for side in sides for member in side.members.values()):
        return hunk.below is not None and (below is None or below.startswith("["))
    if hunk.sides.language != "yaml":
        return below is None or hunk.sides.language == "toml" or not below[:1].isspace()
    depths = {_indent(text) for text in hunk.sides.texts if any(not _passed_over(line) for line in text)}
    if len(depths) != 1 or hunk.above is None or hunk.below is None:  # none where all are comments
        return False
    depth = depths.pop()
    if below is not None and (len(below) - len(below.lstrip()) > depth or re.match(rf"\s{{{depth}}}-(\s|$)", below)):
        return False  # it would belong to the last member
    for line in reversed(hunk.above):
        indent = len(line) - len(line.lstrip())
        if depth and not _passed_over(line) and indent < depth:
            if re.search(r"(:|-)\s+[|>][-+\d]*\s*(#.*)?$", line):
                return False  # a text of several lines
            depth = indent
    return depth == 0


def _passed_over(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _indent(lines: Lines) -> int:
    first = next((line for line in lines if not _passed_over(line)), "")
    return len(first) - len(first.lstrip())


# --- reading ---------------------------------------------------------------------------------------------------------


_COMMENTS = ("#", "")  # a key that no text has


def _collect(chunks: Iterator[tuple[Key | None, Lines]]) -> _Mapping | None:
    """Members from stretches of lines, each with its key; what has none is a comment or blank, and stands above the next."""
    found = _Mapping()
    lead: list[str] = []
    for key, lines in chunks:
        if key is None:
            lead += lines
            continue
        if key in found.members:
            return None
        found.members[key] = _Member(tuple(lead), lines)
        lead = []
    if any(line.strip() for line in lead):  # comments at the end are a member of their own
        end = max(place for place, line in enumerate(lead) if line.strip()) + 1
        found.members[_COMMENTS] = _Member((), tuple(lead[:end]))
        lead = lead[end:]
    found.tail = tuple(lead)
    return found


def _stretches(
    lines: Lines, key_of: Callable[[str], Key | None], belongs: Callable[[str], bool], comments: str = "#"
) -> Iterator[tuple[Key | None, Lines]] | None:
    """Each line that has a key, with those below that belong to it; None if a line is neither."""
    found: list[tuple[Key | None, Lines]] = []
    waiting: list[str] = []
    for line in lines:
        if not line.strip() or (line[:1] in comments and line[:1]):
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
    return iter([*found, (None, tuple(waiting))])


def _with_tables(lines: Lines, head: Callable[[str], Key | None], read: Reader) -> _Mapping | None:
    """Members, then tables that have members; the comments right above a table are its own."""
    heads = [(place, key) for place, line in enumerate(lines) if (key := head(line)) is not None]
    starts = []
    for place, _ in heads:
        while place and _passed_over(lines[place - 1]):
            place -= 1
        starts.append(place)
    found = read(lines[: starts[0]] if starts else lines)
    if found is None or (found.tail and starts):
        return None
    for (place, key), start, stop in zip(heads, starts, (*starts, len(lines))[1:], strict=True):
        inside = read(lines[place + 1 : stop])
        if inside is None or key in found.members:
            return None
        found.members[key] = _Member(lines[start:place], lines[place : place + 1], inside.members, table=True)
        found.tail = inside.tail
    return found


_PART = r"""(?:[\w-]+|"[^"\\]*"|'[^']*')"""
_TOML_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_TOML_TABLE = re.compile(rf"\[\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]\s*(?:#.*)?")


def _parts(dotted: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _read_toml(lines: Lines) -> _Mapping | None:
    spans = logical_lines("toml", lines)
    if spans is None:
        return None
    heads = {span.start for span in spans if _TOML_TABLE.fullmatch(lines[span.start])}

    def head(line: str) -> Key | None:
        found = _TOML_TABLE.fullmatch(line)
        return ("[", *_parts(found[1])) if found else None

    def keys(lines: Lines) -> _Mapping | None:
        chunks: list[tuple[Key | None, Lines]] = []
        for span in logical_lines("toml", lines) or ():
            text = lines[span.start : span.stop]
            found = _TOML_KEY.match(text[0])  # not of `[[table]]`: such a list has an order
            if found is None and not _passed_over(text[0]):
                return None
            chunks.append((_parts(found[1]) if found else None, text))
        return _collect(iter(chunks))

    inside_an_array = any(head(line) and place not in heads for place, line in enumerate(lines))
    return None if inside_an_array else _with_tables(lines, head, keys)


_INI_TABLE = re.compile(r"\[([^\]]+)\]\s*(?:[#;].*)?")
_INI_KEY = re.compile(r"([^\s\[#;=:][^=:]*?)\s*(?:[=:].*)?")


def _read_ini(lines: Lines) -> _Mapping | None:
    def head(line: str) -> Key | None:
        found = _INI_TABLE.fullmatch(line)
        return ("[", found[1]) if found else None

    def key(line: str) -> Key | None:
        found = _INI_KEY.fullmatch(line)
        return (found[1].lower(),) if found else None

    def keys(lines: Lines) -> _Mapping | None:
        chunks = _stretches(lines, key, lambda line: line[:1].isspace(), "#;")
        return None if chunks is None else _collect(chunks)

    return _with_tables(lines, head, keys)


_ENV_KEY = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_]\w*)=(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^"'\s\\](?:[^\\]*[^\\\s])?)?\s*(?:#.*)?"""
)


def _read_env(lines: Lines) -> _Mapping | None:
    def key(line: str) -> Key | None:
        found = _ENV_KEY.fullmatch(line)
        return (found[1],) if found else None

    chunks = _stretches(lines, key, lambda line: False)
    return None if chunks is None else _collect(chunks)


_MAKE_VARIABLE = re.compile(r"(?:(?:export|override|set|alias)\s+)*([\w.-]+)\s*(?:[:?+!]{0,2}=)")
_MAKE_TARGET = re.compile(r"@?([\w./%$()-]+)(?:\s[^#]*?)?:(?!=)")


def _read_make(lines: Lines) -> _Mapping | None:
    def key(line: str) -> Key | None:
        variable, target = _MAKE_VARIABLE.match(line), _MAKE_TARGET.match(line)
        if target and target[1] == ".PHONY" and len(lines) > 1:
            return (".PHONY", *line.split()[1:])  # as often as one likes
        return ("=", variable[1]) if variable else (target[1],) if target else None

    if any(line.endswith("\\") and not line[:1].isspace() for line in lines):
        return None
    # An attribute of a recipe (`[private]`, in a justfile) stands above it as a comment does.
    chunks = _stretches(lines, key, lambda line: line[:1].isspace(), "#[")
    return None if chunks is None else _collect(chunks)


_YAML_KEY = re.compile(r"""\s*(?!-\s|\?\s)("[^"\\]*"|'[^']*'|[\w./$<-][^#:"'\[\]{}]*?(?::[^\s#:]+)*?)\s*:(?=\s|$)""")


def _read_yaml(lines: Lines) -> _Mapping | None:
    indent = _indent(lines)

    def key(line: str) -> Key | None:
        found = _YAML_KEY.match(line) if len(line) - len(line.lstrip()) == indent else None
        return (found[1].strip("\"'"),) if found else None

    def belongs(line: str) -> bool:
        deeper = len(line) - len(line.lstrip()) - indent
        return deeper > 0 or (deeper == 0 and re.match(r"\s*-(\s|$)", line) is not None)

    # A comment stands above what it is about where it is indented alike.
    bare = tuple(line.removeprefix(" " * indent) if line.lstrip().startswith("#") else line for line in lines)
    chunks = _stretches(bare, key, belongs)
    found = None if chunks is None else _collect(chunks)
    if found is None:
        return None
    members = {}
    for name, member in found.members.items():
        lead = tuple(" " * indent + line if line.strip() else line for line in member.lead)
        own = tuple(" " * indent + line if line[:1] == "#" else line for line in member.lines)
        members[name] = replace(member, lead=lead, lines=own)
        nested = re.search(r":\s*(?:#.*)?$", own[0]) and len(own) > 1
        inside = _read_yaml(own[1:]) if nested and _indent(own[1:]) > indent else None
        if inside is not None and not inside.tail:
            members[name] = _Member(lead, own[:1], inside.members)
    return _Mapping(members, found.tail)


_READERS: dict[Language, Reader] = {
    "toml": _read_toml,
    "yaml": _read_yaml,
    "ini": _read_ini,
    "env": _read_env,
    "make": _read_make,
}


_REQUIREMENTS = re.compile(r"(install_requires|setup_requires|tests_require|deps|requires)\s*=.*")


def union_listed(hunk: Hunk) -> list[str] | None:
    """Merge requirements that an INI file lists, one on each indented line, under a key that holds requirements."""
    if not all(line[:1].isspace() for lines in hunk.sides.texts for line in lines if line.strip()):
        return None
    if not all(requirement_key(line.strip()) for lines in hunk.sides.texts for line in lines if line.strip()):
        return None
    above = reversed(hunk.above or ())
    key = next((line for line in above if line.strip() and not line[:1].isspace() and line[:1] not in "#;"), "")
    section = next((line for line in above if line.startswith("[")), "")
    if not _REQUIREMENTS.fullmatch(key) and section.strip() != "[options.extras_require]":
        return None
    return union_requirements(hunk)
