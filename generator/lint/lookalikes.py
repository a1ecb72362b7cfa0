"""Find text that looks like Jinja but is not rendered."""

import re
from collections.abc import Iterator

from ..sandbox.context import Context
from .finding import Finding
from .sources import Source, Sources

_STATEMENTS = (
    "if|elif|else|endif|for|endfor|set|include|import|from|macro|endmacro|raw|endraw|block|endblock|with|endwith"
)
_SPACED = re.compile(rf"\{{[ \t]+\{{[^{{}}\n]*\bcookiecutter\b|\{{[ \t]+%-?[ \t]*(?:{_STATEMENTS})\b[^\n]*%[ \t]*\}}")
_SINGLE = re.compile(r"(?<![{$])\{[ \t]*cookiecutter\.\w+[ \t]*\}(?!\})")
_USUAL = re.compile(r"\{\{-?[ \t]*cookiecutter\.\w+")


def check_lookalikes(sources: Sources) -> Iterator[Finding]:
    """Find delimiters with a space in them, single braces, and Jinja's default delimiters where the template sets others."""
    for source in sources.texts:
        context = Context(source.layer.entries, source.layer.name)
        environment = context.environment
        if source.kind in {"copied", "path", "entry"} or source.tree is None:
            continue
        raw = _raw_lines(source, environment.block_start_string)
        for number, line in enumerate(source.text.splitlines(), 1):
            if number in raw:
                continue
            for reason in _reasons(line, environment.line_statement_prefix, environment.variable_start_string):
                yield Finding("not-jinja", source.path, source.at(number), reason)


def _reasons(line: str, prefix: str | None, opening: str) -> Iterator[str]:
    found = _SPACED.search(line)
    if found:
        line = line.replace(found[0], "")
        yield f"`{found[0].strip()}` has a space inside its delimiter, so Jinja does not render it"
    found = _SINGLE.search(line)
    if found and opening == "{{":
        yield f"`{found[0]}` has one brace, so Jinja does not render it: write `{{{found[0]}}}`"
    found = _USUAL.search(line)
    if found and opening != "{{" and opening not in line:
        yield f"`{found[0]}` is not rendered: this template's expressions begin with `{opening}`"
    if prefix:
        sign = re.escape(prefix.strip()[0])
        end = re.escape(prefix.strip()[-1])
        written = line.strip()
        looks = re.match(rf"{sign}+[ \t]*{end}+[ \t]*(?:{_STATEMENTS})\b", written)
        if looks and not written.startswith(prefix):
            yield f"`{written}` is not a statement: those of this template begin with `{prefix}`"


def _raw_lines(source: Source, opening: str) -> set[int]:
    """Return the lines between `raw` and `endraw`."""
    lines: set[int] = set()
    for found in re.finditer(rf"{re.escape(opening)}[-+]?\s*raw\b.*?\bendraw\b", source.text, re.DOTALL):
        first = source.text.count("\n", 0, found.start()) + 1
        lines |= {*range(first, first + found[0].count("\n") + 1)}
    return lines
