"""JSON that both sides changed, in any layout and with comments: merged key by key in the user's text."""

import json

import pytest

from paccel.merge.file import merge_file
from paccel.merge.json_text import read

SETTINGS = """\
// for everyone
{
    // formatting
    "rulers": [120],
    "python": {
        "formatter": "black", // as CI does
        "tab": 4,
    },
    /* tests */
    "pytest": true
}
"""


def merged(base: str, ours: str, theirs: str, path: str = ".vscode/settings.json") -> str | None:
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), path)
    return None if result.conflicts else result.content.decode()


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ('{"a": 1}', '{"a": 1, "m": 2}', '{"a": 1, "t": 3}', '{"a": 1, "m": 2, "t": 3}'),
        ('{"a":1}', '{"a":1,"m":2}', '{"a":1,"t":[3,4]}', '{"a":1,"m":2,"t":[3,4]}'),
        ('{"a":  1}', '{"a":  1, "m": 2}', '{"a":  1, "t": 3}', '{"a":  1, "m": 2, "t": 3}'),
        ("{}", '{"m": 2}', '{"t": 3}', '{"m": 2, "t": 3}'),
        ("{}", "{\n\t\n}", '{\n  "t": {\n    "u": 3\n  }\n}', '{\n  "t": {\n    "u": 3\n  }\n}'),
        ('{"o": {"a": 1}}', '{"o": {"a": 1, "m": 2}}', '{"o": {"a": 1, "t": 3}}', '{"o": {"a": 1, "m": 2, "t": 3}}'),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2, "m": 3}', '{"b": 2}', '{"b": 2, "m": 3}'),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 5}', '{"a": 3, "b": 2}', '{"a": 3, "b": 5}'),
        ('{"ä": "é"}', '{"ä": "é", "m": "ü"}', '{"ä": "é", "t": "ö"}', '{"ä": "é", "m": "ü", "t": "ö"}'),
        (  # the template is indented differently
            '{\n  "a": 1\n}',
            '{\n    "a": 1,\n    "m": 2\n}',
            '{\n  "a": 1,\n  "t": {\n    "u": 3\n  }\n}',
            '{\n    "a": 1,\n    "m": 2,\n    "t": {\n        "u": 3\n    }\n}',
        ),
        (  # the user's file is on one line
            '{\n  "a": 1\n}',
            '{"a": 1, "m": 2}',
            '{\n  "a": 1,\n  "t": {\n    "u": 3\n  }\n}',
            '{"a": 1, "m": 2, "t": {"u": 3}}',
        ),
    ],
)
def test_both_sides_change_members_in_any_layout(base: str, ours: str, theirs: str, expected: str) -> None:
    assert merged(base + "\n", ours + "\n", theirs + "\n") == expected + "\n"


def test_comments_and_last_commas_stay_and_come_with_their_members() -> None:
    ours = SETTINGS.replace('"tab": 4,\n', '"tab": 4,\n        // mine\n        "m": 5, // why\n')
    theirs = SETTINGS.replace('"tab": 4,\n', '"tab": 4,\n        // the template\'s\n        "t": 6, // because\n')
    both = ours.replace("// why\n", '// why\n        // the template\'s\n        "t": 6, // because\n')
    assert merged(SETTINGS, ours, theirs) == both


def test_a_comma_goes_before_the_comment_of_what_was_last() -> None:
    ours = SETTINGS.replace('"pytest": true', '"pytest": true, // here\n    "m": 1 // mine')
    theirs = SETTINGS.replace('"pytest": true', '"pytest": true,\n    "t": 1')
    assert merged(SETTINGS, ours, theirs) == ours.replace("1 // mine", '1, // mine\n    "t": 1')


def test_a_member_that_the_template_removed_goes_with_its_comments() -> None:
    ours = SETTINGS.replace('"pytest": true', '"pytest": true,\n    "m": 1')
    theirs = SETTINGS.replace(',\n    /* tests */\n    "pytest": true', ',\n    "t": 1').replace("[120]", "[99]")
    result = merged(SETTINGS, ours, theirs)
    assert result == SETTINGS.replace("[120]", "[99]").replace('/* tests */\n    "pytest": true', '"m": 1,\n    "t": 1')


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('"tab": 2,', '"tab": 8,'),
        ('"tab": 4,\n        "n": 1,', '"tab": 4,\n        "n": 2,'),
        ("", '"tab": 8,'),
        ('"tab": 4, // mine', '"tab": 8, // the template\'s'),
    ],
)
def test_a_member_that_both_changed_is_a_conflict(ours: str, theirs: str) -> None:
    assert merged(SETTINGS, SETTINGS.replace('"tab": 4,', ours), SETTINGS.replace('"tab": 4,', theirs)) is None


def test_a_comment_is_never_lost() -> None:
    base, ours = '{"a": 1}\n', '{"a": 1, "m": 2}\n'
    assert merged(base, ours, '{"a": 1,\n // why\n "t": 3}\n') is None  # no place for it on one line
    removed = SETTINGS.replace('    /* tests */\n    "pytest": true\n', '    "t": 1\n')
    mine = SETTINGS.replace("/* tests */", "/* my tests */").replace("[120]", "[120, 140]")
    assert merged(SETTINGS, mine.replace("true\n", 'true,\n    "m": 1\n'), removed) is None


def test_two_plain_files_make_a_plain_one_and_two_with_comments_need_not() -> None:
    base = '{\n  "a": 1,\n\n  "b": 2,\n\n  "c": 3\n}\n'
    ours, theirs = base.replace('  "a": 1,\n', ""), base.replace(',\n\n  "c": 3', "")
    result = merged(base, ours, theirs)
    assert result is not None
    assert json.loads(result) == {"b": 2}
    twice = SETTINGS.replace('"tab": 4,', '"tab": 4,\n        "tab": 5,')
    assert read(SETTINGS) is not None
    assert read(twice) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2", "{,}", "[,]", '{"a" 1}', "{'a': 1}", '{"a": 1} 2', "/* open", "{1: 2}", "[" * 500]
)
def test_what_is_no_json_is_not_read(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize("text", ["1", '"a"', "[1, [2,],]", '{"a": {}, /* b */ "b": [],}', " null // end"])
def test_json_with_comments_and_last_commas_is_read(text: str) -> None:
    assert read(text) is not None
