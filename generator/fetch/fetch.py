"""Fetch a template: find its folder on this disk, unpack or download its ZIP file, or clone its git repository."""

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
        folder: The template's folder.
        within: The archive's or repository's top folder, which no link may leave; None for a folder of this disk.
        commit: The commit of a git repository; empty for others.
        unfetched: Submodules that could not be fetched -> why.
    """

    folder: Path
    within: Path | None = None
    commit: str = ""
    unfetched: Mapping[Path, str] = {}


@contextmanager
def fetched(address: Address) -> Iterator[Fetched]:
    """Yield the template at an address. What was downloaded or cloned is removed after the block.

    Raises:
        TemplateError: The template cannot be fetched, or there is none.
    """
    if address.kind == "folder":
        yield Fetched(find_template(Path(address.place), address))
        return
    with scratch_dir() as scratch:
        # A template at the top of an archive or repository has its name.
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
