"""Conflicts of lines with one element each, merged as sets: requirements, ignored files, strings of a TOML array."""

import json
import re
import tomllib
from collections.abc import Callable

from .keyed import merge_keyed
from .languages import requirement_key
from .pieces import Hunk, is_blank_or_comment, source_of


def union_requirements(hunk: Hunk) -> list[str] | None:
    """Merge requirements by package and marker."""
    return _union_lines(hunk, lambda line: requirement_key(line) or line.strip())


def union_ignored(hunk: Hunk) -> list[str] | None:
    """Merge the patterns of an ignore file; not with a `!` pattern, whose place matters."""
    if any(line.lstrip().startswith("!") for lines in hunk.sides.texts for line in lines):
        return None
    return _union_lines(hunk, str.strip)


_STRING = re.compile(r"""(?P<indent>\s*)(?P<body>"[^"\\]*"|'[^']*')\s*(?P<comma>,?)(?P<rest>\s*(#.*)?)""")


def union_strings(hunk: Hunk) -> list[str] | None:
    """Merge strings of a TOML array, one per line; requirements by package and marker."""
    elements = [line for lines in hunk.sides.texts for line in lines if not is_blank_or_comment(line)]
    if not elements or not all(map(_STRING.fullmatch, elements)):
        return None
    lines = _union_lines(hunk, _string_key)
    if lines is None:
        return None
    places = [place for place, line in enumerate(lines) if not is_blank_or_comment(line)]
    commas = [_string(line)["comma"] for line in hunk.sides.ours if not is_blank_or_comment(line)]
    for place in places:  # the last one keeps ours' choice of a trailing comma
        found = _string(lines[place])
        comma = "," if place != places[-1] or not commas or commas[-1] else ""
        lines[place] = found["indent"] + found["body"] + comma + found["rest"]
    return lines


def _union_lines(hunk: Hunk, key: Callable[[str], str]) -> list[str] | None:
    """Merge lines with one element each; None if an element is repeated, or both sides changed one differently."""
    read: list[dict[str, str]] = []
    for lines in hunk.sides.texts:
        elements = [line for line in lines if not is_blank_or_comment(line)]
        read.append({key(line): line for line in elements})
        if len(read[-1]) < len(elements):
            return None
    merged = merge_keyed(*read, same=lambda one, other: one.strip().rstrip(",") == other.strip().rstrip(","))
    if merged is None:
        return None
    _, ours, theirs = read
    kept = [line if is_blank_or_comment(line) else merged.get(key(line)) for line in hunk.sides.ours]
    known = {*hunk.sides.base, *hunk.sides.ours}
    comments = [line for line in hunk.sides.theirs if line.strip() and is_blank_or_comment(line) and line not in known]
    new = [merged[name] for name in theirs if name in merged and name not in ours]
    return [line for line in (*kept, *comments, *new) if line is not None]


def _string(line: str) -> re.Match[str]:
    found = _STRING.fullmatch(line)
    assert found, line
    return found


def _string_key(line: str) -> str:
    value = _string(line)["body"][1:-1]
    return requirement_key(value) or value


def union_array(hunk: Hunk) -> list[str] | None:
    """Merge TOML assignments of one array of requirements or names, such as `x = ["a", "b"]`."""
    arrays: list[dict[str, str]] = []
    names: set[str] = set()
    for lines in hunk.sides.texts:
        try:
            table = tomllib.loads(source_of(lines))
        except ValueError:
            return None
        (name, values), *more = table.items() or [("", None)]
        if more or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return None
        names.add(name)
        arrays.append({requirement_key(value) or "": value for value in values})
        if len(arrays[-1]) != len(values) or "" in arrays[-1]:
            return None
    merged = merge_keyed(*arrays) if len(names) == 1 else None
    if merged is None:
        return None
    strings = [json.dumps(value, ensure_ascii=False) for value in merged.values()]
    ours = hunk.sides.ours
    head = ours[0].partition("[")[0]
    line = f"{head}[{', '.join(strings)}]"
    if len(ours) == 1 and len(line) <= hunk.width:
        return [line]
    indent = next((found["indent"] for text in ours[1:] if (found := _STRING.fullmatch(text))), "    ")
    return [f"{head}[", *(f"{indent}{string}," for string in strings), "]"]


_REQUIREMENTS = re.compile(r"(install_requires|setup_requires|tests_require|deps|requires)\s*=.*")


def union_listed(hunk: Hunk) -> list[str] | None:
    """Merge requirements in an INI file, one per indented line, below a key that lists requirements."""
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
