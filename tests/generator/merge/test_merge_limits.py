"""The limits of each rule of a merge; without these tests, removing one of the limits would go unnoticed."""

import pytest

from paccel.merge import rules, search
from paccel.merge.definitions import union_definitions
from paccel.merge.file import merge_file
from paccel.merge.lists import union_ignored, union_requirements
from paccel.merge.pieces import Hunk, Lines, Piece, Sides, View
from paccel.merge.reindent import reindented
from paccel.merge.reorder import reordered
from paccel.merge.work import Work


def merged(base: str, ours: str, theirs: str, path: str = "train.py") -> str | None:
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), path)
    return None if result.conflicts else result.content.decode()


STEP = "import a\n\na.start()\na.step()\na.stop()\n"
IN_WITH = "import a\n\na.start()\nwith a.timer():\n    a.step()\na.stop()\n"
IMPORTS = ("import a\n\nx = 1\n", "import a\nimport b\n\nx = 1\n", "import a\nimport c\n\nx = 1\n")


def test_a_file_that_is_very_long_is_merged_by_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert merged(*IMPORTS) == "import a\nimport b\nimport c\n\nx = 1\n"
    monkeypatch.setattr(search, "MAX_LINES", 3)
    result = merge_file(*(text.encode() for text in IMPORTS), "train.py")
    assert (result.conflicts, result.notes) == (1, (search.BY_LINES_ONLY,))


def test_a_very_long_file_is_valid_after_its_merge_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_LINES", 3)
    base = "if x:\n    a()\n    # between\n    b()\ny = 1\nz = 1\n"
    ours = base.replace("    a()\n", "")
    theirs = base.replace("    b()\n", "").replace("z = 1", "z = 2")
    count, text = conflicts(base, ours, theirs)
    assert (count, text.endswith(">>>>>>> new template\ny = 1\nz = 2\n")) == (1, True)


def test_a_search_ends_with_its_work_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "Work", lambda: Work(1))
    result = merge_file(*(text.encode() for text in IMPORTS), "train.py")
    assert (result.conflicts, result.notes) == (1, (search.CUT_SHORT,))


def test_indentation_is_not_followed_in_a_file_that_does_not_parse() -> None:
    change = ("a.step()", "a.step(1)")
    assert merged(STEP, IN_WITH, STEP.replace(*change)) == IN_WITH.replace(*change)
    assert merged(STEP, IN_WITH + "x = = 1\n", STEP.replace(*change)) is None


def test_a_variant_that_lost_a_line_is_not_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(sides: Sides) -> Sides | None:
        found = reindented(sides)
        return found and found._replace(ours=tuple(line for line in found.ours if "mine" not in line))

    ours, theirs = IN_WITH.replace("a.start()\n", "a.start()\na.mine()\n"), STEP.replace("a.step()", "a.step(1)")
    assert merged(STEP, ours, theirs) == ours.replace("a.step()", "a.step(1)")
    monkeypatch.setattr(search, "VIEWS", ((View("changed indentation followed", lossy),),))
    result = merge_file(STEP.encode(), ours.encode(), theirs.encode(), "train.py")
    assert b"a.mine()" in result.content
    assert result.conflicts


def test_a_rule_that_loses_a_line_is_not_followed_and_what_is_valid_beside_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides = Sides("python", ("a = 1", "b = 1", "c = 1"), ("a = 2", "b = 1", "c = 2"), ("a = 1", "b = 3", "c = 3"))
    conflict = Piece(("b = 1", "c = 2"), ("b = 1", "c = 1"), ("b = 3", "c = 3"))
    wanted = [Piece(("a = 2",)), conflict]
    assert rules.refine(sides, Work()) == wanted
    monkeypatch.setattr(rules, "UNIONS", {"python": (lambda hunk: [],)})
    assert rules.refine(sides, Work()) == wanted


def test_a_conflict_shows_the_templates_lines_as_they_are() -> None:
    result = merge_file(b"if (a):\n    b()\n", b"if a_2:\n    b()\n", b"if (a_3):\n    b()\n", "train.py")
    assert result.conflicts == 1
    assert b"\nif (a_3):\n" in result.content


def test_a_line_at_the_edge_of_a_block_that_was_moved_is_a_conflict() -> None:
    base = "a = 1\nb = 2\nc = 3\n"
    assert merged(base, "a = 1\nif a:\n    b = 2\nc = 3\n", base.replace("b = 2\n", "b = 2\nb2 = b\n")) is None


