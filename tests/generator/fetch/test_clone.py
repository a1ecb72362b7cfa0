"""Git repositories as templates: versions, submodules, bare repositories, and the reasons of failed clones."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from paccel.catalog.catalog import load_template
from paccel.errors import TemplateError
from paccel.fetch import clone as module

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

Make = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"


def git(folder: Path, *arguments: str) -> str:
    identity = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "protocol.file.allow=always",
    )
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def commit(folder: Path, message: str = "x") -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(template: Make) -> Path:
    folder = template({"a.txt": "old\n"})
    git(folder, "init", "-q")
    return folder


def text(source: str) -> bytes:
    return load_template(source).layers[-1].project["a.txt"].content


@pytest.mark.slow
def test_a_commit_is_a_version_and_is_recorded(repository: Path) -> None:
    first = commit(repository)
    (repository / PROJECT / "a.txt").write_text("new\n")
    second = commit(repository)
    git(repository, "branch", "facade0")  # a branch whose name looks like a hash
    url = repository.as_uri()
    found = {
        end: load_template(url + end) for end in ("", f"@{first}", f"@{first[:8]}", f"@{second.upper()}", "@facade0")
    }
    assert {end: template.commit for end, template in found.items()} == {
        "": second,
        f"@{first}": first,
        f"@{first[:8]}": first,
        f"@{second.upper()}": second,
        "@facade0": second,
    }
    assert (text(f"{url}@{first}"), text(url)) == (b"old\n", b"new\n")
    assert found[f"@{first}"].ref.commit == first
    for nowhere in ("0" * 40, "deadbee"):
        with pytest.raises(TemplateError, match=rf"could not be cloned: it has no commit `{nowhere}`"):
            load_template(f"{url}@{nowhere}")


def test_a_commit_that_only_a_tag_keeps_is_found(repository: Path) -> None:
    commit(repository)
    git(repository, "checkout", "-q", "--orphan", "side")
    (repository / PROJECT / "a.txt").write_text("side\n")
    side = commit(repository)
    git(repository, "tag", "v1")
    git(repository, "checkout", "-q", "main")
    git(repository, "branch", "-D", "side")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "false")
    assert text(f"{repository.as_uri()}@{side}") == text(f"{repository.as_uri()}@{side[:9]}") == b"side\n"


@pytest.mark.slow
def test_a_branch_with_a_slash_and_an_at_sign_in_the_path(repository: Path, tmp_path: Path) -> None:
    commit(repository)
    git(repository, "branch", "team/next")
    moved = tmp_path / "me@host" / "job@2" / "tpl"
    moved.parent.mkdir(parents=True)
    shutil.move(repository, moved)
    for source in (
        f"file://{moved}",
        f"{moved}@main",
        f"git+{moved}@team/next",
        f"file://{moved}@team/next",
        f"git+{moved}",
    ):
        assert load_template(source).source == source
    git(tmp_path, "clone", "-q", "--bare", str(moved), str(tmp_path / "bare@1.git"))
    for source in (str(tmp_path / "bare@1.git"), f"{tmp_path}/bare@1.git@team/next"):
        assert (load_template(source).name, load_template(source).source) == ("bare@1", source)


def test_where_the_at_sign_belongs_to_a_remote_path_the_whole_is_tried(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository)
    settings = tmp_path / "settings"
    settings.write_text(f'[url "{repository.as_uri()}"]\n\tinsteadOf = https://127.0.0.1:1/job@2/tpl\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert text("https://127.0.0.1:1/job@2/tpl") == text("https://127.0.0.1:1/job@2/tpl@main") == b"old\n"


def test_a_repository_without_its_default_branch_is_explained(repository: Path) -> None:
    commit(repository)
    git(repository, "symbolic-ref", "HEAD", "refs/heads/gone")
    with pytest.raises(TemplateError, match="no commit on its default branch: name a branch or a tag"):
        load_template(repository.as_uri())
    assert text(f"{repository.as_uri()}@main") == b"old\n"


@pytest.mark.parametrize("link", ["_base", "_partials", f"demo/{PROJECT}/../templates"])
def test_no_part_of_a_repository_is_a_link_that_leads_outside(template: Make, tmp_path: Path, link: str) -> None:
    pack = template({"a.txt": ""}, metadata='layers = ["_base"]' if link == "_base" else "").parent
    outside = template({"key.txt": "secret"}, name="../outside")
    (pack / link).symlink_to(outside)
    git(pack, "init", "-q")
    commit(pack)
    with pytest.raises(TemplateError, match=r"outside of the template|an absolute path"):
        load_template(pack.as_uri() + "#demo")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "deep.txt").write_text("deep\n")
    commit(inner)
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    (library / "lib.py").write_text("X = 1\n")
    git(library, "submodule", "--quiet", "add", inner.as_uri(), "inner")
    commit(library)
    return library


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings"
    settings.write_text('[protocol "file"]\n\tallow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))


@pytest.mark.slow
@pytest.mark.usefixtures("allowed")
def test_the_files_of_submodules_are_there(repository: Path, library: Path) -> None:
    git(repository, "submodule", "--quiet", "add", library.as_uri(), f"{PROJECT}/vendor")
    first = commit(repository)
    for end in ("", f"@{first}", f"@{first[:8]}"):
        found = load_template(repository.as_uri() + end).layers[0].project
        assert [*found] == ["a.txt", "vendor/.gitmodules", "vendor/lib.py", "vendor/inner/deep.txt"]
    # The folder and its repository are the same template, once it is complete.
    with pytest.raises(TemplateError, match=r"submodule `vendor/inner` of the template is empty: run `git submodule"):
        load_template(str(repository))
    git(repository, "submodule", "--quiet", "update", "--init", "--recursive")
    assert load_template(str(repository)).digest == load_template(repository.as_uri()).digest


@pytest.mark.slow
def test_a_submodule_that_names_a_folder_of_this_disk_is_refused(repository: Path, library: Path) -> None:
    git(repository, "submodule", "--quiet", "add", library.as_uri(), f"{PROJECT}/vendor")
    commit(repository)
    with pytest.raises(
        TemplateError, match=r"submodule `.*/vendor` could not be cloned: [\s\S]*transport 'file' not allowed"
    ):
        load_template(repository.as_uri())


@pytest.mark.slow
def test_a_submodule_outside_of_the_projects_files_may_be_missing(repository: Path, library: Path) -> None:
    git(repository, "submodule", "--quiet", "add", library.as_uri(), "docs/theme")
    commit(repository)
    shutil.rmtree(library)
    assert [*load_template(repository.as_uri()).layers[0].project] == ["a.txt"]


def test_a_password_is_not_repeated_from_what_git_says(tmp_path: Path) -> None:
    for source in (
        "http://me:S3CRET-TOKEN@127.0.0.1:1/x.git@v1",
        "http://S3CRET-TOKEN@127.0.0.1:1/x",
        "ssh://me:S3CRET-TOKEN@127.0.0.1:1/x",
    ):
        with pytest.raises(TemplateError, match="could not be cloned: ") as caught:
            load_template(source)
        assert "S3CRET" not in str(caught.value)


@pytest.mark.slow
def test_a_slow_server_is_named_so(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "ssh"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(slow))
    monkeypatch.setattr(module, "SECONDS", 1)
    with pytest.raises(TemplateError, match=r"`git@host:x\.git` could not be cloned within 1 s: check the network"):
        load_template("git@host:x.git")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(TemplateError, match="needs git, which is not installed"):
        load_template("git@host:x.git")
