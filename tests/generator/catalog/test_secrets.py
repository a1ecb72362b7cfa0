"""A secret answer is in the project's files, and nowhere else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paccel.catalog.secrets import hide, recover, reveal
from paccel.files.tree import File
from paccel.project.state import BASELINE_PATH, MANIFEST_PATH, read_state

Run = Callable[..., Any]
Make = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"
META = "[questions.api_key]\nsecret = true\n"
ENV = "URL=x\nKEY={{ cookiecutter.api_key }}\nLEVEL=1\n{% if cookiecutter.api_key %}ON=1\n{% endif %}"
CODE = 'KEY = "{{ cookiecutter.api_key }}"\nLENGTH = {{ cookiecutter.api_key | length }}\n'


@pytest.fixture
def made(template: Make, paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A template with a secret question, and a project made from it."""
    source = template({".env": ENV, "code.py": CODE, "plain.txt": "x\n"}, {"api_key": "", "ema": False}, metadata=META)
    outcome = paccel("new", "net", "--template", source, "--no-input", "--set", "api_key=s3cret-value", "--json")
    assert (outcome.code, "s3cret" in outcome.out + outcome.err) == (0, False)
    monkeypatch.chdir(work / "net")
    return source / PROJECT, work / "net"


def nowhere(root: Path, secret: bytes = b"s3cret") -> bool:
    """Whether the part of `.paccel` that is committed lacks the secret; the copies for `--undo` are not."""
    return not any(secret in (root / path).read_bytes() for path in (MANIFEST_PATH, BASELINE_PATH))


def test_it_is_in_the_files_and_not_in_the_state(made: tuple[Path, Path]) -> None:
    _, root = made
    assert (root / ".env").read_text() == "URL=x\nKEY=s3cret-value\nLEVEL=1\nON=1\n"
    assert (root / "code.py").read_text() == 'KEY = "s3cret-value"\nLENGTH = 12\n'
    assert nowhere(root)
    read_state(root)


def test_an_upgrade_keeps_it(made: tuple[Path, Path], paccel: Run) -> None:
    source, root = made
    (source / ".env").write_text(ENV.replace("LEVEL=1", "LEVEL=2").replace("KEY=", "API_KEY="))
    (source / "new.txt").write_text("{{ cookiecutter.api_key }}\n")
    for arguments in (("upgrade", "--dry-run", "--diff"), ("upgrade",)):
        outcome = paccel(*arguments)
        assert outcome.code == 0
    assert "updated   .env" in outcome.out
    assert (root / ".env").read_text() == "URL=x\nAPI_KEY=s3cret-value\nLEVEL=2\nON=1\n"
    assert (root / "new.txt").read_text() == "s3cret-value\n"
    assert paccel("set", "ema=true").code == 0
    assert paccel("upgrade").out == "Up to date\n"
    assert (root / ".env").read_text() == "URL=x\nAPI_KEY=s3cret-value\nLEVEL=2\nON=1\n"
    assert paccel("diff", ".env", "new.txt").out == ""


def test_no_edit_is_seen_where_there_is_none(made: tuple[Path, Path], paccel: Run) -> None:
    # The length of the stand-in is another one: what is made of a secret counts as the user's.
    assert [file["path"] for file in paccel("diff", "--json").data["files"]] == ["code.py"]


def test_a_changed_secret_is_the_users(made: tuple[Path, Path], paccel: Run) -> None:
    source, root = made
    for path in (".env", "code.py"):
        (root / path).write_text((root / path).read_text().replace("s3cret-value", "rotated"))
    (source / ".env").write_text(ENV.replace("LEVEL=1", "LEVEL=2"))
    assert paccel("upgrade").code == 0
    assert (root / ".env").read_text() == "URL=x\nKEY=rotated\nLEVEL=2\nON=1\n"
    assert nowhere(root, b"rotated")


def test_set_gives_another(made: tuple[Path, Path], paccel: Run) -> None:
    _, root = made
    assert paccel("set", "api_key=other-value").code == 0
    assert (root / ".env").read_text() == "URL=x\nKEY=other-value\nLEVEL=1\nON=1\n"
    assert nowhere(root, b"other-value")
    assert nowhere(root)


def test_where_it_is_lost_the_user_is_told_and_nothing_is_overwritten(made: tuple[Path, Path], paccel: Run) -> None:
    source, root = made
    (root / ".env").write_text("URL=y\nKEY=$KEY\n")
    (root / "code.py").write_text("import os\n")
    (source / "plain.txt").write_text("y\n")
    outcome = paccel("upgrade")
    assert outcome.code == 0
    assert "the secret answer `api_key` is not stored" not in outcome.err  # `$KEY` stands where it stood
    assert (root / ".env").read_text() == "URL=y\nKEY=$KEY\n"
    (root / ".env").unlink()
    (source / "plain.txt").write_text("z\n")
    outcome = paccel("upgrade")
    assert (outcome.code, "set it again with `paccel set api_key=…`" in outcome.err) == (0, True)


def test_the_baseline_can_be_rendered_again(made: tuple[Path, Path], paccel: Run) -> None:
    baseline = made[1] / ".paccel" / "baseline.zip"
    before = baseline.read_bytes()
    baseline.unlink()
    assert paccel("doctor", "--rebuild-baseline").code == 0
    assert baseline.read_bytes() == before


def test_an_answer_that_becomes_a_secret_leaves_the_state(
    template: Make, paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = template({".env": ENV}, {"api_key": ""})
    assert paccel("new", "net", "--template", source, "--set", "api_key=s3cret-value").code == 0
    monkeypatch.chdir(work / "net")
    assert not nowhere(work / "net")
    (source / "paccel.toml").write_text(META)
    assert paccel("upgrade").code == 0
    assert (work / "net" / ".env").read_text().startswith("URL=x\nKEY=s3cret-value\n")
    assert nowhere(work / "net")


def test_the_environment_gives_it(template: Make, paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACCEL_SECRET_API_KEY", "s3cret-value")
    source = template({".env": ENV}, {"api_key": ""}, metadata=META)
    assert paccel("new", "net", "--template", source, "--no-input").code == 0
    assert "KEY=s3cret-value" in (work / "net" / ".env").read_text()
    assert nowhere(work / "net")


def test_what_stands_for_it_is_found_where_only_one_can_be_meant() -> None:
    hidden = hide([SecretQuestion("a"), SecretQuestion("b")], {"a": "1", "b": "", "c": "2"})  # type: ignore[list-item]
    assert (hidden["b"], hidden["c"], hidden["a"] != "1") == ("", "2", True)
    mark = hidden["a"]
    base = {"x": File(f"a={mark}\n{mark}\n".encode()), "y": File(f"{mark}:{mark}".encode())}
    assert recover(base, {"x": File(b"0\na=one\n")}) == {"a": "one"}
    assert recover(base, {"x": File(b"a=one\na=two\n")}) == {}
    assert recover(base, {"y": File(b"one:one")}) == {"a": "one"}
    assert recover(base, {"y": File(b"one:two")}) == {}
    assert recover(base, {"x": base["x"]}) == {}
    assert reveal(base, {"a": "one"})["y"].content == b"one:one"


class SecretQuestion:
    """The part of a question that `hide` needs."""

    secret = True

    def __init__(self, name: str) -> None:
        self.name = name
