"""An upgrade formats only changed files, and the result is the same as if it formatted all."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.upgraded import PROJECT, Case

from paccel.catalog.metadata import TemplateRef
from paccel.errors import TemplateError
from paccel.files.tree import File, write_tree
from paccel.project.state import MANIFEST_PATH, Manifest, read_manifest, read_state
from paccel.render.formatter import Formatted, Formatter, format_tree

LINE = b"value = function(argument_one, argument_two, argument_three)\n"


@pytest.fixture
def formatted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that black has formatted."""
    log: list[str] = []
    real = Formatter.format

    def noted(self: Formatter, content: bytes, path: str) -> bytes:
        log.append(path)
        return real(self, content, path)

    monkeypatch.setattr(Formatter, "format", noted)
    return log


def tree(settings: str = "[tool.black]\n", **files: bytes) -> dict[str, File]:
    return {"pyproject.toml": File(settings.encode())} | {f"{name}.py": File(text) for name, text in files.items()}


def test_only_what_has_changed_is_formatted_again(formatted: list[str]) -> None:
    before = format_tree(tree(a=b"a  = 1\n", b=b"b  = 1\n"), "demo")
    formatted.clear()
    changed = tree(a=b"a  = 1\n", b=b"b  = 2\n", c=b"c  = 3\n")
    after = format_tree(changed, "demo", before)
    assert formatted == ["b.py", "c.py"]
    assert after == format_tree(changed, "demo")
    assert after.tree["a.py"].content == b"a = 1\n"


def test_a_change_that_formatting_hides_is_seen(formatted: list[str]) -> None:
    before = format_tree(tree(a=b"a  = 1\n"), "demo")
    formatted.clear()
    assert format_tree(tree(a=b"a = 1\n"), "demo", before).tree == before.tree
    assert formatted == ["a.py"]


@pytest.mark.parametrize(
    "settings",
    ["[tool.black]\nline-length = 40\n", '[tool.black]\n[project]\nrequires-python = ">=3.13"\n', "[tool.other]\n"],
)
def test_other_settings_format_everything_again(settings: str) -> None:
    before = format_tree(tree(a=LINE), "demo")
    assert format_tree(tree(settings, a=LINE), "demo", before) == format_tree(tree(settings, a=LINE), "demo")


def test_settings_that_are_no_formatters_format_nothing_again(formatted: list[str]) -> None:
    before = format_tree(tree(a=LINE), "demo")
    formatted.clear()
    format_tree(tree('[tool.black]\n[project]\nname = "other"\n', a=LINE), "demo", before)
    assert formatted == []


def test_a_mode_is_taken_from_the_new_render() -> None:
    before = format_tree(tree(a=LINE), "demo")
    after = format_tree({**tree(), "a.py": File(LINE, executable=True)}, "demo", before)
    assert after.tree["a.py"].executable


def test_a_baseline_that_lost_a_file_has_it_formatted() -> None:
    before = format_tree(tree(a=b"a  = 1\n"), "demo")
    lost = Formatted(tree(), before.unformatted)
    assert format_tree(tree(a=b"a  = 1\n"), "demo", lost) == before


# --- what black would leave alone ----------------------------------------------------------------------------------

