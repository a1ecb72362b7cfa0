"""What `upgrade`, `set` and `diff` print, as text, Markdown and data for `--json`. Nothing here prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from click import style

from .report import cut

if TYPE_CHECKING:
    from ..check.finding import Finding
    from ..project.compare import FileDiff
    from ..upgrade.change import Summary
    from ..upgrade.follow import Following


def diff_text(diffs: "Sequence[FileDiff]") -> str:
    """Return unified diffs with colours."""
    colours = {"+": "green", "-": "red", "@": "cyan"}
    lines = []
    for diff in diffs:
        for line in diff.text.removesuffix("\n").split("\n"):
            heading = line.startswith(("diff ", "--- ", "+++ "))
            lines.append(style(line, bold=True) if heading else style(line, fg=colours.get(line[:1])))
    return "\n".join(lines)


def diff_data(diffs: "Sequence[FileDiff]") -> dict[str, Any]:
    return {"files": [{"path": diff.path, "status": diff.status, "diff": diff.text} for diff in diffs]}


def findings_text(findings: "Sequence[Finding]") -> str:
    """Describe each problem of a merged project, with the change of the other side that causes it."""
    lines = [style("Found in the merged project, and in neither version before:", fg="red", bold=True)]
    for finding in findings:
        where = finding.path + (f":{finding.line}" if finding.line else "")
        lines.append(f"  {style(where, bold=True)}  {finding.message} ({finding.tool}: {finding.rule})")
        if finding.text:
            lines.append(f"      {finding.text}")
        cause = finding.cause
        if cause is not None:
            who, has = ("the template", "has") if cause.side == "template" else ("you", "have")
            lines.append(f"    {cause.path}:{cause.line}  {who} {'removed' if cause.removed else has}")
            lines.append(f"      {cause.text}")
    return "\n".join(lines)


def follows_text(follows: "Following") -> str:
    """List the renames in the user's files, the uses to check, and what was skipped; empty if there is nothing."""
    lines: list[str] = []
    if follows.edits:
        lines.append(style("Your code follows", bold=True))
        lines += [
            f"  {edit.path}:{edit.line}  {_one_line(edit.old)} -> {_one_line(edit.new)}" for edit in follows.edits
        ]
    for uses in follows.meanings:
        lines.append(f"{style('Changed meaning', bold=True)} of {uses.name}: {uses.text}")
        lines += [
            f"  {use.path}:{use.line}  {use.text}" + ("" if use.certain else "  (perhaps: its class is not known)")
            for use in uses.uses
        ]
    if follows.unclear:
        lines.append(style("Look at these yourself", bold=True))
        lines += [f"  {place.path}:{place.line}  {place.reason}" for place in follows.unclear]
    if follows.skipped:
        lines.append(style("Not applied", bold=True))
        lines += [f"  {reason}" for reason in follows.skipped]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return cut(" ".join(text.split()), 60)


def upgrade_markdown(changes: "Sequence[Summary]", follows: "Following", conflicts: Sequence[str]) -> str:
    """Describe an upgrade for a pull request: each file with its reasons, the uses to check, the conflicts."""
    lines = ["| file | what happens | why |", "|---|---|---|"]
    for change in changes:
        reasons = "<br>".join(_cell(text) for text in (change.reason, *change.why) if text)
        lines.append(f"| {_code(change.path)} | {change.status} | {reasons} |")
    if not changes:
        lines = ["No files change; only paccel's own state is updated."]
    if conflicts:
        lines += [
            "",
            f"**Conflicts** in {', '.join(map(_code, conflicts))}. Check out this branch, resolve them, then run"
            " `paccel upgrade --continue` and commit everything.",
        ]
    for uses in follows.meanings:
        lines += ["", f"**Changed meaning** of {_code(str(uses.name))}: {_cell(uses.text)}", ""]
        lines += [f"- {_code(f'{use.path}:{use.line}')} {_code(use.text)}" for use in uses.uses]
    if follows.unclear:
        lines += ["", "**Look at these yourself**", ""]
        lines += [f"- {_code(f'{place.path}:{place.line}')} {_cell(place.reason)}" for place in follows.unclear]
    if follows.skipped:
        lines += ["", "**Not applied**", "", *(f"- {_cell(reason)}" for reason in follows.skipped)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Return text for a table cell: on one line, without HTML, and without `@` mentions."""
    plain = " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
    return plain.replace("@", "@\u200b")


def _code(text: str) -> str:
    """Return text in backticks. A bar is escaped: it would end a table cell even in backticks."""
    return "`" + " ".join(text.replace("`", "'").split()).replace("|", "\\|") + "`"
