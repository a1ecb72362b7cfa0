"""Judge a tool's result for a merge case, by the state of the project afterwards."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from support.merge_cases import Case, Entry, Tree, changes

MARKERS = re.compile(rb"^<{7,} .*?^={7,}\r?$.*?^>{7,}", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Result:
    """What a tool left in the project.

    Attributes:
        files: Every file of the project, including the tool's own, but not git's.
        exit_code: Exit code of the upgrade.
        traceback: Whether it ended in a traceback.
        unmerged: Whether git's index has unmerged paths.
        own: Files and folders that belong to the tool.
    """

    files: Tree
    exit_code: int = 0
    traceback: bool = False
    unmerged: bool = False
    own: tuple[str, ...] = ()

    def is_own(self, path: str) -> bool:
        return any(path == own or path.startswith(own + "/") for own in self.own)


@dataclass(frozen=True)
class Verdict:
    """What a tool did with one case; `word` says it in one or two."""

    as_expected: bool
    reported: bool
    lost_edit: bool
    silently_wrong: bool
    needless_conflict: bool
    traceback: bool
    unparsable: bool
    rightly_merged: bool

    @property
    def word(self) -> str:
        bad = {
            "traceback": self.traceback,
            "LOST EDIT": self.lost_edit,
            "SILENTLY WRONG": self.silently_wrong,
            "UNPARSABLE": self.unparsable,
            "needless conflict": self.needless_conflict,
        }
        found = [word for word, holds in bad.items() if holds]
        if found:
            return ", ".join(found)
        return "merged" if self.rightly_merged else ("conflict" if self.reported else "as expected")


def judge(case: Case, result: Result) -> Verdict:
    """Compare the project as it is with what the case expects."""
    reported = result.exit_code != 0 or result.unmerged or any(map(_shows_conflict, result.files.items()))
    files = {path: entry for path, entry in result.files.items() if not result.is_own(path)}
    right = not reported and files in case.expected
    lost = _loses(case, result, reported)
    acceptable = right or (reported and case.outcome in {"conflict", "either"})
    both_there = not reported or not _lacks(case, case.theirs, result, every_line=True)
    return Verdict(
        as_expected=acceptable and not lost and both_there and not result.traceback,
        reported=reported,
        lost_edit=lost,
        silently_wrong=not reported and not right,
        needless_conflict=reported and case.outcome == "clean",
        traceback=result.traceback,
        unparsable=not _all_parse(files) and _all_parse(case.ours) and _all_parse(case.theirs),
        rightly_merged=right and case.outcome == "either",
    )


def _shows_conflict(item: tuple[str, Entry]) -> bool:
    path, entry = item
    return path.endswith((".rej", ".orig")) or MARKERS.search(entry.content) is not None


def _loses(case: Case, result: Result, reported: bool) -> bool:
    """Whether some edit of the user is neither in the result nor elsewhere in the project."""
    if _lacks(case, case.ours, result, every_line=reported):
        return True
    settled = changes(case.base, case.expected[0]) if case.expected else {}
    gone = [path for path, entry in changes(case.base, case.ours).items() if entry is None]
    return not reported and any(path in result.files and path not in settled for path in gone)


def _lacks(case: Case, side: Tree, result: Result, every_line: bool) -> bool:
    """Whether a line that a side added is missing; only lines of a right merge count, unless `every_line` is set."""
    there = {line for entry in result.files.values() for line in _lines(entry.content)}
    there |= {line[1:].strip() for line in there if line[:1] in {b"+", b"-"}}  # of .rej files
    wanted = [{line for entry in tree.values() for line in _lines(entry.content)} for tree in case.expected]
    for path, entry in changes(case.base, side).items():
        if entry is None:
            continue
        if b"\0" in entry.content:
            # A binary file can only be kept or replaced; the template still has its own version.
            if side is case.ours and not any(entry.content == other.content for other in result.files.values()):
                return True
            continue
        before = set(_lines(case.base[path].content)) if path in case.base else set()
        for line in _lines(entry.content):
            if line in before or line in there or not (every_line or all(line in tree for tree in wanted)):
                continue
            return True
    return False


def _lines(content: bytes) -> Iterator[bytes]:
    for line in content.split(b"\n"):
        bare = line.strip()
        if re.search(rb"\w", bare):
            yield bare


def _all_parse(files: Mapping[str, Entry]) -> bool:
    for path, entry in files.items():
        if (
            path.endswith(".py")
            and entry.kind != "link"
            and not MARKERS.search(entry.content)
            and not path.startswith("scratch")
        ):
            try:
                compile(entry.content, path, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                return False
    return True
