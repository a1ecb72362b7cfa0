"""Template sources on the command line: what is recorded, what is printed, and what is kept secret."""

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paccel.project.state import MANIFEST_PATH, read_manifest

Make = Callable[..., Path]
Paccel = Callable[..., object]
PROJECT = "{{cookiecutter.project_name}}"
SECRET = "S3CRET-TOKEN"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture
def repository(template: Make) -> Path:
    folder = template({"a.txt": "top\n1\n2\n3\none\n"})
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return folder


@pytest.fixture
def private(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address that works only with its token."""
    address = f"https://ci:{SECRET}@127.0.0.1:1/team/demo.git"
    settings = tmp_path / "settings"
    settings.write_text(f'[url "{repository.as_uri()}"]\n\tinsteadOf = {address}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    return address


def everywhere(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


@needs_git
@pytest.mark.slow
def test_a_token_is_used_for_one_run_and_not_recorded(
    paccel: Paccel, private: str, repository: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "https://127.0.0.1:1/team/demo.git"
    outcomes = [paccel("show", private), paccel("show", private, "--json")]
    made = paccel("new", "net", "--template", private, "--no-input")
    outcomes += [made, paccel("new", "other", "--template", private, "--no-input", "--json")]
    assert "is not recorded: give git access another way" in made.err
    assert outcomes[-1].data["template"]["source"] == shown
    assert read_manifest(work / "net").template.source == shown
    monkeypatch.chdir(work / "net")
    (repository / PROJECT / "a.txt").write_text("two\n")
    git(repository, "commit", "-qam", "y")
    for command in (("upgrade",), ("upgrade", "--check", "--json"), ("diff", "--upstream"), ("set", "project_name=x")):
        refused = paccel(*command)  # without the token
        assert (refused.code, "paccel upgrade --template" in refused.err + refused.out) == (4, True)
        outcomes.append(refused)
    outcomes.append(paccel("upgrade", "--template", private, "--json"))
    assert (outcomes[-1].code, (work / "net" / "a.txt").read_text()) == (0, "two\n")
    outcomes.append(paccel("upgrade", "--template", private + "@gone", "--json"))
    outcomes.append(paccel("upgrade", "--template", f"https://{SECRET}@127.0.0.1:1/x.zip"))
    assert [outcome.code for outcome in outcomes[-2:]] == [4, 4]
    assert SECRET not in "".join(outcome.out + outcome.err for outcome in outcomes) + everywhere(work)


@needs_git
@pytest.mark.slow
@pytest.mark.usefixtures("machine")
def test_a_token_that_an_older_paccel_recorded_goes(
    paccel: Paccel, private: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paccel("new", "net", "--template", private, "--no-input")
    monkeypatch.chdir(work / "net")
    manifest = work / "net" / MANIFEST_PATH
    manifest.write_text(manifest.read_text().replace("https://127", f"https://ci:{SECRET}@127"))
    plan = paccel("upgrade", "--dry-run", "--json")
    said = [plan, paccel("diff", "--upstream", "--json"), paccel("doctor", "--json"), paccel("upgrade")]
    assert (said[-1].code, "is not recorded" in said[-1].err) == (0, True)
    assert "revoke it" in said[-1].err
    assert SECRET not in manifest.read_text() + "".join(outcome.out + outcome.err for outcome in said)


@needs_git
@pytest.mark.slow
def test_a_lost_baseline_is_rendered_from_the_recorded_commit(
    paccel: Paccel, repository: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    paccel("new", "net", "--template", repository.as_uri(), "--no-input")
    monkeypatch.chdir(work / "net")
    assert json.loads(Path(MANIFEST_PATH).read_text())["template"]["commit"] == first
    (repository / "README.md").write_text("about the template\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "y")
    assert paccel("upgrade", "--check").code == 0  # another commit alone is no upgrade
    (repository / PROJECT / "a.txt").write_text("top\n1\n2\n3\ntwo\n")
    git(repository, "commit", "-qam", "z")
    Path(".paccel/baseline.zip").unlink()
    assert paccel("doctor", "--rebuild-baseline").code == 0
    Path(".paccel/baseline.zip").unlink()
    Path("a.txt").write_text("mine\n1\n2\n3\none\n")
    assert "it was rendered again" in paccel("upgrade").err
    assert Path("a.txt").read_text() == "mine\n1\n2\n3\ntwo\n"
    assert json.loads(Path(MANIFEST_PATH).read_text())["template"]["commit"] != first


def test_a_template_that_has_moved_says_what_to_do(
    paccel: Paccel, template: Make, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = template({"a.txt": "x\n"})
    paccel("new", "net", "--template", folder, "--no-input")
    moved = folder.rename(work / "elsewhere")
    monkeypatch.chdir(work / "net")
    for command in (("upgrade",), ("diff", "--upstream"), ("set", "project_name=x"), ("doctor", "--rebuild-baseline")):
        outcome = paccel(*command)
        assert (outcome.code, "run `paccel upgrade --template SOURCE`" in outcome.err) == (4, True), command
    assert paccel("upgrade", "--template", moved).code == 0
    assert read_manifest(work / "net").template.source == "../elsewhere"
    (work / "deep").mkdir()
    shutil.move(work / "net", work / "deep" / "net")
    shutil.move(moved, work / "deep" / "elsewhere")  # both together
    monkeypatch.chdir(work / "deep" / "net")
    assert (paccel("upgrade", "--check").out, paccel("diff", "--upstream").code) == ("Up to date\n", 0)


@needs_git
def test_a_template_in_the_same_repository_is_recorded_relative(
    paccel: Paccel, template: Make, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = template({"a.txt": "x\n"})
    git(tmp_path, "init", "-q")
    paccel("new", "net", "--template", folder, "--no-input")
    assert read_manifest(work / "net").template.source == "../../templates/demo"
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    git(tmp_path, "clone", "-q", str(tmp_path), str(tmp_path / "colleague"))
    shutil.rmtree(folder)
    monkeypatch.chdir(tmp_path / "colleague" / "work" / "net")
    assert paccel("upgrade", "--check").out == "Up to date\n"


def test_empty_folders_are_made_and_no_upgrade(
    paccel: Paccel, template: Make, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = template({"a.txt": "x\n"}, {"raw": True})
    for name in ("data/{% if cookiecutter.raw %}raw{% endif %}", "{{cookiecutter.project_name}}/logs"):
        (folder / PROJECT / name).mkdir(parents=True)
    paccel("new", "net", "--template", folder, "--no-input")
    paccel("new", "bare", "--template", folder, "--no-input", "--set", "raw=false")
    assert [(work / "net" / path).is_dir() for path in ("data/raw", "net/logs")] == [True, True]
    assert not (work / "bare" / "data").exists()
    (work / "net" / "data" / "raw").rmdir()
    monkeypatch.chdir(work / "net")
    assert paccel("upgrade", "--check").code == 0


@pytest.mark.parametrize(
    "name", [".GIT/config", ".git./hooks/x", "sub/git~1", ".Paccel/manifest.json", "aux.py", "NUL"]
)
def test_a_name_that_some_disk_takes_for_another_is_refused(
    paccel: Paccel, template: Make, work: Path, name: str
) -> None:
    outcome = paccel("new", "net", "--template", template({"a.txt": "x\n", name: ""}), "--no-input")
    assert (outcome.code, "A template cannot write" in outcome.err, (work / "net").exists()) == (4, True, False)


def test_two_spellings_of_one_accent_are_two_files_on_few_disks(paccel: Paccel, template: Make, work: Path) -> None:
    outcome = paccel("new", "net", "--template", template({"caf\u00e9": "", "cafe\u0301": ""}), "--no-input")
    assert (outcome.code, "differ only in case or accents" in outcome.err) == (4, True)


@pytest.mark.parametrize("prefix", ["", "demo-main/", "demo\\"])
def test_a_zip_file_with_links_and_backslashes_is_a_template(
    paccel: Paccel, template: Make, work: Path, prefix: str
) -> None:
    folder = template({"AGENTS.md": "a", "docs/b.txt": "b"})
    with zipfile.ZipFile(work / "demo.zip", "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo("x")
            info.filename = prefix + path.relative_to(folder).as_posix().replace("/", "\\" if "\\" in prefix else "/")
            archive.writestr(info, path.read_bytes())
        link = zipfile.ZipInfo(f"{prefix}{PROJECT}/CLAUDE.md")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "AGENTS.md")
    outcome = paccel("new", "net", "--template", "demo.zip", "--no-input")
    assert (outcome.code, outcome.err) == (0, "")
    assert {path.name: path.read_text() for path in (work / "net").glob("*/*.txt")} == {"b.txt": "b"}
    assert ((work / "net" / "CLAUDE.md").read_text(), (work / "net" / "CLAUDE.md").is_symlink()) == ("a", False)


@needs_git
@pytest.mark.slow
def test_a_check_in_a_git_hook_leaves_the_index_alone(
    paccel: Paccel, repository: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paccel("new", "net", "--template", repository.as_uri(), "--no-input")
    monkeypatch.chdir(work / "net")
    git(work / "net", "init", "-q")
    git(work / "net", "add", "-A")
    git(work / "net", "commit", "-qm", "x")
    hook = work / "net" / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\npaccel upgrade --check && paccel diff --upstream\n")
    hook.chmod(0o755)
    for name, command in (("mine.txt", ["commit", "-qm", "y"]), ("a.txt", ["commit", "-qam", "z"])):
        (work / "net" / name).write_text("mine\n")
        git(work / "net", "add", name)
        git(work / "net", *command)
        assert git(work / "net", "show", "--format=", "--name-only", "HEAD") == name
    assert git(work / "net", "status", "--porcelain") == ""