def test_two_rewritten_functions_are_a_conflict_whatever_they_are_called() -> None:
    old = "def old():\n    return 0\n"
    assert merged(old, "def mine():\n    return 1\n", "def new():\n    return 2\n") is None


def test_two_functions_of_one_name_with_their_lines_in_another_order_are_a_conflict() -> None:
    one, other = "def f():\n    a()\n    b()\n", "def f():\n    b()\n    a()\n"
    assert merged("x = 1\n", "x = 1\n\n\n" + one, "x = 1\n\n\n" + other) is None


def test_a_block_that_holds_a_long_string_is_not_reindented() -> None:
    text = 'a()\nb = """\none\n"""\nc()\nd()\n'
    ours = 'a()\nif b:\n    b = """\none\n"""\n    c()\nd()\n'
    assert merged(text, ours, text.replace("c()", "c(1)")) is None


def test_a_line_that_would_stand_as_well_in_a_block_as_below_it_is_a_conflict() -> None:
    base = "a()\nb()\nc()\nd()\n"
    ours = "a()\nif x:\n    b()\n    c()\nd()\n"
    assert merged(base, ours, base.replace("c()\n", "c(1)\n")) == ours.replace("c()", "c(1)")
    assert merged(base, ours, base.replace("c()\n", "c()\nnew()\n")) is None


F, G, H = ("def f():\n    return 1\n", "def g():\n    return 2\n", "def h():\n    return 3\n")
ADDED = "def new():\n    return 4\n"


def module(*parts: str) -> str:
    return "\n\n".join(parts)


def test_a_new_function_follows_the_one_that_it_followed_wherever_the_user_put_that() -> None:
    changed = H.replace("3", "5")
    assert merged(module(F, G, H), module(H, F, G), module(F, ADDED, G, changed)) == module(changed, F, ADDED, G)


def test_statements_that_stand_twice_are_not_put_in_order() -> None:
    base, theirs = module(F, G, H, "f()\n", "f()\n"), module(F, G, H, "f()\n", "f()\n", "f()\n")
    sides = [tuple(text.split("\n")) for text in (base, module(H, F, G, "f()\n", "f()\n"), theirs)]
    assert reordered(Sides("python", *sides)) is None


def test_two_imports_of_one_name_are_a_conflict_in_a_file_that_does_not_parse_too() -> None:
    base = "import os\n\nx = (\n"
    assert (
        merged(base, base.replace("os\n", "os\nimport a as n\n"), base.replace("os\n", "os\nimport b as n\n")) is None
    )


def test_an_import_that_the_template_wrote_anew_is_taken_beside_names_of_both() -> None:
    base = "from a import x\nimport b\n\nx(b)\n"
    ours, theirs = (base.replace("import x\n", f"import x, {name}\n") for name in "yz")
    result = merged(base, ours, theirs.replace("import b\n", "import b  # pinned\n"))
    assert result == base.replace("import x\nimport b\n", "import x, y, z\nimport b  # pinned\n")


def test_one_requirement_in_two_spellings_is_one() -> None:
    base = "torch>=2\n"
    assert merged(base, base + "PyYAML_Tools>=6\n", base + "pyyaml-tools>=7\n", "requirements.txt") is None


def test_a_requirement_with_options_of_its_own_is_known_by_its_name() -> None:
    base, ours = "a==1 --hash=sha256:0\n", "a==2 --hash=sha256:1  # mine\n"
    assert merged(base, ours, base + "b\n", "requirements.txt") == ours + "b\n"
    assert merged(base, ours, base.replace("a==1", "a==3"), "requirements.txt") is None


def test_a_requirement_that_stands_twice_is_no_set() -> None:
    twice = ("a>=1", "a<2")
    assert union_requirements(Hunk(Sides("requirements", twice, (*twice, "b"), (*twice, "c")))) is None


def test_lines_of_an_ignore_file_are_told_apart_by_case() -> None:
    assert union_ignored(Hunk(Sides("ignore", (), ("Data",), ("data", "a-b")))) == ["Data", "data", "a-b"]


def test_an_array_whose_order_may_mean_something_is_no_set() -> None:
    def both(item: str) -> str | None:
        array = f'x = ["{item}"]\n'
        ours, theirs = (array.replace("]", f', "{item}{more}"]') for more in "12")
        return merged(array, ours, theirs, "pyproject.toml")

    assert both("name") == 'x = ["name", "name1", "name2"]\n'
    assert both("--flag") is None


