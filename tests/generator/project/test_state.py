"""The state of a project is written and read back; damaged or forged state is refused."""

import io
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paccel.catalog.metadata import TemplateRef
from paccel.errors import PreconditionError, StateError, TemplateError
from paccel.files.tree import File, check_file_path
from paccel.project.state import (
    BASELINE_PATH,
    MANIFEST_PATH,
    Manifest,
    read_manifest,
    read_state,
    state_bytes,
    write_state,
)

TREE = {
    "train.py": File(b"print(1)\n"),
    "launch/run.sh": File(b"#!/bin/sh\n", executable=True),
    "data/\u00fc.bin": File(bytes(range(256))),
    "empty": File(b""),
}
REF = TemplateRef("image-classification", "image-classification", "0" * 64)
MANIFEST = Manifest.of(REF, {"project_name": "p", "ema": True, "data": "digits"}, TREE, ("train.py",))
STATE_NAMES = [".gitattributes", ".gitignore", "baseline.zip", "manifest.json"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_state(tmp_path, MANIFEST, TREE)
    return tmp_path


def edit_manifest(project: Path, **changes: object) -> None:
    data = json.loads((project / MANIFEST_PATH).read_text()) | changes
    (project / MANIFEST_PATH).write_text(json.dumps(data))


def pack(*entries: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644, compress: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = compress
            archive.writestr(info, content)
    return buffer.getvalue()


def test_what_was_written_is_read(project: Path) -> None:
    assert read_state(project) == (MANIFEST, TREE)


def test_the_bytes_do_not_depend_on_order_or_time_or_umask(tmp_path: Path) -> None:
    other = dict(reversed(TREE.items()))
    again = Manifest.of(REF, dict(reversed(MANIFEST.answers.items())), other, ("train.py",))
    assert state_bytes(again, other) == state_bytes(MANIFEST, TREE)
    before = os.umask(0o077)
    try:
        write_state(tmp_path, MANIFEST, TREE)
    finally:
        os.umask(before)
    assert (tmp_path / BASELINE_PATH).read_bytes() == state_bytes(MANIFEST, TREE)[BASELINE_PATH]
    assert {(tmp_path / path).stat().st_mode & 0o777 for path in (BASELINE_PATH, MANIFEST_PATH)} == {0o644}
    assert sorted(os.listdir(tmp_path / ".paccel")) == STATE_NAMES


@pytest.mark.slow
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z.]{0,3}[a-z])?", fullmatch=True), st.binary(max_size=50), max_size=6
    ).filter(lambda tree: not {path.partition("/")[0] for path in tree if "/" in path} & tree.keys())
)
def test_any_tree_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]) -> None:
    tree = {path: File(content, executable=len(content) % 2 == 0) for path, content in contents.items()}
    manifest = Manifest.of(REF, {}, tree)
    root = tmp_path_factory.mktemp("project")
    write_state(root, manifest, tree)
    assert read_state(root) == (manifest, tree)


def test_the_manifest_is_written_last() -> None:
    assert list(state_bytes(MANIFEST, TREE))[-2:] == [BASELINE_PATH, MANIFEST_PATH]


def test_a_failed_write_leaves_the_state_before_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_state(project, Manifest.of(REF, {}, {}), {})
    assert read_state(project) == (MANIFEST, TREE)
    assert sorted(os.listdir(project / ".paccel")) == STATE_NAMES


def test_comments_of_a_baseline_are_ignored(project: Path) -> None:
    """paccel 0.1.0 kept a hash in the comment of each entry."""
    with zipfile.ZipFile(project / BASELINE_PATH) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(project / BASELINE_PATH, "w") as archive:
        for entry, content in entries:
            entry.comment = b"0" * 64
            archive.writestr(entry, content)
    assert read_state(project) == (MANIFEST, TREE)


def test_what_is_damaged_and_what_to_do_are_told_apart(project: Path) -> None:
    (project / BASELINE_PATH).write_bytes(pack(("a", b"1"), ("../x", b"2")))
    with pytest.raises(StateError) as caught:
        read_state(project)
    assert caught.value.problem == (
        "`.paccel/baseline.zip` is damaged: it holds a name that cannot be used"
        " (A file path leads outside the project: `../x`)"
    )
    assert "doctor --rebuild-baseline" in caught.value.remedy
    assert str(caught.value) == f"{caught.value.problem}; {caught.value.remedy}"


def test_a_folder_without_a_manifest_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="paccel adopt"):
        read_state(tmp_path)


def test_a_missing_baseline_names_the_way_back(project: Path) -> None:
    (project / BASELINE_PATH).unlink()
    with pytest.raises(PreconditionError, match=r"is missing.*doctor --rebuild-baseline"):
        read_state(project)


