"""The line diff and the three-way merge, against their definition and against `git merge-file`."""

import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sampled import examples

from paccel.merge.diff import changes, match
from paccel.merge.diff3 import Region, merge3, merge3_tight

WORDS = st.lists(st.sampled_from("abcdef"), max_size=25)


def merged(base: list[str], ours: list[str], theirs: list[str]) -> list[str] | None:
    """The merged lines, or None for a conflict."""
    lines: list[str] = []
    for region in merge3(base, ours, theirs):
        if region.kind == "conflict":
            return None
        side, span = (theirs, region.theirs) if region.kind == "theirs" else (ours, region.ours)
        lines += side[span.start : span.stop]
    return lines


@examples(200)
@given(WORDS, WORDS)
def test_a_match_pairs_equal_lines_in_rising_order(a: list[str], b: list[str]) -> None:
    pairs = match(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(pairs))


@examples(200)
@given(WORDS, WORDS)
def test_applying_the_changes_to_one_side_gives_the_other(a: list[str], b: list[str]) -> None:
    result, done = [], 0
    for in_a, in_b in changes(a, b):
        result += a[done : in_a.start] + b[in_b.start : in_b.stop]
        done = in_a.stop
    assert result + a[done:] == b


def test_a_sequence_without_anchors_is_matched_as_long_as_can_be() -> None:
    assert len(match(list("abcabba"), list("cbabac"))) == 4  # the example of Myers' paper


def test_a_file_of_many_unlike_lines_is_one_change_and_quick() -> None:
    a, b = ["x", "y"] * 1500, ["y", "z"] * 1500
    assert changes(a, b)


@pytest.mark.parametrize("merge", [merge3, merge3_tight])
@examples(200)
@given(base=WORDS, ours=WORDS, theirs=WORDS)
def test_the_regions_cover_all_three_sides_in_order(
    merge: Callable[..., list[Region]], base: list[str], ours: list[str], theirs: list[str]
) -> None:
    regions = merge(base, ours, theirs)
    for region in regions:
        texts = [text[span.start : span.stop] for text, span in zip((base, ours, theirs), region[1:], strict=True)]
        if region.kind == "same":
            assert texts[0] == texts[1] == texts[2]
        elif region.kind in {"ours", "theirs"}:
            assert texts[0] == texts[2 if region.kind == "ours" else 1]
        else:
            assert (texts[1] == texts[2]) == (region.kind == "both")
    for lines, name in ((base, "base"), (ours, "ours"), (theirs, "theirs")):
        spans = [getattr(region, name) for region in regions]
        assert [i for span in spans for i in span] == list(range(len(lines)))


@examples(100)
@given(WORDS, WORDS)
def test_one_side_unchanged_gives_the_other(base: list[str], side: list[str]) -> None:
    assert merged(base, side, base) == side
    assert merged(base, base, side) == side
    assert merged(base, side, side) == side


@examples(150)
@given(WORDS, WORDS, WORDS)
def test_swapping_the_sides_changes_nothing(base: list[str], ours: list[str], theirs: list[str]) -> None:
    assert merged(base, ours, theirs) == merged(base, theirs, ours)


def edited(base: list[str], edits: list[tuple[int, str]], mark: str) -> list[str]:
    """Edits that keep every line unique, so that the diff is unambiguous."""
    lines: list[list[str]] = [[line] for line in base]
    for number, (place, what) in enumerate(edits):
        place %= len(base)
        lines[place] = {
            "delete": [],
            "change": [f"{mark}{number} changed"],
            "insert": [*lines[place], f"{mark}{number} new"],
        }[what]
    return [line for group in lines for line in group]


EDITS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["delete", "change", "insert"])), max_size=4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@examples(120)
@given(st.integers(1, 14), EDITS, EDITS)
def test_git_merge_file_agrees_where_every_line_is_unique(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    our_edits: list[tuple[int, str]],
    their_edits: list[tuple[int, str]],
) -> None:
    base = [f"line {i}" for i in range(size)]
    ours, theirs = edited(base, our_edits, "o"), edited(base, their_edits, "t")
    folder: Path = tmp_path_factory.getbasetemp() / "oracle"
    folder.mkdir(exist_ok=True)
    for name, lines in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_text("".join(line + "\n" for line in lines))
    command = ["git", "merge-file", "-p", "--diff3", "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    lines = merged(base, ours, theirs)
    assert (lines is None) == (done.returncode != 0)
    if lines is not None:
        assert "".join(line + "\n" for line in lines) == done.stdout


def test_of_equal_lines_in_a_row_the_first_is_the_old_one() -> None:
    """Otherwise two sides with the same insertion would seem to collide."""
    assert match("axb", "axxb") == [(0, 0), (1, 1), (2, 3)]
    assert match("umx", "vmxwx") == [(1, 1), (2, 2)]
    assert match("vmxwx", "umx") == [(1, 1), (2, 2)]


def kinds(base: str, ours: str, theirs: str, shifted: Callable[[str, str], bool] = lambda a, b: False) -> list[str]:
    return [region.kind for region in merge3_tight(base, ours, theirs, shifted)]


def test_changes_that_only_touch_do_not_collide_in_a_tight_merge() -> None:
    assert [region.kind for region in merge3("abcd", "aXcd", "abYd")] == ["same", "conflict", "same"]
    assert kinds("abcd", "aXcd", "abYd") == ["same", "ours", "theirs", "same"]
    assert kinds("abcd", "aXcd", "abYcd") == ["same", "ours", "theirs", "same"]
    assert kinds("abcd", "aXcd", "aYbcd") == ["same", "theirs", "ours", "same"]


def test_changes_of_a_common_line_and_insertions_at_one_place_collide_in_a_tight_merge_too() -> None:
    assert kinds("abc", "aXc", "aYc") == ["same", "conflict", "same"]
    assert kinds("abc", "aXc", "aXc") == ["same", "both", "same"]
    assert kinds("abcd", "aXd", "abYd") == ["same", "conflict", "same"]
    assert kinds("ab", "aXb", "aYb") == ["same", "conflict", "same"]


def test_an_insertion_at_the_edge_of_a_deletion_or_of_a_shifted_line_collides() -> None:
    def shifted(one: str, other: str) -> bool:
        return one.lower() == other.lower()

    assert kinds("abc", "ac", "abXc") == ["same", "conflict", "same"]
    assert kinds("abcd", "aBcd", "abXcd") == ["same", "ours", "theirs", "same"]
    assert kinds("abcd", "aBcd", "abXcd", shifted) == ["same", "conflict", "same"]
    assert kinds("abcd", "aBQd", "abcXd", shifted) == ["same", "ours", "theirs", "same"]  # only `B` is shifted
