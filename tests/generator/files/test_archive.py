"""ZIP files from untrusted sources are read completely, or refused with a reason."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from paccel.errors import TemplateError
from paccel.files.archive import read_zip, unpack
from paccel.files.tree import read_tree


def zipped(entries: dict[str, bytes], mode: int = stat.S_IFREG) -> bytes:
    """A ZIP file with exactly these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = (mode | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def test_backslashes_are_slashes_and_a_path_may_begin_with_a_dot() -> None:
    files = read_zip(zipped({"./": b"", "demo\\": b"", "demo\\sub\\a.txt": b"x", "./demo/b.txt": b"y"}), "a.zip")
    assert {path: file.content for path, file in files.items()} == {"demo/sub/a.txt": b"x", "demo/b.txt": b"y"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped({"..\\x": b""}), "leads outside"),
        (zipped({"\\x": b""}), "leads outside"),
        (zipped({"a\\b": b"", "a/b": b""}), "holds `a/b` twice"),
        (zipped({"a": b"", "a/b": b""}), "holds `a` as a file and as a folder"),
        (zipped({"x": b""}, stat.S_IFIFO), "not a regular file"),
        (zipped({"a\x1bb": b""}), "control characters"),
    ],
)
def test_names_that_no_folder_can_have_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_zip(content, "a.zip")


def test_an_encrypted_zip_file_is_named_so() -> None:
    content = bytearray(zipped({"a": b"secret"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    with pytest.raises(TemplateError, match=r"`a\.zip` is encrypted: unpack it"):
        read_zip(bytes(content), "a.zip")


def test_a_list_of_files_is_counted_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.files.archive.MAX_FILES", 1)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", None)
    with pytest.raises(TemplateError, match="has more than 1 files"):
        read_zip(zipped({str(number): b"" for number in range(11)}), "a.zip")


def test_links_are_made_after_all_files_and_never_written_through(tmp_path: Path) -> None:
    buffer = io.BytesIO(zipped({"docs/a.txt": b"x"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "docs")
    unpack(buffer.getvalue(), "a.zip", tmp_path / "out")
    assert sorted(read_tree(tmp_path / "out", within=tmp_path / "out")) == ["docs/a.txt", "link/a.txt"]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("link/b.txt", "through")
    with pytest.raises(TemplateError, match="holds `link` as a file and as a folder"):
        unpack(buffer.getvalue(), "a.zip", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "mode"), [("../x", stat.S_IFREG), ("/x", stat.S_IFREG), ("C:\\x", stat.S_IFREG), ("x", stat.S_IFLNK)]
)
def test_hostile_zip_files_are_refused(name: str, mode: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.filename = name
        info.external_attr = (mode | 0o644) << 16
        archive.writestr(info, b"x")
    with pytest.raises(TemplateError):
        read_zip(buffer.getvalue(), "a.zip")


def test_zip_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.files.archive.MAX_BYTES", 1000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 2000)
    with pytest.raises(TemplateError, match="unpacks to more than"):
        read_zip(buffer.getvalue(), "a.zip")


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"not a zip"])
def test_what_is_no_zip_file_is_explained(content: bytes) -> None:
    with pytest.raises(TemplateError, match="is not a ZIP file"):
        read_zip(content, "a.zip")


def test_a_page_that_asks_for_a_login_is_named_so() -> None:
    with pytest.raises(TemplateError, match="is a web page, not a ZIP file: the address may be wrong, or need a login"):
        read_zip(b"\n<!DOCTYPE html><html>Sign in</html>", "https://host/a.zip")
