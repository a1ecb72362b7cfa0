"""Edits are told from changes that a checkout, an editor or a disk makes to every line or file."""

import pytest

from paccel.files.tree import File
from paccel.project.compare import as_generated, edits, modes_tell, same, spellings

PLAIN = b"a\nb\nc\n"
WINDOWS = b"a\r\nb\r\nc\r\n"
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("generated", "here", "is_same"),
    [
        (PLAIN, PLAIN, True),
        (PLAIN, WINDOWS, True),
        (WINDOWS, PLAIN, True),
        (PLAIN, BOM + PLAIN, True),
        (BOM + PLAIN, WINDOWS, True),
        (b"a\r\nb\nc\n", WINDOWS, True),
        (b"a\nb", b"a\r\nb", True),
        (b"", BOM, True),
        (PLAIN, b"a\nb\r\nc\n", False),
        (PLAIN, b"a\r\nb\r\nc", False),
        (PLAIN, b"a\r\nB\r\nc\r\n", False),
        (b"\0a\n", b"\0a\r\n", False),
    ],
)
def test_line_ends_and_a_byte_order_mark_throughout_are_no_edit(generated: bytes, here: bytes, is_same: bool) -> None:
    assert same(File(generated), File(here)) is is_same


def test_an_edit_is_shown_without_the_line_ends_of_the_checkout() -> None:
    (diff,) = edits(
        {"a.txt": File(PLAIN), "b.txt": File(PLAIN)},
        {"a.txt": File(BOM + WINDOWS.replace(b"b", b"B\r\nx", 1)), "b.txt": File(WINDOWS)},
    )
    assert [line for line in diff.text.splitlines() if line[:1] in "+-"][2:] == ["-b", "+B", "+x"]


def test_a_line_that_an_editor_ended_otherwise_is_no_edit_of_the_others() -> None:
    mixed = WINDOWS + b"mine\n"
    assert as_generated(File(PLAIN), File(mixed)).content == PLAIN + b"mine\n"
    assert as_generated(File(PLAIN), File(WINDOWS[:-2])).content == PLAIN[:-1]


def test_modes_tell_nothing_where_all_are_alike_and_several_wrong() -> None:
    base = {"a": File(b""), "b": File(b""), "run.sh": File(b"", True), "go.sh": File(b"", True)}
    all_on, all_off = ({path: File(b"", on) for path in base} for on in (True, False))
    assert not modes_tell(base, all_on)
    assert not modes_tell(base, all_off)
    assert modes_tell(base, base)
    assert modes_tell(base, base | {"a": File(b"", True)})
    assert modes_tell({"a": File(b"")}, {"a": File(b"", True)})
    assert [diff.status for diff in edits(base, all_on)] == ["mode", "mode"]
    assert edits(base, all_on, modes=False) == []


@pytest.mark.parametrize("here", [PLAIN, WINDOWS, BOM + PLAIN, BOM + WINDOWS])
def test_what_was_rendered_is_found_behind_each_spelling(here: bytes) -> None:
    assert {PLAIN, WINDOWS} <= {*spellings(here)}
    assert [*spellings(b"\0\r\n")] == [b"\0\r\n"]
