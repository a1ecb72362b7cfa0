"""The commands `runs`, `compare` and `watch`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import PreconditionError, UsageError, did_you_mean
from .console import INTERRUPTED, json_option, print_json, print_warnings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..runs.folder import RunFolder
    from ..runs.table import Line
    from ..runs.watch import News

_LOOKS = 5  # updates of a run without a status after which `watch` gives up
_NAMED = 5  # warnings of a kind that are printed; the others are counted


@click.command(short_help="List the runs of a project.")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option(
    "--where",
    "conditions",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Only runs with this setting, state, step or score; also !=, <, <=, >, >= and ~ (contains). Repeatable.",
)
@click.option(
    "--sort", "by", metavar="FIELD", help="Sort by a score, best first, or by another field. [default: newest]"
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--against", metavar="RUN", help="Show the settings that differ from this run's. [default: the newest]")
@click.option(
    "--metric",
    "asked",
    metavar="NAME",
    help="The score to show. [default: the one by which the runs choose their best weights]",
)
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N runs.")
@json_option
def runs(
    folder: Path,
    conditions: tuple[str, ...],
    by: str | None,
    reverse: bool,
    against: str | None,
    asked: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the runs in DIR, or in its folder runs: state, step, age, best score, and the settings that differ.

    \b
    paccel runs --where learning_rate=1e-3 --where state=finished
    paccel runs --sort eval/loss -n 10
    """
    from shutil import get_terminal_size

    from ..runs import table
    from ..runs.folder import find_runs
    from ..runs.scores import choose_metric

    found = find_runs(folder)
    metric = choose_metric(found.runs, asked)
    chosen = table.sort(table.select(found.runs, conditions), by, reverse)
    newest = max(found.runs, key=lambda run: run.started, default=None)
    other = newest if against is None else table.find_run(found.runs, against)
    lines = table.lines(chosen[:limit], metric, other)
    if as_json:
        print_json(table.data_of(lines, metric, other, found.others))
        return
    if not found.runs:
        click.echo(f"There are no runs in {folder}", err=True)
    elif not chosen:
        click.echo(
            f"None of the {len(found.runs)} runs meets {' and '.join(f'`{text}`' for text in conditions)}", err=True
        )
    else:
        from .tables import printable, runs_text

        width = get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(runs_text(lines, metric, width))
        if other is not None and len(lines) > 1:
            click.echo(click.style(f"settings that differ from those of {printable(other.name)}", dim=True), err=True)
        if len(lines) < len(chosen):
            click.echo(click.style(f"{len(chosen) - len(lines)} more", dim=True), err=True)
        print_warnings(_warnings(lines))
    print_warnings(_not_runs(found.others))


