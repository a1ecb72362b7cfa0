"""A file's bytes as lines and what surrounds them, so that line ends never make a conflict and no byte is lost."""

import codecs
from collections.abc import Sequence
from typing import NamedTuple

from .diff import match


class Text(NamedTuple):
    """A text file: its lines without their ends, and how it ends them.

    Bytes that are not UTF-8 are carried as lone surrogates, so `encode` gives back exactly what was decoded.

    Attributes:
        lines: Split at LF only; a form feed or a lone CR is part of a line.
        crlf: Whether each line ended with CRLF (for a last line without an end: False).
        bom: Whether the file began with UTF-8's byte order mark.
        final_newline: Whether the last line had an end.
    """

    lines: tuple[str, ...]
    crlf: tuple[bool, ...]
    bom: bool = False
    final_newline: bool = True

    @property
    def mostly_crlf(self) -> bool:
        return sum(self.crlf) * 2 > len(self.crlf)


def is_binary(content: bytes) -> bool:
    """Whether `content` is not text that can be merged by lines: it holds a zero byte, as UTF-16 does too."""
    return b"\0" in content


def decode(content: bytes) -> Text:
    """Take the bytes of a text file apart; `encode` is its inverse."""
    bom = content.startswith(codecs.BOM_UTF8)
    body = content[len(codecs.BOM_UTF8) :] if bom else content
    if not body:
        return Text((), (), bom, final_newline=True)
    parts = body.decode("utf-8", "surrogateescape").split("\n")
    final_newline = parts[-1] == ""
    if final_newline:
        parts.pop()
    ended = len(parts) if final_newline else len(parts) - 1
    crlf = tuple(i < ended and line.endswith("\r") for i, line in enumerate(parts))
    lines = tuple(line[:-1] if ends else line for line, ends in zip(parts, crlf, strict=True))
    return Text(lines, crlf, bom, final_newline)


def encode(text: Text) -> bytes:
    """Return the file's bytes."""
    ends = ["\r\n" if crlf else "\n" for crlf in text.crlf]
    if ends and not text.final_newline:
        ends[-1] = ""
    body = "".join(line + end for line, end in zip(text.lines, ends, strict=True))
    return (codecs.BOM_UTF8 if text.bom else b"") + body.encode("utf-8", "surrogateescape")


def dress(lines: Sequence[str], base: Text | None, ours: Text, theirs: Text) -> Text:
    """Give merged lines the line ends, byte order mark and final newline of the user's file, or the template's change of them."""
    wanted = ours.mostly_crlf
    if theirs.lines and base is not None and (base.mostly_crlf == ours.mostly_crlf or not ours.lines):
        wanted = theirs.mostly_crlf  # an empty file has no line ends to keep
    crlf = [wanted] * len(lines)
    if len(set(ours.crlf[: len(ours.crlf) - (not ours.final_newline)])) > 1:
        # A file of mixed ends keeps each line's own: changing them would be an edit that nobody made.
        for i, j in match(lines, ours.lines):
            crlf[i] = ours.crlf[j]
    bom, final = ours.bom, ours.final_newline
    if base is not None:
        bom = theirs.bom if ours.bom == base.bom else ours.bom
        final = theirs.final_newline if ours.final_newline == base.final_newline else ours.final_newline
    # Without its end, a last line that is blank would be none.
    final = final or list(lines[-1:]) == [""]
    return ours._replace(lines=tuple(lines), crlf=tuple(crlf), bom=bom, final_newline=final)
