"""Merging one file: what is kept, what is a conflict, and what the rules may do."""

import re

import pytest

from paccel.merge.file import MergeResult, merge_file
from paccel.merge.markers import Labels, has_labelled_marker, has_markers, has_own_markers
from paccel.merge.restyle import Style, read_styles, single_quoted, styles_of
from paccel.merge.text import Text, decode, encode

LABELS = Labels("yours", "paccel 0.1.0 template", "paccel 0.2.0 template")


def merge(base: str, ours: str, theirs: str, path: str = "train.py") -> MergeResult:
    return merge_file(base.encode(), ours.encode(), theirs.encode(), path, LABELS)


def merged(base: str, ours: str, theirs: str, path: str = "train.py") -> str | None:
    result = merge(base, ours, theirs, path)
    return None if result.conflicts else result.content.decode()


def test_a_conflict_shows_all_three_texts_between_labelled_markers() -> None:
    result = merge("a = 1\n", "a = 2\n", "a = 3\n")
    assert result.conflicts == 1
    assert result.content.decode() == (
        "<<<<<<< yours\na = 2\n||||||| paccel 0.1.0 template\na = 1\n=======\na = 3\n>>>>>>> paccel 0.2.0 template\n"
    )
    assert has_markers(result.content)


def test_markers_are_longer_than_any_in_the_file() -> None:
    text = "<<<<<<< a text about git\n=======\n>>>>>>> it\n"
    result = merge(f"{text}x\n", f"{text}y\n", f"{text}z\n", "notes.md")
    assert "\n<<<<<<<< yours\ny\n|||||||| " in result.content.decode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<<<<<<< yours\na\n=======\nb\n>>>>>>> theirs\n", True),
        (b"<<<<<<< HEAD\r\na\r\n=======\r\nb\r\n>>>>>>> x\r\n", True),
        (b"Title\n=======\n", False),
        (b"<<<<<<< alone\n", False),
        (b">>>>>>> x\n=======\n<<<<<<< y\n", False),
    ],
)
def test_markers_count_only_as_a_whole(content: bytes, expected: bool) -> None:
    assert has_markers(content) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<<<<<<< yours\n", True),
        (b"a\r\n>>>>>>>>> new template\r\n", True),
        (b"||||||| old template\n", True),
        (b"<<<<<<< HEAD\n=======\n", False),
        (b"<<<<<< yours\n", False),
        (b"see <<<<<<< yours\n", False),
    ],
)
def test_a_single_marker_of_known_labels_is_found(content: bytes, expected: bool) -> None:
    assert has_labelled_marker(content, [f" {label}" for label in Labels()]) is expected


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a", b"a\r\nb\n", b"\xef\xbb\xbfa\n", b"caf\xe9\r\n", b"a\x0cb\rc\n", b"\xef\xbb\xbf"]
)
def test_a_text_gives_its_bytes_back(content: bytes) -> None:
    assert encode(decode(content)) == content


def test_line_ends_of_a_mixed_file_stay_as_they_are() -> None:
    ours = b"one\r\ntwo\nthree\r\nfour\nmine\n"
    result = merge_file(b"one\ntwo\nthree\nfour\n", ours, b"ONE\ntwo\nthree\nfour\n", "notes.txt")
    assert result.content == b"ONE\ntwo\nthree\r\nfour\nmine\n"


def test_the_template_may_change_the_line_ends_of_a_file_that_the_user_left() -> None:
    assert (
        merge_file(b"a\nb\nc\nd\n", b"a\nb\nc\nmine\n", b"A\r\nb\r\nc\r\nd\r\n", "run.bat").content
        == b"A\r\nb\r\nc\r\nmine\r\n"
    )


def test_without_a_base_every_difference_is_a_conflict() -> None:
    result = merge_file(None, b"same\nmine\n", b"same\ntheirs\n", "notes.txt", LABELS)
    assert result.conflicts == 1
    assert result.content.startswith(b"same\n<<<<<<< yours\nmine\n")


def test_a_text_that_shows_markers_is_merged_like_any_other() -> None:
    example = b"a\nb\nc\n<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> x\n"
    result = merge_file(b"a\nb\nc\n", example, b"A\nb\nc\n", "notes.txt")
    assert (result.content, result.conflicts) == (b"A" + example[1:], 0)


def test_markers_beside_an_example_are_longer_than_those_in_it() -> None:
    example = b"<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> x\n"
    result = merge_file(b"a\n", example, b"c\n", "notes.txt")
    assert result.content.startswith(b"<<<<<<<< yours\n" + example)


