"""Runs, comparisons and numbers as text. Nothing here prints."""

import math
import time
from collections.abc import Mapping, Sequence

from click import style, unstyle

from ..runs.comparison import Comparison
from ..runs.fields import Value, text_of, value_of
from ..runs.folder import Row, RunFolder
from ..runs.groups import Group
from ..runs.scores import Metric, all_points
from ..runs.state import CRASHED, FAILED, FINISHED, RUNNING, STOPPED
from ..runs.table import Line
from ..runs.watch import picture, spark

_COLORS = {RUNNING: "cyan", FINISHED: "green", STOPPED: "yellow", FAILED: "red", CRASHED: "red"}
_CURVES = ("blue", "red", "green", "magenta")
_SIDE_BY_SIDE = 4  # groups that still get a column each
_LISTED = 10  # scores of a group that are listed
_WIDEST = 40  # characters of one setting


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Align the cells of a table; the columns in `right` are aligned right. The last column is not padded."""
    widths = [max(len(unstyle(row[place])) for row in [head, *rows]) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            room = " " * (width - len(unstyle(cell)))
            last = place == len(cells) - 1
            padded.append(room + cell if place in right else cell if last else cell + room)
        return "  ".join(padded).rstrip()

    return "\n".join([style(line(head), bold=True), *map(line, rows)])


def runs_text(lines: Sequence[Line], metric: Metric | None, width: int | None) -> str:
    """Return the table of `paccel runs`, cut to `width` characters; None: not cut."""
    head = [
        "RUN",
        "STATE",
        "STEP",
        "AGE",
        *([f"BEST {metric.name}", "AT STEP"] if metric else []),
        "COMMIT",
        "SETTINGS",
    ]
    rows = []
    for line in lines:
        run, best = line.run, line.best
        score = "-" if best is None else number(best.value) + ("" if line.is_whole else "?")
        rows.append(
            [
                printable(run.name),
                style(run.state, fg=_COLORS.get(run.state)),
                f"{run.step:,}",
                age(time.time() - run.started),
                *([score, f"{best.step:,}" if best else "-"] if metric else []),
                commit_of(run),
                settings_text(line.differs),
            ]
        )
    text = columns(head, rows, right=frozenset({2, 3, 4, 5} if metric else {2, 3}))
    return text if width is None else "\n".join(cut(line, width) for line in text.split("\n"))


def comparison_text(found: Comparison) -> str:
    """Return the text of `paccel compare`: the settings that differ, the scores, and the verdicts."""
    blocks = []
    groups = found.groups
    if found.settings and len(groups) <= _SIDE_BY_SIDE:
        head = ["SETTING", *(cut(printable(group.label), _WIDEST) for group in groups)]
        rows = [
            [name, *(cut(printable(", ".join(map(text_of, values))), _WIDEST) for values in by_group)]
            for name, by_group in found.settings.items()
        ]
        blocks.append(columns(head, rows))
    code = [
        f"different code in {printable(label)}: {', '.join(map(printable, files[:10]))}{' …' * (len(files) > 10)}"
        for label, files in found.code.items()
        if files
    ]
    if code:
        blocks.append("\n".join(code))
    if found.metric is not None:
        blocks.append(_scores_text(found))
    if found.summary:
        blocks.append(printable(found.summary))
    elif found.verdicts:
        blocks.append("\n".join(_bold_finding(verdict.sentence, verdict.finding) for verdict in found.verdicts))
    elif len(groups) == 1 and [*found.settings] == ["seed"] and (spread := groups[0].spread) is not None:
        blocks.append(f"These runs differ only in the seed: the standard deviation of their scores is {number(spread)}")
    return "\n\n".join(blocks)


def _scores_text(found: Comparison) -> str:
    metric = found.metric
    assert metric is not None
    if all(len(group.members) == 1 for group in found.groups):
        return _single_text(found, metric)
    head = ["GROUP", "RUNS", f"MEAN {found.use} {metric.name}", "STD", "EACH"]
    return columns(head, [_group_row(group) for group in found.groups], right=frozenset({1, 2, 3}))


def _single_text(found: Comparison, metric: Metric) -> str:
    """Return one line per run. Many runs are sorted, the best first, and have their settings beside them."""
    many = len(found.groups) > _SIDE_BY_SIDE
    head = ["RUN", "STATE", f"{found.use.upper()} {metric.name}", "AT STEP", "BEST", "AT STEP", *["SETTINGS"] * many]
    members = [group.members[0] for group in found.groups]
    if many:
        sign = 1 if metric.mode == "min" else -1
        members.sort(key=lambda member: sign * member.value if math.isfinite(member.value) else math.inf)
    rows = []
    for member in members:
        point, best = member.point, member.best
        cells = [printable(member.run.name), style(member.run.state, fg=_COLORS.get(member.run.state))]
        for value in (point, best):
            cells += ["-", "-"] if value is None else [number(value.value), f"{value.step:,}"]
        settings = {name: value_of(member.run, name) for name in found.settings}
        rows.append([*cells, *[settings_text(settings)] * many])
    return columns(head, rows, right=frozenset({2, 3, 4, 5}))


def _group_row(group: Group) -> list[str]:
    values = [number(value) for value in group.values]
    return [
        cut(printable(group.label), 2 * _WIDEST),
        str(len(group.counted)),
        number(group.mean) if group.counted else "-",
        "-" if group.spread is None else f"{group.spread:.2g}",
        " ".join(values[:_LISTED]) + " …" * (len(values) > _LISTED),
    ]


def _bold_finding(sentence: str, finding: str) -> str:
    color = {"better": "green", "worse": "red"}.get(finding)
    return style(printable(sentence), fg=color, bold=color is not None)


def cut(line: str, width: int) -> str:
    plain = unstyle(line)
    if len(plain) <= width:
        return line
    kept, seen, place = "", 0, 0
    while seen < width - 1:  # escape sequences take no room
        if line[place] == "\x1b":
            end = line.index("m", place) + 1
            kept, place = kept + line[place:end], end
        else:
            kept, place, seen = kept + line[place], place + 1, seen + 1
    return kept + "…" + ("\x1b[0m" if "\x1b" in kept else "")


def settings_text(settings: Mapping[str, Value]) -> str:
    return " ".join(f"{name}={cut(printable(text_of(value)), _WIDEST)}" for name, value in settings.items())


def commit_of(run: RunFolder) -> str:
    """Return the short hash, with a `+` if files differed from the commit."""
    return "-" if run.git_commit is None else printable(run.git_commit[:7]) + "+" * bool(run.dirty)


def printable(text: str) -> str:
    """Return untrusted text without control characters, which could move the cursor of a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def number(value: float) -> str:
    """Return a number with about four significant digits."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return f"{value:g}"
    size = abs(value)
    return f"{value:,.0f}" if 1e4 <= size < 1e9 else f"{value:.4f}" if 0.01 <= size < 10 else f"{value:.4g}"


def age(seconds: float) -> str:
    """Return a duration in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def row_text(row: Row) -> str:
    """Return one log point: `step 120  epoch 2  eval   loss 0.4312  accuracy 0.9100`."""
    names = [name for name in row if "/" in name and not name.startswith("time/")]
    sections = dict.fromkeys(name.partition("/")[0] for name in names)
    shown = [f"{name.partition('/')[2] if len(sections) == 1 else name} {number(row[name])}" for name in names]
    where = [f"step {int(row['step']):>6}", f"epoch {int(row['epoch']):>2}"]
    return printable("  ".join([*where, *([f"{next(iter(sections)):<5}"] if len(sections) == 1 else []), *shown]))


