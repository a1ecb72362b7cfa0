"""Find declarations for upgrades that lack the version from which they apply."""

import tomllib
from collections.abc import Iterator

from ..catalog.metadata import METADATA_FILE
from .finding import Finding
from .sources import Sources

KINDS = ("renamed_api", "rewrites", "changed_meaning")


def check_versions(sources: Sources) -> Iterator[Finding]:
    """Find declarations without `since`: every upgrade applies them, even to code that was written for the new version."""
    for path, text in sources.files.items():
        if path.rpartition("/")[2] != METADATA_FILE or path.count("/") > path.count("../"):
            continue
        lines = text.splitlines()
        for kind in KINDS:
            heads = [number for number, line in enumerate(lines, 1) if line.strip().startswith(f"[[{kind}]]")]
            tables = tomllib.loads(text).get(kind, ())
            for place, table in enumerate(tables):
                if not table.get("since"):
                    line = heads[place] if len(heads) == len(tables) else 1
                    again = "report it" if kind == "changed_meaning" else "apply it"
                    message = f"this `{kind}` has no `since`, so every upgrade would {again} again: name the version that made it"
                    yield Finding("no-since", path, line, message)
