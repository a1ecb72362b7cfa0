"""File names that are allowed: those that mean the same file on every disk.

A name that is harmless on Linux can mean `.git` on Windows or macOS, where a template could install a git hook with it. The
rules are those of git (`core.protectNTFS`, `core.protectHFS`) and of Windows, applied on every system.
"""

import re
import unicodedata

_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"
}
_NOT_ON_WINDOWS = '<>:"|?*\\'


def problem_of_name(name: str) -> str:
    """Return why a name is not allowed, as a text that reads on after the name; empty if it is allowed."""
    if not is_text(name):
        return "has control characters or is not valid Unicode"
    if any(sign in name for sign in _NOT_ON_WINDOWS):
        return f"has one of the characters {_NOT_ON_WINDOWS}, which Windows does not allow"
    if name.endswith((".", " ")):
        return "ends with a period or a space, which Windows drops"
    if name.partition(".")[0].rstrip(" ").casefold() in _DEVICES:
        return "is the name of a device on Windows"
    return ""


def is_text(name: str) -> bool:
    """Whether a text can be written as UTF-8 and has no control characters."""
    is_plain = name.isascii() and name.isprintable()  # the fast path for nearly every name
    return is_plain or not any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in name)


def is_spelling_of(name: str, folder: str) -> bool:
    """Whether `name` means the hidden folder `folder` on some disk.

    NTFS drops periods and spaces at the end and everything after a colon, and has short names for long ones. HFS+ ignores
    invisible characters. Both ignore case.
    """
    visible = name if name.isascii() else "".join(sign for sign in name if not _is_invisible(sign))
    plain = visible.partition(":")[0].rstrip(". ").casefold()
    return plain == folder or re.fullmatch(rf"{folder[1:]}~[0-9]+", plain) is not None


def folded(path: str) -> str:
    """Normalize a path: paths that mean the same file on macOS or Windows become equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _is_invisible(sign: str) -> bool:
    return unicodedata.category(sign) == "Cf" or "\ufe00" <= sign <= "\ufe0f" or sign == "\u034f"