def test_a_key_of_json_that_one_side_removes_goes_beside_one_that_the_other_adds() -> None:
    base = '{"a": 1, "b": 2}\n'
    more, less = '{"a": 1, "b": 2, "c": 3}\n', '{"b": 2}\n'
    assert merged(base, more, less, "x.json") == merged(base, less, more, "x.json") == '{"b": 2, "c": 3}\n'


def test_an_import_in_a_text_is_no_second_import() -> None:
    base = 'import a\nimport m\nimport z\n\nTEXT = """\nimport b\n"""\n'
    ours, theirs = (base.replace(f"import {at}\n", f"import {at}\nimport b\n") for at in "am")
    assert merged(base, ours, theirs) == ours


def test_insertions_are_told_apart_by_their_names_and_by_the_lines_above_both() -> None:
    a, b = ("def a():", "    pass"), ("def b():", "    pass")

    def both(ours: Lines, theirs: Lines, before: Lines = ()) -> list[str] | None:
        return union_definitions(Hunk(Sides("python", (), ours, theirs), before))

    assert both(a, b) == [*a, "", "", *b]
    assert both(a, (*b, *b)) is None
    assert both((*a, "@d"), (*b, "@d"), ("@d",)) == [*a, "", "", "@d", *b, "@d"]
    assert both((*a, "@d"), (*b, "x = ("), ("@d",)) is None


def test_a_text_that_both_made_of_a_binary_is_kept_and_the_templates_lies_beside() -> None:
    result = merge_file(b"\0", b"mine\n", b"new\n", "notes.txt")
    assert (result.content, result.conflicts, result.incoming) == (b"mine\n", 1, b"new\n")


def test_only_the_change_that_makes_a_merge_invalid_becomes_a_conflict() -> None:
    base = "def f():\n    return 1\n\n\nx = f()\ny = 1\nz = 1\nw = 1\n"
    ours = base.replace("y = 1\n", "y = f()\n")
    theirs = base.replace("def f():\n    return 1\n\n\nx = f()\n", "x = 1\n").replace("w = 1", "w = 2")
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), "train.py")
    assert result.conflicts == 1
    assert result.content.endswith(b"z = 1\nw = 2\n")


def test_a_call_that_the_template_only_wrapped_is_the_users() -> None:
    base, ours = "x = 1\nmodel = build(first, second)\n", "x = 1\nmodel = build(first, mine)\n"
    assert merged(base, ours, "x = 1\nmodel = build(\n    first,\n    second,\n)\n") == ours


def test_a_line_next_to_one_that_the_other_side_dropped_is_a_conflict() -> None:
    assert merged("a()\nb()\nc()\n", "a()\nc()\n", "a()\nb()\nnew()\nc()\n") is None


def test_a_comment_without_a_word_is_no_layout() -> None:
    assert merged("a = f(x)\n", "a = g(x)\n", "#: -----\na = g(x)\n") is None


def test_a_conflict_that_must_stay_leaves_others_to_their_rules() -> None:
    base, ours = "import a\n\nx = 1\nb = 1\n", "import a\nimport m\n\ny = 1\nb = 1\n"
    theirs = "import a\nimport n\n\nx = 1\nb = x\n"
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), "train.py")
    assert result.content.startswith(b"import a\nimport m\nimport n\n\n<<<<<<< ")
    assert result.conflicts == 1


def test_a_function_and_a_method_are_not_put_one_after_the_other() -> None:
    base = "class C:\n    def a(self):\n        pass\n"
    method, function = "\n    def b(self):\n        pass\n", "\ndef f():\n    pass\n"
    assert merged(base, base + function, base + method) is None


def test_an_import_that_stands_twice_on_purpose_stays_so() -> None:
    base = "import a\n\na.start()\nimport a\n\na.step()\na.stop()\n"
    ours, theirs = base.replace("start()", "start(1)"), base.replace("stop()", "stop(1)")
    assert merged(base, ours, theirs) == ours.replace("stop()", "stop(1)")


def test_a_comment_on_an_import_is_lost_with_the_import_only() -> None:
    base = "from a import x, y  # why\n\nx = 1\n"
    ours = base.replace("x, y  # why", "w, x, y  # why")
    assert merged(base, ours, base.replace("x, y  # why", "x  # why")) is None
    assert merged(base, ours, base.replace("x, y  # why", "x, y  # because")) is None
    assert merged(base, base.replace("why", "mine"), base.replace("why", "because")) is None


