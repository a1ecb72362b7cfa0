"""Moved files: detected by path before content, and not at all if both are ambiguous."""

import time

import pytest
from support.sampled import over_three_days

from paccel.files.tree import File, Tree
from paccel.upgrade.moves import moved_folders, template_moves, user_moves

HEADER = "# Copyright ACME\n"
BLANK = ""


def tree(**files: str) -> Tree:
    return {path: File(text.encode()) for path, text in files.items()}


def text(name: str, changed: int = 0, lines: int = 12) -> str:
    return "".join(f"{name}_{i} = {i + (1000 if i < changed else 0)}\n" for i in range(lines))


def moves(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    return template_moves(tree(**old), tree(**new), [])


@pytest.mark.parametrize("content", [HEADER, BLANK, HEADER * 12, "\0binary", "import os\nimport sys\n"])
@pytest.mark.parametrize("name", ["__init__.py", "conftest.py", ".gitkeep", "config.yaml"])
def test_equal_files_follow_their_folders(content: str, name: str) -> None:
    old = {f"{folder}/{name}": content for folder in ("data", "models")}
    new = {f"net/{folder}/{name}": content for folder in ("data", "models", "utils", "zoo")}
    assert moves(old, new) == {f"data/{name}": f"net/data/{name}", f"models/{name}": f"net/models/{name}"}


def test_equal_files_that_no_path_tells_apart_are_no_moves() -> None:
    assert moves({"a.py": HEADER}, {"x/b.py": HEADER, "x/c.py": HEADER}) == {}
    assert moves({"one/__init__.py": HEADER, "two/__init__.py": HEADER}, {"new/__init__.py": HEADER}) == {}


def test_a_path_counts_more_than_equal_content_elsewhere() -> None:
    new = {"net/data/__init__.py": HEADER + "x = 1\n", "net/utils/__init__.py": HEADER}
    assert moves({"data/__init__.py": HEADER}, new) == {"data/__init__.py": "net/data/__init__.py"}


def test_the_most_folders_in_common_win() -> None:
    old = {"lab/a/config.yaml": HEADER, "lab/b/config.yaml": HEADER}
    new = {"runs/lab/b/config.yaml": HEADER, "runs/lab/a/config.yaml": HEADER, "a/config.yaml": HEADER}
    assert moves(old, new) == {path: f"runs/{path}" for path in old}


@pytest.mark.parametrize("content", [BLANK, "from foo.main import run\n", text("long")])
def test_a_package_is_renamed_as_a_whole(content: str) -> None:
    names = ("__init__.py", "main.py", "sub/__init__.py", ".hidden/settings")
    new = {f"bar/{name}": content.replace("foo", "bar") for name in names}
    assert moves({f"foo/{name}": content for name in names}, new) == {f"foo/{name}": f"bar/{name}" for name in names}


def test_what_is_called_like_a_renamed_package_is_renamed_with_it() -> None:
    old = {
        "src/foo/a.py": text("a"),
        "tests/test_foo.py": "import foo\n",
        "foo/foo.cfg": "foo\n",
        "other.py": "foo = 1\n",
    }
    new = {
        path.replace("foo", "bar"): content.replace("foo", "bar") for path, content in old.items() if path != "other.py"
    }
    assert moves(old, new) == {path: path.replace("foo", "bar") for path in old if path != "other.py"}


def test_a_file_that_is_written_anew_goes_where_its_folder_goes() -> None:
    old = {"foo/a.py": text("a"), "foo/b.py": text("b"), "foo/c.py": text("c"), "foo/tiny.py": "x = 1\n"}
    new = {"bar/a.py": text("a", 1), "bar/b.py": text("b"), "bar/c.py": text("other"), "bar/tiny.py": "y = 2\n"}
    assert moves(old, new) == {path: path.replace("foo", "bar") for path in old}


def test_names_alone_do_not_tell_one_file_or_one_of_two_folders() -> None:
    assert moves({"foo/__init__.py": BLANK}, {"bar/__init__.py": BLANK}) == {}
    two = {f"{folder}/{name}.py": BLANK for folder in ("a", "b") for name in ("x", "y")}
    assert moves(two, {path.translate({97: "c", 98: "d"}): text for path, text in two.items()}) == {}


def test_a_folder_of_which_something_is_left_is_not_renamed_by_names_alone() -> None:
    old = {"a/x.py": BLANK, "a/y.py": BLANK, "a/z.py": BLANK}
    assert moves(old, {"a/z.py": BLANK, "b/x.py": BLANK, "b/y.py": BLANK}) == {}
    assert len(moves(old, {"b/x.py": BLANK, "b/y.py": BLANK})) == 2


def test_unlike_files_of_one_name_are_no_moves_from_the_top_folder() -> None:
    old, new = {"a.py": text("a"), "b.py": text("b")}, {"src/a.py": text("a"), "src/b.py": text("other")}
    assert moves(old, new) == {"a.py": "src/a.py"}


def test_folders_that_moved_whole_are_named_once() -> None:
    old = {"foo/a.py": text("a"), "foo/sub/b.py": text("b"), "data/c.py": text("c"), "kept/d.py": text("d")}
    new = {"bar/a.py": text("a"), "bar/sub/b.py": text("b"), "net/data/c.py": text("c"), "new/d.py": text("d")}
    after = tree(**new, **{"kept/e.py": BLANK})
    assert moved_folders(moves(old, new), after) == {"foo": "bar", "data": "net/data"}


def test_a_folder_that_the_user_moved_takes_its_short_files_along() -> None:
    old = {"net/__init__.py": BLANK, "net/model.py": text("a"), "net/version.py": "x = 1\n"}
    new = {"src/net/__init__.py": BLANK, "src/net/model.py": text("a", 2), "src/net/version.py": "x = 2\n"}
    assert user_moves(tree(**old), tree(**new)) == {path: f"src/{path}" for path in old}


def test_a_blank_file_of_the_users_is_not_taken_for_one_that_they_deleted() -> None:
    assert user_moves(tree(**{"data/__init__.py": BLANK}), tree(**{"mine/data/__init__.py": BLANK})) == {}


def test_another_spelling_of_line_ends_is_the_same_file() -> None:
    windows = File(b"\xef\xbb\xbfx = 1\r\n")
    assert user_moves({"a.py": File(b"x = 1\n")}, {"sub/b.py": windows}) == {"a.py": "sub/b.py"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "content", "changed"),
    over_three_days(
        [
            ("data/{}.json", "samples/{}.json", '{{"id": {}}}\n', ""),
            ("data/{}.json", "samples/s{}.json", '{{"id": {}}}\n', ""),
            ("data/{}.py", "more/x{}.py", "a_{0} = 1\nb_{0} = 2\nc_{0} = 3\n", "d = 4\n"),
            ("data/{}.py", "more/x{}.py", "a = 1\nb = 2\nc = 3\n", ""),
            ("p{}/__init__.py", "q{}/__init__.py", "", ""),
            ("p{}/__init__.py", "src/p{}/__init__.py", "", ""),
            ("d/" * 40 + "{}.py", "e/" + "d/" * 40 + "{}.py", "", ""),
            ("data/{}.py", "d{0}/{0}.py", "a_{0} = 1\nb_{0} = 2\nc_{0} = 3\n", ""),
        ]
    ),
)
def test_the_time_grows_with_the_number_of_files(old: str, new: str, content: str, changed: str) -> None:
    def seconds(count: int) -> float:
        trees = [
            {name.format(i): File((content.format(i) + more).encode()) for i in range(count)}
            for name, more in ((old, ""), (new, changed))
        ]
        start = time.process_time()
        template_moves(trees[0], trees[1], [])
        return time.process_time() - start

    assert min(seconds(4000) for _ in range(3)) < 0.1 + 5 * min(seconds(1500) for _ in range(3))
