"""Read a ZIP file that somebody else made: every name checked, every size known before it is unpacked."""

import io
import stat
import zipfile

from ..errors import TemplateError
from .tree import File, check_path

MAX_FILES = 20_000
MAX_BYTES = 256 * 2**20


class ArchiveError(TemplateError):
    """Raised when a ZIP file cannot be read.

    Attributes:
        reason: What is wrong, to be read after the file's name.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"`{where}` {reason}")
        self.reason = reason


def read_zip(content: bytes, where: str) -> dict[str, File]:
    """Return the files of a ZIP file; `where` names it in errors.

    Raises:
        ArchiveError: It is not one, a name leads out of it or comes twice, it holds links, or it is too large.
    """
    files: dict[str, File] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise ArchiveError(where, f"unpacks to more than {MAX_FILES} files or {MAX_BYTES // 2**20} MiB")
            for entry in entries:
                path = check_path(entry.filename)
                if path in files:
                    raise ArchiveError(where, f"holds `{path}` twice")
                mode = entry.external_attr >> 16
                if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                    raise ArchiveError(where, f"holds `{path}`, which is not a regular file")
                data = archive.read(entry)  # never more than the archive says
                if len(data) != entry.file_size:
                    raise ArchiveError(where, f"holds `{path}`, which is not as large as the archive says")
                files[path] = File(data, bool(mode & 0o100))
    except ArchiveError:
        raise
    except TemplateError as error:
        raise ArchiveError(where, f"holds a name that cannot be used ({error})") from error
    except Exception as error:  # zipfile, zlib and struct raise many kinds for what is broken
        raise ArchiveError(where, f"is not a ZIP file that can be read: {error}") from error
    return files