def test_an_import_that_both_wrapped_is_as_the_user_has_it() -> None:
    base = "from a import x, y\nimport c\n\nx = 1\n"
    ours = "from a import (\n    x,\n    y,\n)\nimport b\nimport c\n\nx = 1\n"
    theirs = "from a import x\\\n    , y\nimport c\nimport d\n\nx = 1\n"
    assert merged(base, ours, theirs) == ours.replace("import c\n", "import c\nimport d\n")


def test_one_requirement_for_two_systems_is_two() -> None:
    base, mine, new = "torch\n", 'tomli; python_version < "3.11"\n', 'tomli; sys_platform == "win32"\n'
    assert merged(base, base + mine, base + new, "requirements.txt") == base + mine + new


def test_an_array_may_hold_a_fragment_and_no_comment_is_lost() -> None:
    def both(rest: str) -> str | None:
        base, ours, theirs = (f'x = ["a @ git+https://host/a#egg=a"{more}]{rest}\n' for more in ("", ', "b"', ', "c"'))
        return merged(base, ours, theirs, "pyproject.toml")

    assert both("") == 'x = ["a @ git+https://host/a#egg=a", "b", "c"]\n'
    assert both("  # why") is None


def test_an_array_under_another_name_is_another_array() -> None:
    assert merged('dev = ["a"]\n', 'lint = ["a"]\n', 'dev = ["a", "b"]\n', "pyproject.toml") is None


def test_a_member_that_one_side_moved_to_another_class_is_not_gone() -> None:
    base = "class A:\n    x: int = 1\n    y: int = 1\n    z: int = 1\n\n\nprint(A.x)\na = 1\nb = 1\nc = 1\n"
    ours = base.replace("    x: int = 1\n", "").replace("print(A.x)", "print(A)")
    theirs = base.replace("c = 1\n", "class B:\n    x: int = 1\n\n\nprint(B.x)\n")
    assert merged(base, ours, theirs) == ours.replace("c = 1\n", "class B:\n    x: int = 1\n\n\nprint(B.x)\n")


def test_a_call_that_both_added_at_one_place_is_made_once() -> None:
    base = "def f():\n    a.step()\n    b = 1\n    c = 1\n    d = 1\n"
    added = base.replace("    c = 1\n", "    a.step()\n    c = 1\n")
    result = merged(base, added.replace("d = 1", "d = 2"), added.replace("def f", "x = 1\n\n\ndef f"))
    assert result == "x = 1\n\n\n" + added.replace("d = 1", "d = 2")


def test_a_key_that_both_added_to_json_is_a_conflict_where_lines_would_take_both() -> None:
    base = '{"a":  1,\n\n"b": 2,\n\n"c": 3}\n'
    ours, theirs = base.replace('"a":  1,\n', '"a":  1,\n"n": 1,\n'), base.replace('"b": 2,\n', '"b": 2,\n"n": 2,\n')
    assert merged(base, ours, theirs, "x.json") is None


def test_the_template_may_begin_to_mark_the_order_of_bytes() -> None:
    lines = b"a\nb\nc\n"
    assert merge_file(lines, b"A\nb\nc\n", b"\xef\xbb\xbf" + lines, "x.txt").content == b"\xef\xbb\xbfA\nb\nc\n"


def test_what_a_change_would_use_after_the_other_removed_it_is_a_conflict_in_a_block_that_moved_too() -> None:
    base = "f = e\ng = 1\nh(b)\n"
    assert merged(base, "g = 1\nh(b)\n", "f = e\ng = 1\nwith w(f):\n    h(b)\n") is None


def conflicts(base: str, ours: str, theirs: str) -> tuple[int, str]:
    result = merge_file(base.encode(), ours.encode(), theirs.encode(), "train.py")
    return result.conflicts, result.content.decode()


def test_one_change_that_cannot_stand_takes_no_other_with_it() -> None:
    base = "d = 1\nf(d)\n"
    count, text = conflicts(base, base + "c = 5\n", "c = 1\nd = 1\ng(d)\nf(d)\n")
    assert count == 1
    assert text.endswith(">>>>>>> new template\nd = 1\ng(d)\nf(d)\nc = 5\n")


def test_of_several_merges_the_one_that_leaves_the_least_is_shown() -> None:
    base = "import os\nh(d)\ndef f(a):\n    b = d\ndef g(a):\n        c = []\n"
    theirs = "def f(a):\n    b = d\nh(d)\nwith w(f):\n    b = d\ndef g(a):\n        c = []\n"
    assert conflicts(base, "h(d)\ndef f(a):\n    b = d\nimport os\n", theirs)[0] == 1