@pytest.mark.parametrize(
    ("content", "own"),
    [
        (b"<<<<<<< yours\na\n||||||| template 1\n=======\nb\n>>>>>>> template 2\n", True),
        (b"<<<<<<<< yours\r\na\r\n========\r\nb\r\n>>>>>>>> paccel 0.3.0 template\r\n", True),
        (b"<<<<<<< HEAD\n(text)\n<<<<<<< yours\na\n=======\nb\n>>>>>>> new template\n", True),
        (b"<<<<<<< HEAD\na\n=======\nb\n>>>>>>> branch\n", False),
        (b"<<<<<<< yours\na\n=======\nb\n>>>>>>> mine\n", False),
    ],
)
def test_markers_that_paccel_wrote_are_told_from_others(content: bytes, own: bool) -> None:
    assert has_markers(content)
    assert has_own_markers(content) is own


# --- imports -------------------------------------------------------------------------------------------------------


def test_imports_are_merged_as_sets_of_names() -> None:
    base = "from a import x\n\nprint(x)\n"
    assert (
        merged(base, base.replace("x\n\n", "x, y\n\n"), base.replace("x\n\n", "x, z\n\n"))
        == "from a import x, y, z\n\nprint(x)\n"
    )


def test_a_comment_on_an_import_survives() -> None:
    base = "import torch\n\nx = 1\n"
    result = merged(base, "import shutil\n" + base, "import sys\nimport torch  # 2.6 or later\n\nx = 1\n")
    assert result == "import shutil\nimport sys\nimport torch  # 2.6 or later\n\nx = 1\n"


def test_an_import_that_one_side_removed_stays_removed() -> None:
    base = "import a\nimport b\n\nx = 1\n"
    assert (
        merged(base, "import b\n\nx = 1\n", "import a\nimport b\nimport c\n\nx = 1\n")
        == "import b\nimport c\n\nx = 1\n"
    )


def test_two_imports_of_one_name_are_a_conflict() -> None:
    base = "import os\n\nx = 1\n"
    assert merged(base, "import os\nimport a as nn\n\nx = 1\n", "import os\nimport b as nn\n\nx = 1\n") is None


def test_an_import_that_both_added_elsewhere_stands_once() -> None:
    base = "import a\nimport m\nimport z\n\nx = 1\n"
    result = merged(
        base, base.replace("import a\n", "import a\nimport b\n"), base.replace("import m\n", "import m\nimport b\n")
    )
    assert result is not None
    assert result.count("import b\n") == 1


# --- rules and their limits -------------------------------------------------------------------------------------------


def test_words_of_one_statement_are_never_merged() -> None:
    base = "optimizer = SGD(parameters, lr=0.1)\n"
    assert merged(base, base.replace("0.1)", "0.1, momentum=0.9)"), base.replace("SGD", "AdamW")) is None


def test_a_line_put_below_a_deleted_one_is_a_conflict() -> None:
    assert merged("a = 1\nb = 2\nc = 3\n", "a = 1\nc = 3\n", "a = 1\nb = 2\nb2 = b\nc = 3\n") is None


def test_fields_without_defaults_do_not_commute() -> None:
    base = "class A:\n    a: int\n"
    assert merged(base, base + "    b: int\n", base + "    c: int = 3\n") is None


def test_equal_fields_of_both_sides_stand_once() -> None:
    base = "class A:\n    a: int = 0\n"
    ours, theirs = base + "    b: int = 1\n    c: int = 2\n", base + "    d: int = 3\n    b: int = 1\n"
    assert merged(base, ours, theirs) == base + "    b: int = 1\n    c: int = 2\n    d: int = 3\n"


def test_a_string_over_several_lines_is_not_reindented() -> None:
    base = 'def f():\n    a = """\n    text\n    """\n    return a\n'
    ours = 'def f():\n    if True:\n        a = """\n    text\n    """\n        return a\n'
    result = merged(base, ours, base.replace("return a", "return a + a"))
    assert result is None or '"""\n    text\n    """' in result


def test_dependencies_are_merged_by_name() -> None:
    base = 'dependencies = [\n    "a>=1",\n    "b>=1"\n]\n'
    ours = 'dependencies = [\n    "a>=1",\n    "b>=1",\n    "mine"\n]\n'
    theirs = 'dependencies = [\n    "a>=1",\n    "b>=2",\n    "new"\n]\n'
    assert merged(base, ours, theirs, "pyproject.toml") == (
        'dependencies = [\n    "a>=1",\n    "b>=2",\n    "mine",\n    "new"\n]\n'
    )
    assert merged(base, ours.replace("b>=1", "b==3"), theirs, "pyproject.toml") is None


def test_an_ignore_file_with_exceptions_is_a_list_not_a_set() -> None:
    assert merged("*.log\n", "*.log\n!keep.log\n", "*.log\ndata/\n", ".gitignore") is None


def test_json_is_merged_by_key() -> None:
    assert merged('{\n  "a": 1\n}\n', '{\n  "a": 1,\n  "b": 2\n}\n', '{\n  "a": 1,\n  "c": [3]\n}\n', "x.json") == (
        '{\n  "a": 1,\n  "b": 2,\n  "c": [3]\n}\n'
    )
    assert merged('{"a": 1}\n', '{"a": true}\n', '{"a": 2}\n', "x.json") is None