UGLY = b"x = {  'a':1 }\n"
VERBOSE = """
[tool.black]
{option} = \'\'\'
# generated
(
    .*_pb2.py  # by protoc
  | ^/vendored/
)
\'\'\'
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        "[tool.black]\n",
        *(VERBOSE.format(option=option) for option in ("exclude", "extend-exclude", "force-exclude")),
        "[tool.black]\nextend-exclude = '/pkg/vendored/|model'\n",
        "[tool.black]\nextend-exclude = 'vendored$|x*'\n",
        "[tool.black]\ninclude = 'b\\.py$'\n",
        "[tool.black]\nexclude = ''\n",
        "[tool.black]\nline-length = '20'\nskip-string-normalization = true\npyi = true\n",
        "[tool.black]\nskip-source-first-line = true\npreview = true\nenable-unstable-feature = ['string_processing']\n",
    ],
)
def test_the_files_that_black_formats_are_formatted(settings: str, tmp_path: Path) -> None:
    """The oracle: `black .` in a folder of such files."""
    paths = [
        "a.py",
        "b.py",
        "model_pb2.py",
        "vendored/a.py",
        "pkg/vendored/b.py",
        "build/a.py",
        "pkg/dist/a.pyi",
        "c.txt",
    ]
    paths += ["ignored.py", "pkg/local/a.py", "pkg/kept/a.py", "pkg/one.py"]
    files = {path: File(UGLY) for path in paths} | {
        "pyproject.toml": File(settings.encode()),
        ".gitignore": File(b"\xef\xbb\xbfignored.py\nlocal/\n[\n"),
        "pkg/.gitignore": File(b"/one.py\n!kept\n"),
        "broken.py": File(b"def  f(\n"),
        "python2.py": File(b"print  'x'\n"),
        "latin.py": File(b"x  = '\xe4'\n"),
        "null.py": File(b"x  = 1\0\n"),
    }
    write_tree(tmp_path, files)
    command = [sys.executable, "-m", "black", "-q", "."]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert {path: file.content for path, file in format_tree(files, "demo").tree.items()} == {
        path: (tmp_path / path).read_bytes() for path in files
    }


@pytest.mark.parametrize("settings", ["[tool.black", "tool = 1\n", "[tool]\nblack = 1\n", "a = " + "[" * 3000, "\xff"])
def test_settings_that_are_none_format_nothing(settings: str) -> None:
    files = tree(settings, a=UGLY) | {"pyproject.toml": File(settings.encode("latin-1"))}
    assert format_tree(files, "demo").tree == files


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("line-length = 'wide'", "`line-length` of `.tool.black.`, rendered from `demo`, must be a number"),
        ("line-length = true", "`line-length`.*must be a number"),
        ("target-version = 'py311'", "`target-version`.*must be a list"),
        ("target-version = [[]]", "`target-version`.*black does not know"),
        ("extend-exclude = ['a']", "`extend-exclude`.*must be text"),
        ("force-exclude = '('", "not a regular expression"),
        ("skip-string-normalization = 3", "must be true or false"),
        ("enable-unstable-feature = ['x']", "does not know"),
    ],
)
def test_settings_of_the_wrong_type_are_explained(option: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        format_tree(tree(f"[tool.black]\n{option}\n", a=UGLY), "demo")


@pytest.mark.parametrize("python", ["5", "'odd'", "'>=3'", "'3'", "'>=99!1'", "''", "[]"])
def test_an_odd_python_version_is_passed_over(python: str) -> None:
    text = f"[project]\nrequires-python = {python}\n[tool.black]\n"
    assert format_tree(tree(text, a=UGLY), "demo").tree["a.py"].content == b'x = {"a": 1}\n'


@pytest.mark.slow
def test_a_pattern_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.sandbox.patterns.SECONDS", 0.5)
    files = tree("[tool.black]\nextend-exclude = '(a+)+$'\n", **{"a" * 60 + "_": UGLY})
    with pytest.raises(TemplateError, match=r"takes more than 0\.5 seconds"):
        format_tree(files, "demo")


def test_blacks_own_exclude_is_blacks() -> None:
    from black.const import DEFAULT_EXCLUDES

    from paccel.render.formatter import BLACKS_EXCLUDE

    assert BLACKS_EXCLUDE.pattern == DEFAULT_EXCLUDES


# --- from command to command, by the manifest ----------------------------------------------------------------------


@pytest.fixture
def styled(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A project with `[tool.black]`, made by `new`."""
    folder = case.source / PROJECT
    (folder / "pyproject.toml").write_text("[tool.black]\nline-length = 60\n")
    (folder / "data.py").write_text("value  = 1\n")
    assert case.run("new", case.work / "styled", "--template", case.source, "--no-input").code == 0
    monkeypatch.chdir(case.work / "styled")
    case.root = case.work / "styled"
    return case


def test_a_new_answer_formats_only_the_files_that_it_changes(styled: Case, formatted: list[str]) -> None:
    assert styled.run("set", "average=true").code == 0
    assert formatted == ["train.py"]
    assert styled.read("data.py") == "value = 1\n"
    formatted.clear()
    assert styled.run("set", "average=false").code == 0
    assert formatted == ["train.py"]


def test_another_paccel_formats_everything_again(styled: Case, formatted: list[str]) -> None:
    manifest = read_manifest(styled.root)
    (styled.root / MANIFEST_PATH).write_text(manifest._replace(paccel="0.1.9").to_json())
    assert styled.run("upgrade").code == 0
    assert formatted == ["data.py", "train.py"]


def test_a_manifest_of_paccel_0_1_0_is_read_and_formats_everything_again(styled: Case, formatted: list[str]) -> None:
    text = read_manifest(styled.root)._replace(unformatted={}).to_json()
    assert "unformatted" not in text
    (styled.root / MANIFEST_PATH).write_text(text)
    assert styled.run("set", "average=true").code == 0
    assert formatted == ["data.py", "train.py"]
    assert read_manifest(styled.root).unformatted.keys() == {"data.py", "train.py"}


def test_a_skipped_file_is_formatted_when_it_is_restored(styled: Case) -> None:
    """The baseline keeps its old version, which must not be mistaken for the new one."""
    (styled.source / PROJECT / "data.py").write_text("value  = 2\n")
    assert styled.run("upgrade", "--skip", "data.py").code == 0
    assert styled.read("data.py") == "value = 1\n"
    assert read_manifest(styled.root).unformatted.keys() == {"train.py"}
    assert styled.run("upgrade", "--restore", "data.py").code == 0
    assert styled.read("data.py") == "value = 2\n"


def test_a_file_left_for_later_is_formatted_later(styled: Case) -> None:
    (styled.source / PROJECT / "data.py").write_text("value  = 2\n")
    styled.change("train.py", "third = 3", "third  = 4")
    assert styled.run("upgrade", "train.py").code == 0
    assert styled.run("upgrade").code == 0
    assert (styled.read("data.py"), "third = 4" in styled.read("train.py")) == ("value = 2\n", True)
    assert read_manifest(styled.root).unformatted.keys() == {"data.py", "train.py"}


def test_an_adopted_project_has_the_hashes_too(styled: Case) -> None:
    before = read_state(styled.root)
    (styled.root / MANIFEST_PATH).unlink()
    assert styled.run("adopt", "--template", styled.source).code == 0
    assert read_state(styled.root) == before


def test_the_hashes_survive_the_manifest() -> None:
    manifest = Manifest.from_json(
        Manifest.of(
            TemplateRef("demo", "demo", "0" * 64),
            {},
            {"a.py": File(b"a\n"), "b": File(b"")},
            unformatted={"a.py": "0" * 64},
        ).to_json()
    )
    assert manifest.unformatted == {"a.py": "0" * 64}
