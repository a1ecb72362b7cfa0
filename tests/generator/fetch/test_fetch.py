"""Templates from ZIP files and git repositories: they are fetched safely, and removed afterwards."""

import io
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paccel.catalog.catalog import load_template
from paccel.errors import TemplateError

NeedsGit = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
Make = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"


def zipped(folder: Path, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return buffer.getvalue()


def git(*arguments: str | Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("prefix", ["", "demo-main/"])
def test_a_zip_file_is_a_template(template: Make, tmp_path: Path, prefix: str) -> None:
    folder = template({"a.txt": "x", "run.sh": "#!/bin/sh\n"})
    (tmp_path / "demo.zip").write_bytes(zipped(folder, prefix))
    found = load_template(str(tmp_path / "demo.zip"))
    assert (found.name, found.source) == (prefix.rstrip("/") or "demo", str(tmp_path / "demo.zip"))
    assert found.digest == load_template(str(folder)).digest


def test_a_zip_file_may_hold_a_template_and_its_layers(template: Make, tmp_path: Path) -> None:
    template({"b.txt": "b"}, name="_base")
    template({"a.txt": "a"}, metadata='layers = ["_base"]')
    (tmp_path / "pack.zip").write_bytes(zipped(tmp_path / "templates", "pack/"))
    assert [layer.name for layer in load_template(str(tmp_path / "pack.zip")).layers] == ["_base", "demo"]


def test_a_zip_file_with_several_templates_is_ambiguous(template: Make, tmp_path: Path) -> None:
    template(name="one")
    template(name="two")
    (tmp_path / "pack.zip").write_bytes(zipped(tmp_path / "templates"))
    pack = str(tmp_path / "pack.zip")
    with pytest.raises(TemplateError, match=r"several templates.*`one`, `two`.*`…#"):
        load_template(pack)
    assert (load_template(f"{pack}#two").name, load_template(f"{pack}#two").source) == ("two", f"{pack}#two")
    for nowhere in ("three", "../../../tmp", "/"):
        with pytest.raises(TemplateError, match="has no folder"):
            load_template(f"{pack}#{nowhere}")


@NeedsGit
def test_a_git_repository_is_a_template(template: Make, tmp_path: Path) -> None:
    folder = template({"a.txt": "x\n", "run.sh": "#!/bin/sh\n"})
    version = load_template(str(folder)).digest
    git("init", folder)
    git("-C", folder, "add", ".")
    git("-C", folder, "commit", "-m", "x")
    url = folder.as_uri()
    for source in (url, f"git+{url}"):
        found = load_template(source)
        assert (found.name, found.source, found.digest) == ("demo", source, version)


@NeedsGit
def test_a_tag_or_a_branch_and_a_folder_of_a_git_repository(template: Make, tmp_path: Path) -> None:
    repository = template({"a.txt": "old\n"}, name="one").parent
    template({"a.txt": "other\n"}, name="two")
    git("init", repository)
    git("-C", repository, "add", ".")
    git("-C", repository, "commit", "-m", "x")
    git("-C", repository, "tag", "v1")
    (repository / "one" / PROJECT / "a.txt").write_text("new\n")
    git("-C", repository, "commit", "-am", "y")
    git("-C", repository, "branch", "team/next")

    def text(end: str) -> bytes:
        return load_template(repository.as_uri() + end).layers[-1].project["a.txt"].content

    assert (text("@v1#one"), text("#one"), text("@team/next#one")) == (b"old\n", b"new\n", b"new\n")
    assert load_template(f"git+{repository.as_uri()}@v1#two").name == "two"
    with pytest.raises(TemplateError, match=r"v2#one` could not be cloned: .*v2"):
        text("@v2#one")


@NeedsGit
def test_a_git_repository_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="could not be cloned: "):
        load_template((tmp_path / "missing.git").as_uri())


@NeedsGit
def test_a_url_is_no_option_and_runs_no_program(tmp_path: Path) -> None:
    for source in (f"git+--upload-pack=touch {tmp_path}/ran", f"git+ext::sh -c touch% {tmp_path}/ran"):
        with pytest.raises(TemplateError, match=r"could not be cloned: .*(upload-pack|ext)"):  # git's own words
            load_template(source)
    assert not (tmp_path / "ran").exists()


@NeedsGit
def test_the_users_own_git_settings_run_nothing_and_change_no_byte(
    template: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hooks, ran = template({"a.txt": "x\ny\n"}), tmp_path / "hooks", tmp_path / "ran"
    git("init", "-q", folder)
    git("-C", folder, "add", "-A")
    git("-C", folder, "commit", "-qm", "one")
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (hooks / "post-checkout").chmod(0o755)
    settings = tmp_path / "settings"
    settings.write_text(f'[core]\nhooksPath = {hooks}\nautocrlf = true\n[protocol "ext"]\nallow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    cloned = load_template("git+" + folder.as_uri())
    assert cloned.layers[0].project["a.txt"].content == b"x\ny\n"
    with pytest.raises(TemplateError, match="could not be cloned"):
        load_template(f"git+ext::touch {ran}")
    assert not ran.exists()


def test_clones_and_unpacked_files_are_removed(template: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    (tmp_path / "demo.zip").write_bytes(zipped(template()))
    load_template(str(tmp_path / "demo.zip"))
    with pytest.raises(TemplateError):
        load_template((tmp_path / "missing.git").as_uri())
    assert not list(scratch.iterdir())
