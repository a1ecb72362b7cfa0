"""Fetch a template that is not a folder of this disk: unpack or download a ZIP file, or clone a git repository."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import TemplateError
from ..files.archive import unpack
from ..files.names import problem_of_name
from ..files.scratch import scratch_dir
from ..files.tree import MAX_BYTES
from .address import Address
from .clone import clone
from .download import download
from .nested import find_template


class Fetched(NamedTuple):
    """A template's folder on the disk.

    Attributes:
        folder: The template.
        within: The folder that was fetched, which no link may leave; None where nothing was fetched.
        commit: The commit of a git repository; else empty.
        unfetched: Submodules whose files are missing -> why.
    """

    folder: Path
    within: Path | None
    commit: str = ""
    unfetched: Mapping[Path, str] = {}


@contextmanager
def fetched(address: Address) -> Iterator[Fetched]:
    """Fetch a ZIP file or git repository and yield the template in it; it is removed afterwards.

    Raises:
        TemplateError: It cannot be fetched, or contains no template.
    """
    with scratch_dir() as scratch:
        # The folder is named as the archive or repository is: that is the template's name, where it has no folder there.
        top = scratch.resolve() / (address.name if address.name and not problem_of_name(address.name) else "template")
        if address.kind == "zip":
            unpack(_content(address), address.shown, top)
            yield Fetched(find_template(top, address), top)
        else:
            cloned = clone(address, top)
            folder = find_template(top, address)
            yield Fetched(folder, top, cloned.commit, {top / path: why for path, why in cloned.unfetched.items()})


def _content(address: Address) -> bytes:
    if "://" in address.place:
        return download(address)
    with open(address.place, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TemplateError(f"`{address.shown}` is larger than {MAX_BYTES // 2**20} MiB")
    return content
