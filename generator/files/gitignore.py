"""The patterns of a `.gitignore`, read as git reads them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


def ignore_spec(text: str) -> "GitIgnoreSpec":
    """Return the patterns of a `.gitignore`. Like git, skip lines that are not valid patterns."""
    from pathspec import GitIgnoreSpec  # few commands need it

    patterns: list[Any] = []
    for line in text.splitlines():
        try:
            patterns += GitIgnoreSpec.from_lines([line]).patterns
        except ValueError:
            continue
    return GitIgnoreSpec(patterns)
