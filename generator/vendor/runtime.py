"""The installed runtime: its files, its licence and its requirements. It is read, never imported."""

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
"""The import name of the runtime in an ejected project: as long as `paccel.runtime`, so that no line is rewrapped."""

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
        version: The version of paccel that it was copied from.
        sha256: The hash of its files as they were copied.
    """

    path: str
    version: str
    sha256: str

    def renewed(self) -> "Vendored":
        """Return a copy at the same path, of the runtime that is installed now.

        Raises:
            PreconditionError: The runtime is not completely installed.
        """
        return vendored_at(self.path)


def vendored_at(path: str) -> Vendored:
    """Describe a copy of the installed runtime in a folder of a project.

    Raises:
        PreconditionError: The runtime is not completely installed.
    """
    return Vendored(path, __version__, tree_hash(runtime_files()))


@cache
def runtime_files() -> Tree:
    """Return the files of the installed runtime by their paths in the package, with the licence.

    Raises:
        PreconditionError: The files or the licence are missing.
    """
    spec = find_spec("paccel.runtime")  # imports only its parent
    places = spec.submodule_search_locations if spec is not None else None
    tree = dict(read_tree(Path(os.path.realpath(places[0])))) if places else {}
    licence = next((text for text in map(_metadata_text, ("licenses/LICENSE", "LICENSE")) if text), None)
    if "__init__.py" not in tree or licence is None:
        raise PreconditionError(
            "The runtime of this paccel, or its licence, is missing: reinstall paccel with `pip install"
            " --force-reinstall --no-deps paccel`"
        )
    own = {"LICENSE": licence.encode(), "ruff.toml": _LINTER_SETTINGS, ".gitignore": _GIT_SETTINGS}
    return dict(sorted({**tree, **{path: File(content) for path, content in own.items()}}.items()))


def find_vendored(root: Path) -> Vendored | None:
    """Find the copy of the runtime in a project whose manifest is lost; None if it has none."""
    places = [PACKAGE, *(f"{folder.name}/{PACKAGE}" for folder in sorted(root.iterdir()) if folder.is_dir())]
    found = [
        place for place in places if (root / place / "__init__.py").is_file() and (root / place / "run.py").is_file()
    ]
    return vendored_at(found[0]) if found else None


@cache
def runtime_requirements() -> Mapping[str, str]:
    """Return the requirements of the installed runtime: name -> requirement with its bounds.

    Raises:
        PreconditionError: They are not known, as paccel was not installed by pip or the like.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    listed = next((installed.requires for installed in _installed() if installed.requires), [])
    needed = [
        one
        for one in map(Requirement, listed)
        if one.marker and one.marker.evaluate({"extra": "runtime"}) and not one.marker.evaluate({"extra": ""})
    ]
    if not needed:
        raise PreconditionError(
            "The requirements of the runtime are not known: install paccel with `pip install paccel`"
        )
    return {canonicalize_name(one.name): f"{one.name}{one.specifier}" for one in needed}


def _metadata_text(name: str) -> str | None:
    return next((text for installed in _installed() if (text := installed.read_text(name))), None)


def _installed() -> "Iterator[Distribution]":
    """Return the installed distributions of paccel: two if a build left an `egg-info` next to it."""
    from importlib.metadata import distributions  # slow to import, and rarely needed

    return iter(distributions(name="paccel"))
