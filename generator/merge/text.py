"""A text file as lines, apart from their endings: line endings never cause a conflict, and no byte is lost."""

import codecs
from collections.abc import Sequence
from typing import NamedTuple

from .diff import match


class Text(NamedTuple):
    """A text file: its lines without their endings, and what the endings are.

    Bytes that are not UTF-8 become lone surrogates, so `encode` restores exactly what was decoded.

    Attributes:
        lines: Split at LF only; a form feed or a lone CR is part of a line.
        crlf: For each line, whether it ends with CRLF; False for a last line without a newline.
        bom: Whether the file starts with a UTF-8 byte order mark.
        final_newline: Whether the last line ends with a newline.
    """

    lines: tuple[str, ...]
    crlf: tuple[bool, ...]
    bom: bool = False
    final_newline: bool = True

    @property
    def mostly_crlf(self) -> bool:
        return sum(self.crlf) * 2 > len(self.crlf)


def is_binary(content: bytes) -> bool:
    """Whether `content` cannot be merged by lines: it has a zero byte, as UTF-16 has too."""
    return b"\0" in content


def decode(content: bytes) -> Text:
    """Split the bytes of a text file into lines; `encode` is the inverse."""
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
    """Join the lines to the file's bytes."""
    ends = ["\r\n" if crlf else "\n" for crlf in text.crlf]
    if ends and not text.final_newline:
        ends[-1] = ""
    body = "".join(line + end for line, end in zip(text.lines, ends, strict=True))
    return (codecs.BOM_UTF8 if text.bom else b"") + body.encode("utf-8", "surrogateescape")


def dress(lines: Sequence[str], base: Text | None, ours: Text, theirs: Text) -> Text:
    """Give merged lines the user's line endings, byte order mark and final newline, or the template's if only it changed them."""
    wanted = ours.mostly_crlf
    if theirs.lines and base is not None and (base.mostly_crlf == ours.mostly_crlf or not ours.lines):
        wanted = theirs.mostly_crlf  # an empty file has no line endings to keep
    crlf = [wanted] * len(lines)
    if len(set(ours.crlf[: len(ours.crlf) - (not ours.final_newline)])) > 1:
        # Mixed line endings stay as they are: changing them would be an edit that nobody made.
        for i, j in match(lines, ours.lines):
            crlf[i] = ours.crlf[j]
    bom, final = ours.bom, ours.final_newline
    if base is not None:
        bom = theirs.bom if ours.bom == base.bom else ours.bom
        final = theirs.final_newline if ours.final_newline == base.final_newline else ours.final_newline
    # A blank last line exists only by its newline.
    final = final or list(lines[-1:]) == [""]
    return ours._replace(lines=tuple(lines), crlf=tuple(crlf), bom=bom, final_newline=final)
