"""The renames in releases of the runtime: a data file, so that the runtime itself is never imported."""

from pathlib import Path

from ..catalog.metadata import Metadata, parse_metadata

FILE = Path(__file__).with_name("runtime.toml")
"""In the format of a template's `paccel.toml`, with the versions of paccel."""


def runtime_metadata() -> Metadata:
    """Read the renames of the runtime."""
    return parse_metadata(FILE.read_text(encoding="utf-8"), FILE.name)
