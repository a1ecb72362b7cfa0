"""The laws of a merge on random edits of real files, new ones every day, and on every merge that once broke a law."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import sampled
from support.merge_fuzz import FOLDER, Triple, broken_laws, drawn, files, merge, minimized, read, written

from paccel.merge import search
from paccel.merge.file import MergeResult
from paccel.merge.work import Work, fitting

KEPT = sorted(FOLDER.glob("*.toml"))
FILES = files()
COUNT = 400 if sampled.ALL else 40


def check(numbers: range) -> None:
    for number in numbers:
        triple = drawn(sampled.SEED * 1_000_000 + number, FILES)
        for law in broken_laws(triple):
            small = minimized(triple, lambda it, law=law: law in broken_laws(it))  # type: ignore[misc]
            pytest.fail(f"pair {number} of seed {sampled.SEED} breaks a law\n{written(small, law)}")


def test_no_law_is_broken_by_a_few_random_edits() -> None:
    check(range(2))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_law_is_broken_by_many_random_edits() -> None:
    check(range(2, COUNT))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in KEPT])
def test_no_law_is_broken_by_what_once_broke_one(path: Path) -> None:
    assert broken_laws(read(path)) == []


BASE = "import os\n\nx = 1\ny = 2\nz = 3\nw = 4\nprint(x, y, z, w, os)\n"
CLEAN = Triple("train.py", BASE, BASE.replace("x = 1", "x = 5"), BASE.replace("z = 3\n", "").replace("w = 4", "w = 6"))
COLLISION = Triple("train.py", BASE, BASE.replace("x = 1", "x = 5"), BASE.replace("x = 1", "x = 7"))


def without(line: bytes) -> Callable[[Triple], MergeResult]:
    def faulty(triple: Triple) -> MergeResult:
        result = merge(triple)
        return result._replace(content=result.content.replace(line, b""))

    return faulty


def again(line: bytes) -> Callable[[Triple], MergeResult]:
    def faulty(triple: Triple) -> MergeResult:
        result = merge(triple)
        return result if result.conflicts else result._replace(content=result.content + line)

    return faulty


def torn(triple: Triple) -> MergeResult:
    raise RecursionError


@pytest.mark.parametrize(
    ("triple", "faulty", "law"),
    [
        (CLEAN, without(b"w = 6\n"), "nothing is lost and nothing is back"),
        (CLEAN, again(b"z = 3\n"), "nothing is lost and nothing is back"),
        (CLEAN, again(b"# x = 1"), "a clean result stays as it is when it is merged again"),
        (CLEAN, again(b"x = ("), "two valid sides give a valid result"),
        (CLEAN, without(b"w = 6\n"), "an unedited file becomes the template's"),
        (CLEAN, without(b"x = 5\n"), "a file that the template left stays the user's"),
        (COLLISION, without(b"x = 7\n"), "a conflict holds the text of both"),
        (CLEAN, torn, "no exception (RecursionError)"),
    ],
)
def test_a_merge_that_breaks_a_law_is_found(triple: Triple, faulty: Callable[[Triple], MergeResult], law: str) -> None:
    assert broken_laws(triple) == []
    assert law in broken_laws(triple, faulty)


def test_a_counter_example_is_made_small_and_read_again(tmp_path: Path) -> None:
    law = "nothing is lost and nothing is back"
    small = minimized(CLEAN, lambda triple: law in broken_laws(triple, without(b"w = 6\n")))
    assert small.theirs.count("\n") < 3
    assert "w = 6" in small.theirs
    path = tmp_path / "small.toml"
    path.write_text(written(small, law), encoding="utf-8")
    assert read(path) == small


@pytest.mark.slow
def test_edits_of_a_number_are_the_same_on_every_machine() -> None:
    assert drawn(7, FILES) == drawn(7, FILES)
    assert len({drawn(number, FILES) for number in range(20)}) == 20


# --- the limit on work -------------------------------------------------------------------------------------------------


def test_few_misfits_among_many_are_found_with_few_questions() -> None:
    asked: list[int] = []

    def fits(items: list[int]) -> bool:
        asked.append(len(items))
        return not {77, 300} & set(items)

    assert fitting(range(512), fits) == [item for item in range(512) if item not in {77, 300}]
    assert len(asked) < 50


def test_work_that_is_more_than_what_is_left_takes_all_of_it() -> None:
    work = Work(10)
    assert work.spend(4)
    assert not work.spend(7)
    assert not work.spend(1)


@pytest.mark.slow
def test_a_merge_of_many_conflicts_judges_few_results(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    real = search.refine

    def counted(sides: search.Sides, work: Work) -> list[search.Piece]:
        before = work.left
        pieces = real(sides, work)
        judged.append((before - work.left) / len(sides.ours))
        return pieces

    monkeypatch.setattr(search, "refine", counted)
    count = 150
    base = "".join(f"def f{i}():\n    a{i} = 1\n    b{i} = 2\n    return a{i} + b{i}\n\n\n" for i in range(count))
    ours, theirs = base, base
    for i in range(count):
        ours, theirs = ours.replace(f"a{i} = 1", f"a{i} = 5"), theirs.replace(f"b{i} = 2", f"b{i} = 6")
    result = merge(Triple("train.py", base, ours, theirs))
    assert result.conflicts == 0
    assert judged == [2.0]  # one result, checked as resolved for each side; one rule at a time would be 150
