"""The runtime that is installed beside this generator: its files, its licence and what it needs. It is read, never imported."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import __version__
from ..errors import PreconditionError
from ..files.tree import File, Tree, read_tree, tree_hash

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PACKAGE = "paccel_runtime"
"""The name that the runtime is imported by in an ejected project: as long as `paccel.runtime`, so no line is wrapped anew."""

_LINTER_SETTINGS = b"""\
# The runtime has its own style: the project's rules for ruff do not apply here.
line-length = 120

[lint]
select = ["F"]
"""

_GIT_SETTINGS = b"""\
# All of the runtime belongs in git, even if the project ignores folders called `data` or the like.
!*
__pycache__/
*.py[co]
"""


class Vendored(NamedTuple):
    """The copy of the runtime in a project.

    Attributes:
        path: Its folder in the project.
        version: The paccel that it came with.
        sha256: Over its files as they were copied.
    """

    path: str
    version: str
    sha256: str

    def renewed(self) -> "Vendored":
        """The same place, with the runtime that is installed now.

        Raises:
            PreconditionError: There is none.
        """
        return vendored_at(self.path)


def vendored_at(path: str) -> Vendored:
    """Describe a copy of the installed runtime in a folder of a project.

    Raises:
        PreconditionError: The runtime is not installed whole.
    """
    return Vendored(path, __version__, tree_hash(runtime_files()))


@cache
def runtime_files() -> Tree:
    """Return the files of the installed runtime, by their paths in its package, with its licence.

    Raises:
        PreconditionError: The files or the licence are not there.
    """
    spec = find_spec("paccel.runtime")  # finds its parent, and imports nothing else
    places = spec.submodule_search_locations if spec is not None else None
    tree = dict(read_tree(Path(os.path.realpath(places[0])))) if places else {}
    licence = next((text for text in map(_metadata_text, ("licenses/LICENSE", "LICENSE")) if text), None)
    if "__init__.py" not in tree or licence is None:
        raise PreconditionError(
            "The runtime of this paccel, or its licence, is missing: install paccel again with `pip install"
            " --force-reinstall --no-deps paccel`"
        )
    own = {"LICENSE": licence.encode(), "ruff.toml": _LINTER_SETTINGS, ".gitignore": _GIT_SETTINGS}
    return dict(sorted({**tree, **{path: File(content) for path, content in own.items()}}.items()))


def find_vendored(root: Path) -> Vendored | None:
    """Find the copy of the runtime in a project that has no record of it."""
    places = [PACKAGE, *(f"{folder.name}/{PACKAGE}" for folder in sorted(root.iterdir()) if folder.is_dir())]
    found = [
        place for place in places if (root / place / "__init__.py").is_file() and (root / place / "run.py").is_file()
    ]
    return vendored_at(found[0]) if found else None


@cache
def runtime_requirements() -> Mapping[str, str]:
    """Return what the runtime needs, as installed: name -> requirement with its bounds.

    Raises:
        PreconditionError: This paccel was not installed by pip or the like, so that it is not known.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    listed = next((installed.requires for installed in _installed() if installed.requires), [])
    found = [requirement for requirement in map(Requirement, listed) if requirement.marker is not None]
    needed = [one for one in found if one.marker and one.marker.evaluate({"extra": "runtime"})]
    needed = [one for one in needed if one.marker and not one.marker.evaluate({"extra": ""})]
    if not needed:
        raise PreconditionError("What the runtime needs is not known: install paccel with `pip install paccel`")
    return {canonicalize_name(one.name): f"{one.name}{one.specifier}" for one in needed}


def _metadata_text(name: str) -> str | None:
    return next((text for installed in _installed() if (text := installed.read_text(name))), None)


def _installed() -> "Iterator[Distribution]":
    """What Python knows of paccel: more than once where it runs beside the `egg-info` that a build has left."""
    from importlib.metadata import distributions  # slow to import, and few commands need it

    return iter(distributions(name="paccel"))