@click.command(short_help="Compare runs, and tell whether a difference is real.")
@click.argument("given", metavar="RUN|DIR...", nargs=-1, required=True)
@click.option("--by", metavar="FIELD", multiple=True, help="Group the runs by a setting. Repeatable.")
@click.option(
    "--against", metavar="RUN|VALUE", help="The baseline: a run, or a value of --by. [default: the first group]"
)
@click.option("--where", "conditions", metavar="FIELD=VALUE", multiple=True, help="Only these runs, as in paccel runs.")
@click.option(
    "--metric",
    "asked",
    metavar="NAME",
    help="The score. [default: the one by which the runs choose their best weights]",
)
@click.option(
    "--mode",
    type=click.Choice(["min", "max"]),
    help="Whether smaller or larger is better. [default: from the runs, or the name]",
)
@click.option(
    "--use",
    type=click.Choice(["final", "mean", "best"]),
    default="final",
    help="Judge a run by its last evaluation, the mean of its last ones, or its best. [default: final]",
)
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=3,
    metavar="N",
    help="With --use mean: average N evaluations. [default: 3]",
)
@click.option("--step", type=click.IntRange(min=1), metavar="N", help="Compare at step N, not at the end of each run.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with curves to this file.")
@json_option
def compare(
    given: tuple[str, ...],
    by: tuple[str, ...],
    against: str | None,
    conditions: tuple[str, ...],
    asked: str | None,
    mode: Any,
    use: Any,
    last: int,
    step: int | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Compare runs: settings, code and data that differ, scores, and whether the difference is more than chance.

    Without --by, runs that differ only in the seed form a group. Runs with the same seed are compared in pairs.

    \b
    paccel compare runs/a runs/b
    paccel compare runs --by learning_rate --html compare.html
    """
    from ..runs import comparison as comparisons
    from ..runs import table
    from ..runs.scores import choose_metric

    runs, others = _runs_of(given)
    runs = table.select(runs, conditions)
    if not runs:
        raise UsageError(f"There are no runs {'that meet the conditions ' if conditions else ''}in {', '.join(given)}")
    metric = choose_metric(runs, asked, mode)
    found = comparisons.compare(runs, by=by, against=against, metric=metric, use=use, last=last, step=step)
    if html is not None:
        from ..files.disk import write_whole
        from ..runs.page import page_of

        write_whole(html, page_of(found).encode())
    if as_json:
        print_json(comparisons.comparison_data(found) | {"html": None if html is None else str(html)})
        return
    from .tables import comparison_text, printable

    click.echo(comparison_text(found))
    if html is not None:
        click.echo(f"\nThe curves are in {html}")
    print_warnings([*_damages(found.runs), *map(printable, found.cautions), *_not_runs(others)])


def _runs_of(given: tuple[str, ...]) -> "tuple[list[RunFolder], list[tuple[str, str]]]":
    """Read runs by the path of a run or of a folder of runs, or by a name under `runs`.

    Returns:
        The runs, and the folders that are not runs, each with the reason.

    Raises:
        UsageError: A name is neither.
    """
    from ..runs.folder import find_runs, is_run, read_run

    runs, others = [], []
    for text in given:
        path = next((path for path in (Path(text), Path("runs", text)) if path.is_dir()), None)
        if path is None:
            known = [run.name for run in find_runs(Path("runs")).runs] if Path("runs").is_dir() else []
            raise UsageError(f"`{text}` is neither a run nor a folder of runs{did_you_mean(text, known)}")
        if is_run(path):
            runs.append(read_run(path))
        else:
            found = find_runs(path)
            runs += found.runs
            others += found.others
    return runs, others


def _damages(runs: "list[RunFolder]") -> list[str]:
    return _first_ones([f"{run.name}: {run.damaged}" for run in runs if run.damaged], _NAMED, "more runs are damaged")


def _warnings(lines: "list[Line]") -> list[str]:
    """Return warnings about damaged runs, uncertain states, and scores of which only a part was read."""
    texts = [
        f"{line.run.name}: {text}"
        for line in lines
        for text in (line.run.damaged, line.run.note, None if line.is_whole else "only the end of its metrics was read")
        if text
    ]
    return _first_ones(texts, 2 * _NAMED, "more")


def _not_runs(others: list[tuple[str, str]]) -> list[str]:
    return _first_ones([f"{name} {reason}" for name, reason in others], _NAMED, "other folders are not runs")


def _first_ones(texts: list[str], count: int, others: str) -> list[str]:
    """Return the first warnings, and how many `others` there are."""
    from .tables import printable

    more = [f"{len(texts) - count} {others}"] if len(texts) > count else []
    return [*map(printable, texts[:count]), *more]


@click.command(short_help="Follow a run with live curves until it ends.")
@click.argument("given", metavar="[RUN]", default="runs")
@click.option(
    "--metric",
    "asked",
    metavar="NAME",
    help="The score to draw. [default: the one by which the run chooses its best weights]",
)
@click.option(
    "--every", type=click.FloatRange(min=0.05), default=2.0, metavar="S", help="Seconds between updates. [default: 2]"
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Keep a page with curves in this file.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line: each row of metrics, then the state."
)
@click.pass_context
def watch(ctx: click.Context, given: str, asked: str | None, every: float, html: Path | None, as_json: bool) -> None:
    """Follow RUN until it ends: curves in a terminal, one line per log point elsewhere.

    RUN is the folder or name of a run, or a folder of runs, of which the newest is followed. The exit code is that of the
    run: 0 finished, 75 stopped, 1 failed or crashed.
    """
    from ..runs.watch import follow

    runs, _ = _runs_of((given,))
    if not runs:
        raise UsageError(f"There are no runs in `{given}`")
    run = max(runs, key=lambda run: (run.started, run.name))
    live = sys.stdout.isatty() and not as_json and html is None
    screen = _Screen(asked) if live else None
    unknown = 0
    try:
        for news in follow(run.path, every):
            run = news.run
            if html is not None and (news.rows or run.has_ended or news.is_restarted):
                _write_page(html, run, asked, None if run.has_ended else max(2.0, every))
            if as_json:
                for row in news.rows:
                    click.echo(_json_line(row))
            elif screen is not None:
                screen.draw(news)
            else:
                from .tables import row_text

                for row in news.rows:
                    click.echo(row_text(row))
            unknown = unknown + 1 if run.state == "unknown" else 0
            if unknown == _LOOKS:
                raise PreconditionError(
                    f"`{run.path}` has no readable status, so `paccel watch` cannot tell when it ends"
                )
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    if as_json:
        click.echo(_json_line({"state": run.state, "step": run.step, "reason": run.reason}))
    else:
        from .tables import printable

        why = run.reason or run.note
        click.echo(printable(f"{run.state} at step {run.step:,}{f' ({why})' if why else ''}, see {run.path}"))
    ctx.exit({"finished": 0, "stopped": 75}.get(run.state, 1))


class _Screen:
    """The terminal output of `watch`: each update overwrites the one before."""

    def __init__(self, asked: str | None) -> None:
        self._asked = asked
        self._rows: list[Any] = []
        self._lines = 0

    def draw(self, news: "News") -> None:
        from shutil import get_terminal_size

        from .tables import watch_text

        self._rows = [*([] if news.is_restarted else self._rows), *news.rows]
        size = get_terminal_size()
        text = watch_text(news.run, self._rows, self._asked, size.columns - 1, size.lines - 1)
        up = f"\x1b[{self._lines}A\x1b[J" if self._lines else ""
        click.echo(up + text, color=True)
        self._lines = text.count("\n") + 1


def _write_page(path: Path, run: "RunFolder", asked: str | None, refresh: float | None) -> None:
    from ..files.disk import write_whole
    from ..runs.comparison import compare as compare_runs
    from ..runs.page import page_of
    from ..runs.scores import choose_metric

    try:
        metric = choose_metric([run], asked)
    except UsageError:
        if refresh is None:
            raise
        metric = None  # the run has not logged it yet
    write_whole(path, page_of(compare_runs([run], metric=metric), refresh).encode())


def _json_line(values: "Mapping[str, Any]") -> str:
    import json

    from ..runs.fields import plain

    return json.dumps({name: plain(value) for name, value in values.items()})