def test_conflict_markers_in_the_manifest_name_the_way_back(project: Path) -> None:
    (project / MANIFEST_PATH).write_text("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n")
    with pytest.raises(PreconditionError, match=r"git conflict markers.*doctor --rebuild-baseline"):
        read_state(project)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"', "[" * 100_000, "\ufffd"])
def test_a_manifest_that_is_not_an_object_is_damaged(project: Path, text: str) -> None:
    (project / MANIFEST_PATH).write_text(text)
    with pytest.raises(PreconditionError, match="damaged"):
        read_state(project)


def test_a_manifest_that_is_not_text_is_damaged(project: Path) -> None:
    (project / MANIFEST_PATH).write_bytes(b"\xff\xfe{}")
    with pytest.raises(PreconditionError, match="not UTF-8"):
        read_state(project)


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_asks_for_a_newer_paccel(project: Path, schema: object) -> None:
    edit_manifest(project, schema=schema)
    with pytest.raises(PreconditionError, match="pip install -U paccel"):
        read_state(project)


@pytest.mark.parametrize(
    "changes",
    [
        {"paccel": 1},
        {"template": {}},
        {"template": {"source": "a", "name": "b", "version": None}},
        {"answers": []},
        {"answers": {"a": 1}},
        {"skipped": "train.py"},
        {"skipped": [1]},
        {"skipped": ["../x"]},
        {"files": {"/etc/passwd": {"sha256": "0" * 64, "executable": False}}},
        {"files": {"../x": {"sha256": "0" * 64, "executable": False}}},
        {"files": {"a": {"sha256": "0", "executable": False}}},
        {"files": {"a": {"sha256": "0" * 64, "executable": 1}}},
        {"files": {"a": "0"}},
        {"files": {"a": {"sha256": "0" * 64, "executable": False, "unformatted": 1}}},
        {"files": {"a\0b": {"sha256": "0" * 64, "executable": False}}},
        {"files": {"a\udce9": {"sha256": "0" * 64, "executable": False}}},
        {"skipped": ["a\udce9"]},
        {"answers_sha256": "0"},
        {"answers_sha256": None},
        {"template": {"source": "a\0b", "name": "b", "version": "0", "release": ""}},
    ],
)
def test_a_manifest_with_wrong_entries_is_damaged(project: Path, changes: dict[str, object]) -> None:
    edit_manifest(project, **changes)
    with pytest.raises(PreconditionError, match="damaged"):
        read_manifest(project)


def test_answers_edited_in_the_manifest_are_noticed(project: Path) -> None:
    assert not read_manifest(project).answers_edited
    edit_manifest(project, answers=dict(reversed(MANIFEST.answers.items())))
    assert not read_manifest(project).answers_edited  # the order of keys is no answer
    edit_manifest(project, answers={**MANIFEST.answers, "ema": False})
    assert read_manifest(project).answers_edited


def test_a_manifest_of_paccel_0_1_0_has_no_edited_answers(project: Path) -> None:
    data = json.loads((project / MANIFEST_PATH).read_text())
    del data["answers_sha256"]
    (project / MANIFEST_PATH).write_text(json.dumps(data))
    assert not read_manifest(project).answers_edited
    assert read_manifest(project) == MANIFEST._replace(answers_sha256="")


def test_a_source_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    manifest = MANIFEST._replace(template=REF._replace(source=os.fsdecode(b"/caf\xe9/\xc3\xbc")))
    write_state(tmp_path, manifest, TREE)
    assert read_manifest(tmp_path) == manifest
    assert "/\u00fc".encode() in (tmp_path / MANIFEST_PATH).read_bytes()


def test_a_file_name_that_is_not_utf8_is_refused() -> None:
    tree = {"caf\udce9.py": File(b"")}
    with pytest.raises(TemplateError, match="not valid Unicode"):
        state_bytes(Manifest.of(REF, {}, tree), tree)


def test_a_search_and_replace_over_all_files_finds_nothing_in_the_baseline(tmp_path: Path) -> None:
    tree = {"train.py": File(b"learning_rate = 0.1\n" * 50)}
    write_state(tmp_path, Manifest.of(REF, {}, tree), tree)
    content = (tmp_path / BASELINE_PATH).read_bytes()
    assert b"learning_rate" not in content
    assert len(content) < 500


def test_a_byte_order_mark_and_other_line_ends_are_no_damage(project: Path) -> None:
    text = (project / MANIFEST_PATH).read_bytes()
    (project / MANIFEST_PATH).write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert read_state(project) == (MANIFEST, TREE)


@pytest.mark.parametrize("path", [MANIFEST_PATH, BASELINE_PATH])
def test_a_pointer_of_git_lfs_names_the_way_back(project: Path, path: str) -> None:
    (project / path).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(StateError, match=r"is only a pointer of Git LFS; fetch the file with `git lfs pull`"):
        read_state(project)


@pytest.mark.parametrize("path", [MANIFEST_PATH, BASELINE_PATH])
@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_a_state_that_is_no_file_is_damaged(project: Path, path: str, kind: str) -> None:
    if kind == "fifo" and os.name == "nt":
        pytest.skip("no FIFOs there")
    (project / path).unlink()
    (project / path).mkdir() if kind == "folder" else os.mkfifo(project / path)
    with pytest.raises(StateError, match="is damaged: it is not a regular file"):
        read_state(project)


def test_manifest_and_baseline_must_belong_together(project: Path) -> None:
    archives = {
        "only the manifest has": pack(("train.py", b"print(1)\n")),
        "only the baseline has `z`": state_bytes(
            Manifest.of(REF, {}, TREE | {"z": File(b"")}), TREE | {"z": File(b"")}
        )[BASELINE_PATH],
        "`empty` is not what the manifest recorded": state_bytes(
            Manifest.of(REF, {}, TREE | {"empty": File(b"x")}), TREE | {"empty": File(b"x")}
        )[BASELINE_PATH],
        "`train.py` is not what the manifest recorded": state_bytes(
            Manifest.of(REF, {}, TREE | {"train.py": File(b"print(1)\n", True)}),
            TREE | {"train.py": File(b"print(1)\n", True)},
        )[BASELINE_PATH],
    }
    for message, archive in archives.items():
        (project / BASELINE_PATH).write_bytes(archive)
        with pytest.raises(PreconditionError, match=message):
            read_state(project)


@pytest.mark.parametrize("flip", range(0, 600, 7))
def test_a_flipped_byte_in_the_baseline_is_found_or_harmless(project: Path, flip: int) -> None:
    content = bytearray((project / BASELINE_PATH).read_bytes())
    content[flip % len(content)] ^= 0x41
    (project / BASELINE_PATH).write_bytes(content)
    try:
        state = read_state(project)
    except PreconditionError:
        return
    assert state == (MANIFEST, TREE)


@pytest.mark.parametrize("size", [0, 1, 30, 100, 400])
def test_a_truncated_baseline_is_damaged(project: Path, size: int) -> None:
    (project / BASELINE_PATH).write_bytes((project / BASELINE_PATH).read_bytes()[:size])
    with pytest.raises(PreconditionError, match="damaged"):
        read_state(project)


@pytest.mark.parametrize(
    "archive",
    [
        pack(("../x", b"")),
        pack(("/x", b"")),
        pack(("a/../../x", b"")),
        pack(("a\\..\\x", b"")),
        pack(("C:x", b"")),
        pack((".git/hooks/pre-commit", b"")),
        pack((".paccel/manifest.json", b"")),
        pack(("folder/", b"")),
        pack(("link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
        pack(("pipe", b""), mode=stat.S_IFIFO | 0o644),
        pack(("bomb", b"\0" * 10_000_000), compress=zipfile.ZIP_DEFLATED),
    ],
)
def test_a_hostile_baseline_is_refused(project: Path, archive: bytes) -> None:
    (project / BASELINE_PATH).write_bytes(archive)
    with pytest.raises(PreconditionError, match="damaged"):
        read_state(project)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(project: Path) -> None:
    (project / BASELINE_PATH).write_bytes(pack(("a", b"1"), ("a", b"2")))
    with pytest.raises(PreconditionError, match="twice"):
        read_state(project)


def test_a_declared_size_beyond_the_archive_is_refused(project: Path) -> None:
    archive = bytearray(pack(("a", b"x" * 10)))
    central = archive.index(b"PK\x01\x02")
    archive[central + 24 : central + 28] = (2**31).to_bytes(4, "little")
    (project / BASELINE_PATH).write_bytes(archive)
    with pytest.raises(PreconditionError, match="damaged"):
        read_state(project)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")
def test_a_state_behind_a_symbolic_link_is_refused(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / ".paccel").symlink_to(project / ".paccel")
    with pytest.raises(PreconditionError):
        read_state(other)


@pytest.mark.parametrize(
    "path", [".git/config", ".GIT/config", "sub/.git/hooks/x", ".paccel/x", ".Paccel/x", "../x", "", "."]
)
def test_a_template_cannot_write_into_git_or_the_state(path: str) -> None:
    with pytest.raises(TemplateError):
        check_file_path(path)


@pytest.mark.parametrize("path", [".gitignore", ".github/workflows/ci.yml", "a/.gitkeep", "x.paccel"])
def test_names_that_only_begin_alike_are_fine(path: str) -> None:
    assert check_file_path(path) == path
