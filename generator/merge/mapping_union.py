"""Conflicts whose lines are members of mappings, merged key by key: tables of TOML and INI, YAML, `.env`, targets of make.

Our members keep their order and layout, those that are new in the template's follow.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .keyed import MISSING, merge_keyed
from .languages import Language
from .lists import union_array
from .mapping_text import READERS, Key, MappingText, Member, indent_of_first, is_blank_or_comment
from .pieces import Hunk, Sides


def union_members(hunk: Hunk) -> list[str] | None:
    """Merge members of mappings by key; None where both sides gave one key different values, or this is no mapping."""
    read = READERS.get(hunk.sides.language)
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


def _merged(language: Language, base: MappingText, ours: MappingText, theirs: MappingText) -> list[str] | None:
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


def _merge(language: Language, *sides: Mapping[Key, Member]) -> dict[Key, Member] | None:
    def inside(base: Any, ours: Any, theirs: Any) -> Any:
        if ours is MISSING or theirs is MISSING:
            return MISSING
        if ours.inner is None or theirs.inner is None:
            return MISSING if base is MISSING else _merge_values(language, base, ours, theirs)
        if ours.lines != theirs.lines or (base is not MISSING and base.inner is None):
            return MISSING
        inner = _merge(language, {} if base is MISSING else base.inner, ours.inner, theirs.inner)
        return MISSING if inner is None else replace(ours, inner=inner)

    return merge_keyed(*sides, same=Member.means, inside=inside)


def _merge_values(language: Language, base: Member, ours: Member, theirs: Member) -> Any:
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


def _in_place(hunk: Hunk, sides: Sequence[MappingText]) -> bool:
    """Whether what is written at the hunk's place is read as these members there too."""
    below = next((line for line in hunk.below or () if not is_blank_or_comment(line)), None)
    if any(member.table for side in sides for member in side.members.values()):
        return hunk.below is not None and (below is None or below.startswith("["))
    if hunk.sides.language != "yaml":
        return below is None or hunk.sides.language == "toml" or not below[:1].isspace()
    depths = {indent_of_first(text) for text in hunk.sides.texts if any(not is_blank_or_comment(line) for line in text)}
    if len(depths) != 1 or hunk.above is None or hunk.below is None:  # none where all are comments
        return False
    depth = depths.pop()
    if below is not None and (len(below) - len(below.lstrip()) > depth or re.match(rf"\s{{{depth}}}-(\s|$)", below)):
        return False  # it would belong to the last member
    for line in reversed(hunk.above):
        indent = len(line) - len(line.lstrip())
        if depth and not is_blank_or_comment(line) and indent < depth:
            if re.search(r"(:|-)\s+[|>][-+\d]*\s*(#.*)?$", line):
                return False  # a text of several lines
            depth = indent
    return depth == 0
