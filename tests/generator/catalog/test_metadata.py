"""The keys of a `paccel.toml`, and the errors for invalid ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paccel import __version__
from paccel.catalog.metadata import QuestionHelp, parse_metadata
from paccel.errors import PreconditionError, TemplateError

Run = Callable[..., Any]
Make = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"


def test_everything_about_a_question_is_read() -> None:
    text = """
    [questions.key]
    help = "The key"
    secret = true
    when = { tracker = "wandb", ema = true }
    validator = "[a-z]+"
    message = "letters only"
    [questions.trackers]
    multiple = true
    default = ["wandb"]
    when = "cookiecutter.ema"
    """
    questions = parse_metadata(text, "demo").questions
    assert questions["key"] == QuestionHelp(
        help="The key",
        secret=True,
        when={"tracker": "wandb", "ema": True},
        validator="[a-z]+",
        message="letters only",
    )
    assert (questions["trackers"].default, questions["trackers"].when) == (("wandb",), "cookiecutter.ema")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[questions.a]\nsecrt = true\n", r"`questions.a.secrt` is not a known key; did you mean `secret`\?"),
        ("titel = 'x'\n", r"`titel` is not a known key; did you mean `title`\?"),
        ("[files]\nonce = 'data.py'\n", r"`files.once` must be a list"),
        ("[files]\nones = []\n", r"`files.ones` is not a known key; did you mean `once`\?"),
        ("files = 1\n", "`files` must be a table"),
        ("[questions.a]\nsecret = 'yes'\n", "`questions.a.secret` must be true or false"),
        ("[questions.a]\nwhen = 1\n", "`questions.a.when` must be text or a table"),
        ("[questions.a]\nwhen = { b = 1 }\n", "`questions.a.when` must be a table of answers"),
        ("requires_paccel = 2\n", "`requires_paccel` must be text"),
        ("requires_paccel = '~=0.2'\n", "must be a minimum version, like `>=0.2`, not `~=0.2`"),
        ("requires_paccel = '1e9'\n", "must be a minimum version"),
        ("a = " + "[" * 9999, "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_explained(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        parse_metadata(text, "demo/paccel.toml")


@pytest.mark.parametrize("version", ["0.2", ">=0.1.5", ">= 0.2.0.0", __version__])
def test_a_least_version_that_this_paccel_has(version: str) -> None:
    assert parse_metadata(f"requires_paccel = '{version}'\n", "demo").title == ""


def test_a_template_for_a_newer_paccel_says_so_before_anything_else(template: Make, paccel: Run) -> None:
    folder = template(metadata="requires_paccel = '>=9.1'\n[[of_the_future]]\n")
    outcome = paccel("new", "net", "--template", folder)
    assert outcome.code == 3
    assert "needs paccel 9.1 or newer" in outcome.err
    assert "`pip install -U paccel`" in outcome.err
    with pytest.raises(PreconditionError):
        parse_metadata("requires_paccel = '>=0.10.0'\n", "demo")


def test_a_byte_order_mark_is_passed_over(template: Make, paccel: Run, work: Path) -> None:
    folder = template({"a.txt": "{{ cookiecutter.x }}"}, {"x": "1"}, metadata="title = 'A title'\n")
    for name in ("cookiecutter.json", "paccel.toml"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    (work / "answers.json").write_bytes(b'\xef\xbb\xbf{"x": "2"}')
    assert paccel("new", "net", "--template", folder, "--answers", "answers.json").code == 0
    assert (work / "net" / "a.txt").read_text() == "2"


ONCE = "[files]\nonce = ['data/*', 'notes.md', '*.sample']\n"


def test_files_that_are_generated_once_are_the_users_from_then_on(
    template: Make, paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"data/a.csv": "1\n", "data/b.csv": "1\n", "notes.md": "1\n", "train.py": "a = 1\n", "x.sample": "1\n"}
    source = template(files, metadata=ONCE) / PROJECT
    assert paccel("new", "net", "--template", source.parent, "--no-input").code == 0
    monkeypatch.chdir(work / "net")
    Path("data/a.csv").write_text("mine\n")
    Path("data/b.csv").unlink()
    for path in files:
        (source / path).write_text("a = 2\n")
    (source / "x.sample").unlink()
    (source / "data" / "new.csv").write_text("2\n")
    outcome = paccel("upgrade", "--json")
    assert outcome.code == 0
    assert {change["path"]: change["status"] for change in outcome.data["changes"]} == {
        "train.py": "updated",
        "data/new.csv": "added",
    }
    assert Path("data/a.csv").read_text() == "mine\n"
    assert not Path("data/b.csv").exists()
    assert [Path(path).read_text() for path in ("notes.md", "x.sample", "train.py")] == ["1\n", "1\n", "a = 2\n"]
    assert paccel("upgrade").out == "Up to date\n"
    assert paccel("upgrade", "--restore", "data/b.csv").code == 0
    assert Path("data/b.csv").read_text() == "a = 2\n"
