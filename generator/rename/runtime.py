"""What the runtime's own releases renamed: data beside this file, so that the runtime itself is never imported."""

from pathlib import Path

from ..catalog.metadata import Metadata, parse_metadata

FILE = Path(__file__).with_name("runtime.toml")
"""In the words of a template's `paccel.toml`; its versions are paccel's."""


def runtime_metadata() -> Metadata:
    """Read it."""
    return parse_metadata(FILE.read_text(encoding="utf-8"), FILE.name)
