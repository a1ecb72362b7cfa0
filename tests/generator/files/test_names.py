"""Names that mean another file on some disk are refused everywhere."""

import pytest

from paccel.errors import TemplateError
from paccel.files.names import folded
from paccel.files.tree import check_file_path

# What git refuses as `core.protectNTFS` and `core.protectHFS`, and the same for the folder of paccel.
SPELLINGS = [
    *(
        ".git",
        ".GIT",
        ".git.",
        ".git ",
        ".git. . ",
        ".git::$INDEX_ALLOCATION",
        ".git:x",
        "git~1",
        "GIT~1",
        "git~2",
        "git~1.",
    ),
    *(".g\u200cit", ".\u200dgit", ".git\ufeff", ".gi\u202at", ".g\u206fiT", "\u200e.git", ".git\ufe0f"),
    *(".paccel", ".Paccel", ".paccel.", ".paccel ", "paccel~1", "PACCEL~1 ", ".pac\u200bcel", ".paccel:x:$DATA"),
]
DEVICES = [
    "con",
    "NUL",
    "aux.py",
    "Prn.tar.gz",
    "com1",
    "COM9.txt",
    "lpt3",
    "com¹",
    "LPT³.x",
    "CONIN$",
    "conout$.txt",
    "nul .txt",
]
ON_WINDOWS = [
    "what?.md",
    "a:b",
    "a*",
    "a<b",
    "a>b",
    'a"b',
    "a|b",
    "dot.",
    "space ",
    "...",
    "a\tb",
    "a\x7fb",
    "a\udcffb",
    "a\nb",
]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("path", ["{}", "{}/hooks/pre-commit", "sub/{}/config"])
def test_every_spelling_of_git_and_paccel_is_refused(name: str, path: str) -> None:
    with pytest.raises(TemplateError, match=r"cannot write (into )?`"):
        check_file_path(path.format(name))


@pytest.mark.parametrize("name", DEVICES + ON_WINDOWS)
@pytest.mark.parametrize("path", ["{}", "{}/x.txt", "sub/{}"])
def test_names_that_windows_cannot_have_are_refused(name: str, path: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check_file_path(path.format(name))
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".gitignore",
            ".gitattributes",
            ".gitmodules",
            ".github/ci.yml",
            "git",
            "paccel.toml",
            ".paccelrc",
            "git~",
            "gift~1",
        ),
        *("console.py", "auxiliary.py", "common.txt", "com10", "lpt", "null.txt", "a.con", "conin", "com0"),
        *("Müller/データ.txt", "👩‍👩‍👧.md", "a b.txt", "..a", "a..b", ".x", "a'b", "a#b@c%d&e(f)"),
    ],
)
def test_ordinary_names_are_kept(path: str) -> None:
    assert check_file_path(path) == path


def test_names_that_are_one_file_on_some_disk_fold_to_one() -> None:
    assert folded("README.md") == folded("ReadMe.MD")
    assert folded("caf\u00e9") == folded("cafe\u0301") == folded("CAFE\u0301")
    assert folded("a") != folded("b")