def test_the_templates_lines_in_a_conflict_have_tabs_where_the_users_have() -> None:
    base = "def f():\n    a()\n    b(1)\n"
    ours = base.replace("    ", "\t").replace("b(1)", "b(2)")
    count, text = conflicts(base, ours, base.replace("b(1)", "b(3)"))
    assert count == 1
    assert text.endswith(
        "\ta()\n<<<<<<< yours\n\tb(2)\n||||||| old template\n\tb(1)\n=======\n\tb(3)\n>>>>>>> new template\n"
    )


def test_no_tab_is_shown_to_whom_has_none() -> None:
    base, ours = "def g(a):\n        h(c)\n", "def f(a):\n        h(c)\ndef g(a):\n    a = f\n"
    count, text = conflicts(base, ours, "\n")
    assert (count, "\t" in text) == (1, False)


def test_what_stands_below_a_conflict_stands_as_well_when_it_is_resolved_for_the_user() -> None:
    base, ours = "e = h\ncall(f)\n", "def mine():\n    e = h\ncall(f)\n"
    theirs = "def new():\n        h(e)\ne = h\nwith w(h):\n    call(f)\n"
    count, text = conflicts(base, ours, theirs)
    assert (count, text.endswith(">>>>>>> new template\n")) == (1, True)  # not: `    call(f)`, which would be in `mine`


def test_a_block_that_one_side_moved_and_the_other_emptied_is_a_conflict() -> None:
    assert merged("b(b)\nb = h\n", "\n", "with w(g):\n    b = 4\n    b(b)\nb = h\n") is None


def test_a_function_that_one_side_moved_and_the_other_dropped_is_a_conflict() -> None:
    assert merged("def f():\n    x()\na(a)\n", "c = e\na(a)\ndef f():\n    x()\n", "\n") is None


# --- a result that is merged again -----------------------------------------------------------------------------------


def test_lines_that_either_side_removed_are_gone_where_neither_did_anything_else() -> None:
    assert merged("a\nb\nc\nd\n", "a\nd\n", "a\nb\nd\n", "notes.md") == "a\nd\n"
    assert merged("a\nb\nc\nd\n", "a\nc\nd\n", "a\nd\n", "notes.md") == "a\nd\n"
    assert merged("a\nb\nc\nd\n", "a\nd\n", "a\nb\nnew\nd\n", "notes.md") is None


def test_an_edit_of_a_line_that_the_template_removed_is_no_edit_of_the_line_beside_it() -> None:
    base = "k = 0\na = 1\nx = 2\nz = 3\n"
    assert merged(base, base.replace("a = 1", "a = 5"), base.replace("x = 2\n", "")) == "k = 0\na = 5\nz = 3\n"
    assert merged(base, base.replace("a = 1\nx = 2", "a = 5\nx = 6"), base.replace("x = 2\n", "")) is None


def test_a_line_that_one_side_moved_and_the_other_removed_makes_no_conflict_elsewhere() -> None:
    assert merged("a\nb\nc\nd\n", "b\na\nc\nd\n", "b\nc\nD\n", "notes.md") == "b\na\nc\nD\n"


def test_a_line_that_one_side_edited_and_the_other_moved_past_is_a_conflict() -> None:
    assert merged("/a/\n/b/\n", "/a/\n/mine/\n", "/b/\n/a/\n", ".gitattributes") is None


def test_a_block_that_both_put_into_one_statement_is_in_it_once() -> None:
    base = "def f():\n    g(1)\n"
    theirs = "def f():\n    try:\n        g(1)\n    finally:\n        h()\n"
    ours = theirs.replace("g(1)", "g(2)")
    assert merged(base, ours, theirs) == ours
    assert merged(base, base.replace("g(1)", "g(2)"), theirs) == ours


def test_a_line_that_the_template_moved_out_of_a_block_is_moved_where_the_rest_of_its_change_is_known() -> None:
    base = "def f(m):\n    for i in m:\n        a(i)\n        b(i)\n    c()\n"
    ours = base + "    d()\n"
    assert merged(base, ours, ours.replace("        b(i)", "    b(i)")) == ours.replace("        b(i)", "    b(i)")
    wrapped = (
        "def f(m):\n    with m:\n        for i in m:\n            a(i)\n            b(i)\n        c()\n        d()\n"
    )
    expected = wrapped.replace("            b(i)", "        b(i)")
    assert merged(base, wrapped, ours.replace("        b(i)", "    b(i)")) == expected
