"""Judge what a tool made of a scenario, by what lies in the project afterwards."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from merge_base import Content, Result, State, state_of, whole
from merge_scenarios import Scenario

MARKERS = re.compile(rb"^<{7,} .*?^={7,}\r?$.*?^>{7,}", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """What a tool did with one scenario; `word` says it in one or two."""

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


def judge(scenario: Scenario, result: Result) -> Verdict:
    """Compare the project as it is with what the scenario asks for."""
    reported = result.exit_code != 0 or result.unmerged or any(map(_shows_conflict, result.files.items()))
    files = {path: state for path, state in result.files.items() if not result.is_own(path)}
    wanted = [_states(scenario, changes) for changes in (scenario.result, *scenario.also)]
    right = not reported and scenario.outcome != "conflict" and files in wanted
    lost = _loses(scenario, result, reported)
    acceptable = (
        right if scenario.outcome == "clean" else (reported and scenario.outcome in {"conflict", "either"}) or right
    )
    both_there = not reported or not _lacks(scenario, scenario.theirs, result, every_line=True)
    return Verdict(
        as_expected=acceptable and not lost and both_there and not result.traceback,
        reported=reported,
        lost_edit=lost,
        silently_wrong=not reported and not right,
        needless_conflict=reported and scenario.outcome == "clean",
        traceback=result.traceback,
        unparsable=not _all_parse(files)
        and all(_all_parse(_states(scenario, side)) for side in (scenario.ours, scenario.theirs)),
        rightly_merged=right and scenario.outcome == "either",
    )


def _states(scenario: Scenario, changes: Mapping[str, Content]) -> dict[str, State]:
    """Changes of the base as a whole tree."""
    return {path: state_of(content) for path, content in whole(scenario.base, changes).items()}


def _shows_conflict(item: tuple[str, State]) -> bool:
    path, state = item
    return path.endswith((".rej", ".orig")) or MARKERS.search(state.content) is not None


def _loses(scenario: Scenario, result: Result, reported: bool) -> bool:
    """Whether something that the user did is neither in the result nor to be found anywhere in the project."""
    if _lacks(scenario, scenario.ours, result, every_line=reported):
        return True
    gone = [path for path, content in scenario.ours.items() if content is None]
    return not reported and any(path in result.files and path not in scenario.result for path in gone)


def _lacks(scenario: Scenario, side: Mapping[str, Content], result: Result, every_line: bool) -> bool:
    """Whether a line that a side added is nowhere; only lines of a right merge count, unless `every_line` does."""
    base = _states(scenario, {})
    there = {line for state in result.files.values() for line in _lines(state.content)}
    there |= {line[1:].strip() for line in there if line[:1] in {b"+", b"-"}}  # of .rej files
    wanted = None
    if scenario.outcome != "conflict" and not every_line:
        wanted = [
            {line for state in _states(scenario, r).values() for line in _lines(state.content)}
            for r in (scenario.result, *scenario.also)
        ]
    for path, content in side.items():
        if content is None:
            continue
        state = state_of(content)
        if b"\0" in state.content:
            # A binary file can only be kept or replaced; the template's is not lost, it is in the template.
            if side is scenario.ours and not any(state.content == other.content for other in result.files.values()):
                return True
            continue
        before = set(_lines(base[path].content)) if path in base else set()
        for line in _lines(state.content):
            if line in before or line in there or (wanted is not None and not all(line in some for some in wanted)):
                continue
            return True
    return False


def _lines(content: bytes) -> Iterator[bytes]:
    for line in content.split(b"\n"):
        bare = line.strip()
        if re.search(rb"\w", bare):
            yield bare


def _all_parse(files: Mapping[str, State]) -> bool:
    for path, state in files.items():
        if (
            path.endswith(".py")
            and state.kind != "link"
            and not MARKERS.search(state.content)
            and not path.startswith("scratch")
        ):
            try:
                compile(state.content, path, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                return False
    return True
