"""Conflicts whose lines are members of mappings, merged by key: tables of TOML and INI, YAML, `.env`, targets of make.

Our members keep their order and layout; members that are new in theirs follow.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .keyed import MISSING, merge_keyed
from .languages import Language
from .lists import union_array
from .mapping_text import Key, MappingText, Member, indent_of_first, read_mapping
from .pieces import Hunk, Sides, indent_of, is_blank_or_comment


def union_members(hunk: Hunk) -> list[str] | None:
    """Merge members of mappings by key; None if both sides changed a value differently, or this is not a mapping."""
    language = hunk.sides.language
    for place, above in hunk.readings():
        base, ours, theirs = (read_mapping(language, lines) for lines in place.sides.texts)
        if base is None or ours is None or theirs is None or not _fits(place, (base, ours, theirs)):
            continue
        lines = _merged(language, base, ours, theirs)
        if lines is not None and tuple(lines[: len(above)]) == above:
            return [*lines, *above][len(above) :]
    return None


def _merged(language: Language, base: MappingText, ours: MappingText, theirs: MappingText) -> list[str] | None:
    if not ours.members or not theirs.members:
        return None
    merged = _merge(language, base.members, ours.members, theirs.members)
    if merged is None:
        return None
    # A key below a table would belong to the table.
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
    """Merge the value of one member if it is a set: an array of names, or the targets of `.PHONY`."""
    sides = Sides(language, base.lines, ours.lines, theirs.lines)
    lines = None
    if language == "toml":
        lines = union_array(Hunk(sides))
    elif language == "make" and all(len(text) == 1 and text[0].startswith(".PHONY:") for text in sides.texts):
        words = [dict.fromkeys(text[0].split()[1:], True) for text in sides.texts]
        names = merge_keyed(*words) or {}
        lines = [" ".join([".PHONY:", *names])]
    return MISSING if lines is None else replace(ours, lines=tuple(lines))


def _fits(hunk: Hunk, sides: Sequence[MappingText]) -> bool:
    """Whether members written at the hunk's place are read as these members there too."""
    below = next((line for line in hunk.below or () if not is_blank_or_comment(line)), None)
    if any(member.table for side in sides for member in side.members.values()):
        return hunk.below is not None and (below is None or below.startswith("["))
    if hunk.sides.language != "yaml":
        return below is None or hunk.sides.language == "toml" or not below[:1].isspace()
    depths = {indent_of_first(text) for text in hunk.sides.texts if any(not is_blank_or_comment(line) for line in text)}
    if len(depths) != 1 or hunk.above is None or hunk.below is None:  # no depth if all lines are comments
        return False
    depth = depths.pop()
    if below is not None and (indent_of(below) > depth or re.match(rf"\s{{{depth}}}-(\s|$)", below)):
        return False  # the line below would belong to the last member
    for line in reversed(hunk.above):
        indent = indent_of(line)
        if depth and not is_blank_or_comment(line) and indent < depth:
            if re.search(r"(:|-)\s+[|>][-+\d]*\s*(#.*)?$", line):
                return False  # a block scalar
            depth = indent
    return depth == 0
