"""Read a ZIP file from an untrusted source: every name is checked, and sizes are limited before unpacking."""

import io
import os
import posixpath
import stat
import zipfile
from pathlib import Path

from ..errors import TemplateError
from .names import is_text
from .tree import MAX_BYTES, MAX_FILES, File, check_path, write_tree

_DIRECTORY_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 1


class ArchiveError(TemplateError):
    """Raised when a ZIP file cannot be read.

    Attributes:
        reason: What is wrong; reads on after the file's name.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"`{where}` {reason}")
        self.reason = reason


def read_zip(content: bytes, where: str) -> dict[str, File]:
    """Return the files in a ZIP file; `where` names it in errors.

    Raises:
        ArchiveError: It is not a ZIP file, is too large, holds a link, a name twice, or a name that leads outside.
    """
    files, links = _read(content, where)
    if links:
        raise ArchiveError(where, f"holds `{min(links)}`, which is not a regular file")
    return files


def unpack(content: bytes, where: str, folder: Path) -> None:
    """Write the files and symbolic links of a ZIP file below `folder`, which need not exist. Links may lead anywhere.

    Raises:
        ArchiveError: See `read_zip`; links are allowed here.
    """
    files, links = _read(content, where)
    folder.mkdir(parents=True, exist_ok=True)
    write_tree(folder, files)
    for path, target in links.items():  # last, so that no file is written through a link
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(target, place)
        except OSError as error:  # on Windows, few users may create links
            raise ArchiveError(
                where, f"holds the symbolic link `{path}`, which cannot be created on this system: {error.strerror}"
            ) from error


def _read(content: bytes, where: str) -> tuple[dict[str, File], dict[str, str]]:
    """Return the files, and path -> target of the symbolic links."""
    files: dict[str, File] = {}
    links: dict[str, str] = {}
    if content.count(_DIRECTORY_ENTRY) > 10 * MAX_FILES:  # before the list of entries fills the memory
        raise ArchiveError(where, f"has more than {MAX_FILES} files")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Some programs write backslashes, or begin with `./`.
            entries = [(entry.filename.replace("\\", "/").removeprefix("./"), entry) for entry in archive.infolist()]
            entries = [(name, entry) for name, entry in entries if name and not name.endswith("/")]
            if len(entries) > MAX_FILES or sum(entry.file_size for _, entry in entries) > MAX_BYTES:
                raise ArchiveError(where, f"unpacks to more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB")
            for name, entry in entries:
                path = check_path(name)
                if path in files or path in links:
                    raise ArchiveError(where, f"holds `{path}` twice")
                mode = entry.external_attr >> 16
                kind = stat.S_IFMT(mode)
                if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
                    raise ArchiveError(where, f"holds `{path}`, which is not a regular file")
                if entry.flag_bits & _ENCRYPTED:
                    raise ArchiveError(where, "is encrypted: unpack it and give the folder")
                data = archive.read(entry)  # at most `file_size` bytes
                if len(data) != entry.file_size:
                    raise ArchiveError(where, f"holds `{path}`, whose size differs from the archive's directory")
                if kind == stat.S_IFLNK:
                    links[path] = _target(data, path, where)
                else:
                    files[path] = File(data, bool(mode & 0o100))
    except ArchiveError:
        raise
    except TemplateError as error:
        raise ArchiveError(where, f"holds a name that cannot be used ({error})") from error
    except zipfile.BadZipFile as error:
        reason = f"is not a ZIP file that can be read: {error}"
        if content.lstrip()[:1] == b"<":
            reason = "is a web page, not a ZIP file: the address may be wrong, or need a login"
        raise ArchiveError(where, reason) from error
    except Exception as error:  # zipfile, zlib and struct raise many kinds of errors
        raise ArchiveError(where, f"is not a ZIP file that can be read: {error}") from error
    for path in [*files, *links]:
        above = posixpath.dirname(path)
        while above:
            if above in files or above in links:
                raise ArchiveError(where, f"holds `{above}` as a file and as a folder")
            above = posixpath.dirname(above)
    return files, links


def _target(data: bytes, path: str, where: str) -> str:
    target = data.decode(errors="surrogateescape")
    if not target or not is_text(target):
        raise ArchiveError(where, f"holds the symbolic link `{path}`, whose target is not a path")
    return target