def test_keys_given_twice_are_a_conflict() -> None:
    base = "a: 1\nb: 2\nc: 3\nd: 4\n"
    assert merged(base, "new: 1\n" + base, base + "new: 2\n", "config.yaml") is None
    assert merged(base, "mine: 1\n" + base, base + "new: 2\n", "config.yaml") == "mine: 1\n" + base + "new: 2\n"


def test_a_broken_file_is_merged_by_lines() -> None:
    assert (
        merged("a = 1\nb = 2\nc = (\n", "a = 5\nb = 2\nc = (\n", "a = 1\nb = 2\nc = ()\n") == "a = 5\nb = 2\nc = ()\n"
    )


# --- formatters ---------------------------------------------------------------------------------------------------------


def test_settings_of_black_and_ruff_are_read() -> None:
    project = {
        "pyproject.toml": b'[tool.black]\nline-length = 100\nskip-string-normalization = true\n[tool.ruff]\nline-length = 99\n[tool.ruff.format]\nquote-style = "single"\n',
        "ruff.toml": b"line-length = 77\n",
    }
    assert read_styles(project) == (Style(100, "kept"), Style(99, "single"), Style(77))
    assert read_styles({"pyproject.toml": b"not toml ["}) == ()


def test_settings_of_black_may_be_spelled_with_underscores() -> None:
    settings = b'[tool.black]\nline_length = 100\n"--skip-magic-trailing-comma" = true\n'
    assert read_styles({"pyproject.toml": settings}) == (Style(100, magic_comma=False),)


def test_the_template_is_formatted_as_the_settings_say() -> None:
    """A call that fits into 100 columns, but not into black's 88."""
    call = "value = function(first_long_argument, second_long_argument, third_long_argument, fourth)\n"
    base, ours = "x = 1\n" + call + "y = 2\n", "x = 1\n" + call.replace("fourth", "mine ") + "y = 2\n"
    theirs = base.replace(
        call, "value = function(\n    first_long_argument, second_long_argument, third_long_argument, fourth\n)\n"
    )
    pyproject = {"pyproject.toml": b"[tool.black]\nline_length = 100\n"}
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), "train.py", LABELS, pyproject)
    assert (result.conflicts, result.content.decode()) == (0, ours)
    assert merge(base, ours, theirs).conflicts == 1


LONG = ("call(", '    "first argument", "second argument", 12345', ")")


def test_a_style_is_found_in_the_file() -> None:
    (style,) = styles_of(LONG, ())
    assert 46 <= style.width < 54
    assert styles_of(("x = 'a'",), ()) == (Style(79, "single"),)
    assert styles_of(('x = "a"', "y = 'a'"), ()) == (Style(79, "kept"),)
    assert styles_of(("x = 1  # " + 120 * "long", "y = [" + 80 * "1" + "]"), ()) == (Style(88),)


def test_the_settings_count_for_a_file_in_their_style_or_in_none() -> None:
    known = (Style(100), Style(120))
    assert styles_of(LONG, known) != known
    assert styles_of(("x = 1",), known) == known
    assert styles_of(("x=1",), known) == known
    assert styles_of(("x=1",), ()) == ()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('x = "a"\n', "x = 'a'\n"),
        ('x = f"{a}" + "it\'s" + r"b"\n', "x = f'{a}' + \"it's\" + r'b'\n"),
        ('"""Doc."""\nx = ("a", "b")\n', '"""Doc."""\nx = (\'a\', \'b\')\n'),
    ],
)
def test_strings_get_single_quotes_where_that_is_all(source: str, expected: str) -> None:
    assert single_quoted(source) == expected


def test_a_text_knows_its_ends() -> None:
    assert decode(b"a\r\nb") == Text(("a", "b"), (True, False), False, final_newline=False)


@pytest.mark.parametrize("after", ["epochs", "batch_size", "seed"])
def test_a_field_goes_between_fields_whose_comments_the_template_reworded(after: str) -> None:
    fields = {"epochs": "int = 8", "batch_size": "int = 64", "seed": "int = 0"}
    base, theirs = (
        "class Config:\n" + "".join(f"    {name}: {value}  # {word}\n" for name, value in fields.items())
        for word in ("old words", "new words")
    )
    ours, expected = (re.sub(rf"(    {after}: .*\n)", r"\1    mine: int = 3\n", text) for text in (base, theirs))
    assert merged(base, ours, theirs) == expected


def test_lines_that_the_user_only_indented_are_not_reworded_ones() -> None:
    base = "for x in xs:\n    a(x)\n    b(x)\n"
    ours = "with lock:\n    for x in xs:\n        a(x)\n        b(x)\n"
    theirs = "for x in xs:\n    a(x)\n    c(x)\n    b(x)\n"
    assert merged(base, ours, theirs) == "with lock:\n    for x in xs:\n        a(x)\n        c(x)\n        b(x)\n"