def watch_text(run: RunFolder, rows: Sequence[Row], asked: str | None, width: int, height: int) -> str:
    """Draw a run for a terminal of this size: its state, the curves of one score, and the other scores on a line each."""
    found = all_points(rows)
    names = [name for name in found if not name.startswith("time/")]
    since = f", running for {age(time.time() - run.started)}" if run.state == RUNNING else ""
    step = max(run.step, int(rows[-1]["step"]) if rows else 0)
    title = f"{style(printable(run.name), bold=True)}  {style(run.state, fg=_COLORS.get(run.state))} at step {step:,}"
    lines = [title + since + (f"  {style(printable(run.note), fg='yellow')}" if run.note else "")]
    if not names:
        return "\n".join(cut(line, width) for line in [*lines, "no scores yet"])
    wanted = asked or (run.best.name if run.best else "eval/loss")
    short = wanted.partition("/")[2] or wanted
    shown = [name for name in names if name.partition("/")[2] == short] or names[:1]
    others = [name for name in names if name not in shown]
    room = max(0, height - 4 - len(others))
    tall = max(4, min(room, 16))
    others = others[: max(0, height - 4 - tall)]
    lines.append(
        "  ".join(
            f"{style('━━', fg=_CURVES[i % 4])} {printable(name)} {number(found[name][-1].value)}"
            for i, name in enumerate(shown)
        )
    )
    cells, low, high = picture([found[name] for name in shown], max(10, width - 12), tall)
    for place, cells_of_line in enumerate(cells):
        label = number(high) if place == 0 else number(low) if place == tall - 1 else ""
        drawn = "".join(sign if curve < 0 else style(sign, fg=_CURVES[curve % 4]) for sign, curve in cells_of_line)
        lines.append(f"{label:>10} {drawn}")
    widest = max((len(name) for name in others), default=0)
    for name in others:
        line = spark(found[name], max(10, width - widest - 14))
        lines.append(f"{printable(name):<{widest}} {number(found[name][-1].value):>11} {style(line, dim=True)}")
    return "\n".join(cut(line, width) for line in lines)
