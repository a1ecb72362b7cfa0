"""Helpers of the generator's tests: trees written inline, and the command line run in-process."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.upgraded import Case

from paccel.cli.main import main
from paccel.health import doctor

PROJECT = "{{cookiecutter.project_name}}"

MACHINE = {
    "paccel": "0",
    "interpreter": {"path": "python", "origin": "PATH"},
    "python": "3",
    "system": "Linux",
    "cpus": 1,
    "versions": {},
    "error": "not asked",
}

Contents = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one JSON object on standard output."""
        return json.loads(self.out)


@pytest.fixture
def write() -> Callable[[Path, Contents], Path]:
    """Write files below a folder; contents that begin with `#!` become executable."""

    def write(root: Path, files: Contents) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            target.write_bytes(data)
            target.chmod(0o755 if data.startswith(b"#!") else 0o644)
        return root

    return write


@pytest.fixture
def template(tmp_path: Path, write: Callable[[Path, Contents], Path]) -> Callable[..., Path]:
    """Write a template: its project files, its questions, and what else lies in its folder."""

    def template(
        files: Contents | None = None,
        questions: Mapping[str, Any] | None = None,
        *,
        name: str = "demo",
        extra: Contents | None = None,
        metadata: str | None = None,
    ) -> Path:
        asked = {"project_name": "my-project"} | dict(questions or {})
        content: dict[str, str | bytes] = {"cookiecutter.json": json.dumps(asked)}
        if metadata is not None:
            content["paccel.toml"] = metadata
        content |= dict(extra or {})
        given = {"train.py": "print('{{ cookiecutter.project_name }}')\n"} if files is None else files
        content |= {f"{PROJECT}/{path}": text for path, text in given.items()}
        folder = write(tmp_path / "templates" / name, content)
        (folder / PROJECT).mkdir(exist_ok=True)
        return folder

    return template


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder which is the working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def paccel(work: Path) -> Callable[..., Outcome]:
    """Run a command line in the working directory, without a terminal."""

    def paccel(*arguments: str | Path) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return paccel


@pytest.fixture
def case(
    paccel: Callable[..., Outcome], template: Callable[..., Path], work: Path, monkeypatch: pytest.MonkeyPatch
) -> Case:
    """A project in the working directory, with its template."""
    made = Case(paccel, template, work)
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `doctor` says of the machine is given: asking torch takes a process and seconds."""
    monkeypatch.setattr(doctor, "examine_machine", lambda root: MACHINE)


@pytest.fixture
def git() -> Callable[..., str]:
    """Run git in a folder, as somebody."""

    def git(folder: Path, *arguments: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    return git
