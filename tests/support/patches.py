"""Apply the diffs that the documentation shows: `python patches.py FILE < DIFF`, or `patched(text, diff)`."""

import re
import sys
from pathlib import Path


def bare(line: str) -> str:
    """The line without its trailing comment."""
    return re.sub(r"(?<=\S)  # .*$", "", line)


def patched(text: str, diff: str) -> str:
    """Return the text with every hunk applied.

    A line `@@` separates hunks. Each must match exactly one place, in the order of the file. Trailing comments are
    not compared, so a page need not repeat them.
    """
    lines, end = text.splitlines(), 0
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        edit = [line or " " for line in hunk.splitlines()]
        assert {line[0] for line in edit} <= set(" +-"), hunk
        old = [bare(line[1:]) for line in edit if line[0] != "+"]
        now = [bare(line) for line in lines]
        places = [start for start in range(len(lines)) if now[start : start + len(old)] == old]
        assert len(places) == 1, f"{len(places)} places are like\n{hunk}"
        start = at = places[0]
        assert start >= end, f"not in the order of the file:\n{hunk}"
        new = []
        for line in edit:
            if line[0] == "+":
                new.append(line[1:])
            else:
                new += [lines[at]] if line[0] == " " else []
                at += 1
        lines[start:at] = new
        end = start + len(new)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(patched(file.read_text(encoding="utf-8"), sys.stdin.read()), encoding="utf-8")
