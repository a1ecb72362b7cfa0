"""The commands `upgrade`, `set` and `diff`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .console import (
    UPGRADE_FOUND,
    complete_answers,
    complete_templates,
    json_option,
    parse_answers,
    print_json,
    print_notes,
)

if TYPE_CHECKING:
    from ..check.finding import Finding
    from ..files.tree import Tree
    from ..health.verify import Verification
    from ..upgrade.change import Summary
    from ..upgrade.upgrade import Outcome, Plan


_COLOURS = {
    "conflict": "red",
    "deleted": "yellow",
    "kept": "yellow",
    "added": "green",
    "restored": "green",
    "adapted": "cyan",
}

_ENDED = {
    "nothing": "Up to date",
    "aborted": "Aborted: your files are as they were before the upgrade",
    "undone": "Undone: your files are as they were before the upgrade",
}

_dirty_option = click.option("--allow-dirty", is_flag=True, help="Also change files that have uncommitted edits.")
_dry_option = click.option("--dry-run", is_flag=True, help="Show what would happen to each file, but write nothing.")
_diff_option = click.option("--diff", "with_diff", is_flag=True, help="With --dry-run: also show each file's diff.")
_verify_option = click.option(
    "--verify",
    "verified",
    is_flag=True,
    help="Afterwards, compile the project and run its tests; offer to undo if they fail.",
)


@click.command(short_help="Merge template changes into your project, keeping your edits.")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option(
    "--check", is_flag=True, help=f"Only check for an upgrade; exit with {UPGRADE_FOUND} if files would change."
)
@_dry_option
@_diff_option
@click.option(
    "--continue",
    "go_on",
    is_flag=True,
    help="Finish an upgrade after you resolved its conflicts, or after an interruption.",
)
@click.option(
    "--accept",
    is_flag=True,
    help="Finish an upgrade despite problems that were found in the merged project.",
)
@click.option("--abort", is_flag=True, help="Undo an unfinished upgrade.")
@click.option("--undo", is_flag=True, help="Undo the last upgrade.")
@_verify_option
@click.option(
    "--skip", metavar="PATH", multiple=True, help="Leave a file or folder alone in this and later upgrades; repeatable."
)
@click.option(
    "--restore", metavar="PATH", multiple=True, help="Bring back a deleted file, or stop skipping one; repeatable."
)
@click.option(
    "--template",
    metavar="NAME|DIR|GIT|ZIP",
    help="Use another template source from now on.",
    shell_complete=complete_templates,
)
@click.option(
    "--each",
    is_flag=True,
    help="PATHS are projects: upgrade each of them, and exit with the worst of their exit codes.",
)
@_dirty_option
@json_option
@click.pass_context
def upgrade(
    ctx: click.Context,
    paths: tuple[str, ...],
    check: bool,
    dry_run: bool,
    with_diff: bool,
    go_on: bool,
    accept: bool,
    abort: bool,
    undo: bool,
    verified: bool,
    skip: tuple[str, ...],
    restore: tuple[str, ...],
    template: str | None,
    each: bool,
    allow_dirty: bool,
    as_json: bool,
) -> None:
    """Merge template changes into your project, keeping your edits.

    Where you and the template changed the same lines, the file gets conflict markers: resolve them, then run paccel
    upgrade --continue. The merged project is also checked as a whole. Problems that neither version had are reported; fix
    them and run --continue, or --accept them. With PATHS, only those files are upgraded now.
    """
    from ..project.folder import find_project
    from ..upgrade import upgrade as engine
    from ..upgrade.preconditions import refuse_unfinished

    go_on = go_on or accept
    ways = {"--check": check, "--dry-run": dry_run, "--continue": go_on, "--abort": abort, "--undo": undo}
    given = [name for name, on in ways.items() if on]
    if len(given) > 1:
        raise UsageError(f"`{given[0]}` and `{given[1]}` cannot be used together: give one of them")
    if given and given[0] in {"--continue", "--abort", "--undo"} and (paths or skip or restore or template):
        raise UsageError(f"`{given[0]}` takes no paths and no `--skip`, `--restore` or `--template`")
    _check_options(given, dry_run, with_diff, verified)
    if each:
        if not paths:
            raise UsageError("`--each` needs the folders of projects: `paccel upgrade --each ~/projects/*`")
        if (given and given[0] not in {"--check", "--dry-run"}) or with_diff or skip or restore:
            raise UsageError(
                "`--each` can be combined only with `--check`, `--dry-run`, `--verify`, `--template`, `--allow-dirty` and `--json`"
            )
        from . import each as many

        results = many.upgrade_each(
            paths, check=check, dry_run=dry_run, verified=verified, allow_dirty=allow_dirty, template=template
        )
        code = many.exit_code_of(results)
        if as_json:
            print_json({"projects": [result.to_json() for result in results], "exit_code": code})
        else:
            click.echo(many.table(results))
        ctx.exit(code)
    root = find_project(Path.cwd())
    inside = [_inside(root, path) for path in paths]
    options: dict[str, Any] = {
        "template": template,
        "skip": [_inside(root, path) for path in skip],
        "restore": [_inside(root, path) for path in restore],
        "only": inside,
    }
    if go_on or abort or undo:
        if go_on:
            outcome = engine.continue_upgrade(root, accept=accept)
        else:
            outcome = engine.abort_upgrade(root) if abort else engine.undo_upgrade(root)
        _report(ctx, root, outcome, as_json, verified and go_on)
    elif check or dry_run:
        refuse_unfinished(root)
        plan = engine.make_plan(root, **options)
        _show_plan(plan, as_json, with_diff, check)
        ctx.exit((UPGRADE_FOUND if plan.found else 0) if check else 1 if plan.conflicts or plan.findings else 0)
    else:
        show = None if as_json else _show_following
        outcome = engine.upgrade(root, **options, allow_dirty=allow_dirty, show=show)
        _report(ctx, root, outcome, as_json, verified)


@click.command("set", short_help="Change answers, such as ema=true, keeping your edits.")
@click.argument("given", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=complete_answers)
@_dry_option
@_diff_option
@_verify_option
@_dirty_option
@json_option
@click.pass_context
def set_(
    ctx: click.Context,
    given: tuple[str, ...],
    dry_run: bool,
    with_diff: bool,
    verified: bool,
    allow_dirty: bool,
    as_json: bool,
) -> None:
    """Change answers, for example ema=true, and merge the result into your project, keeping your edits.

    The current template is used, so this also upgrades the project. paccel show TEMPLATE lists the questions.
    """
    from ..project.folder import find_project
    from ..upgrade import upgrade as engine
    from ..upgrade.preconditions import refuse_unfinished

    _check_options(["--dry-run"] * dry_run, dry_run, with_diff, verified)
    root = find_project(Path.cwd())
    answers = parse_answers(given)
    if dry_run:
        refuse_unfinished(root)
        plan = engine.make_plan(root, answers=answers)
        _show_plan(plan, as_json, with_diff, False)
        ctx.exit(1 if plan.conflicts or plan.findings else 0)
    show = None if as_json else _show_following
    _report(ctx, root, engine.set_answers(root, answers, allow_dirty=allow_dirty, show=show), as_json, verified)


def _check_options(given: list[str], dry_run: bool, with_diff: bool, verified: bool) -> None:
    """Refuse an option that would have no effect."""
    if with_diff and not dry_run:
        raise UsageError("`--diff` needs `--dry-run`")
    if verified and given not in ([], ["--continue"]):
        raise UsageError(
            f"`--verify` checks a finished upgrade, and `{given[0]}` does not finish one: give one of them"
        )


def _inside(root: Path, path: str) -> str:
    """Convert a path relative to the working directory into one relative to the project."""
    absolute = os.path.abspath(path)
    real = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    for place, top in ((absolute, root), (real, os.path.realpath(root))):  # the project may be reached by a link
        if Path(place).is_relative_to(top):
            return Path(place).relative_to(top).as_posix()
    raise UsageError(f"`{path}` is not inside the project `{root}`")


def _show_plan(plan: "Plan", as_json: bool, with_diff: bool, check: bool) -> None:
    if as_json:
        from .report_upgrade import upgrade_markdown

        print_json(
            plan.to_json(with_diff) | {"markdown": upgrade_markdown(plan.summaries, plan.follows, plan.conflicts)}
        )
        return
    if plan.baseline is None:
        click.echo("Up to date")
    elif check and not plan.found:
        click.echo("Up to date: no file would change; `paccel upgrade` records the newer version")
    elif check:
        count = sum(change.writes or change.conflicts > 0 for change in plan.changes)
        files = "1 file" if count == 1 else f"{count} files"
        click.echo(
            f"An upgrade is available: it changes {files}; `paccel upgrade --dry-run` shows what happens to each"
        )
    else:
        _table(plan.summaries)
        _show_following(plan)
        for text in [change.diff() for change in plan.changes] if with_diff else ():
            if text:
                click.echo(f"\n{text}", nl=False)
    _findings(plan.findings)
    print_notes(plan.notes)


def _report(ctx: click.Context, root: Path, outcome: "Outcome", as_json: bool, verified: bool) -> None:
    """Print what was done, verify the project if requested, and exit."""
    checked = None
    if verified and outcome.state in {"done", "nothing"}:
        from ..health.verify import verify_project

        checked = verify_project(root)
    if as_json:
        from .report_upgrade import upgrade_markdown

        text = upgrade_markdown(outcome.changes, outcome.follows, outcome.conflicts)
        print_json(outcome.to_json() | {"markdown": text} | ({"verification": checked.to_json()} if checked else {}))
    else:
        _print_outcome(outcome)
        if checked is not None:
            _print_verification(root, checked, was_upgraded=outcome.state == "done")
    ctx.exit(1 if checked is not None and checked.problems else outcome.exit_code)


def _print_outcome(outcome: "Outcome") -> None:
    if outcome.state in _ENDED:
        click.echo(_ENDED[outcome.state])
    elif outcome.changes or outcome.state != "findings":
        _table(outcome.changes)
    _findings(outcome.findings)
    print_notes(outcome.notes)
    if outcome.state == "findings":
        click.echo(
            "\nFix them, then run\n  paccel upgrade --continue     or keep them with     paccel upgrade --accept     or go back"
            " with     paccel upgrade --abort"
        )
    if outcome.conflicts:
        click.echo(
            f"\n{click.style('Conflicts', fg='red', bold=True)} in {', '.join(outcome.conflicts)}: resolve them, then run"
            "\n  paccel upgrade --continue     or go back with     paccel upgrade --abort"
        )
    elif outcome.state == "done":
        click.echo("\nDone; `paccel upgrade --undo` undoes it")


def _print_verification(root: Path, checked: "Verification", *, was_upgraded: bool) -> None:
    """Print the result of `--verify`. In a terminal, offer to undo an upgrade that failed it."""
    if not checked.problems:
        tests = ", and its tests pass" if checked.ran_tests else "; it has no tests to run"
        click.echo(f"Verified: the project compiles{tests}, with {checked.python}")
        return
    click.echo("\n" + "\n".join([*checked.problems, checked.output]))
    if was_upgraded and sys.stdin.isatty() and click.confirm("Undo the upgrade?", default=False):
        from ..upgrade.upgrade import undo_upgrade

        undo_upgrade(root)
        click.echo(_ENDED["undone"])
    elif was_upgraded:
        click.echo("`paccel upgrade --undo` undoes the upgrade")


def _table(changes: "Sequence[Summary]") -> None:
    """Print one line per file: what happens to it and why; then the template's changelog for it."""
    width = max((len(change.path) for change in changes), default=0)
    for change in changes:
        word = click.style(f"{change.status:<9}", fg=_COLOURS.get(change.status))
        click.echo(f"  {word} {change.path:<{width}}  {change.reason}")
        for line in change.why:
            click.echo(f"            {line}")
        if change.incoming is not None:
            click.echo(f"            the template's version: {change.incoming}")
    if not changes:
        click.echo("  No files change; only paccel's own state is updated")


def _findings(findings: "Sequence[Finding]") -> None:
    """Print the problems of the merged project, each with the two changes that cause it."""
    if findings:
        from .report_upgrade import findings_text

        click.echo(f"\n{findings_text(findings)}")


def _show_following(plan: "Plan") -> None:
    """Print the changes to the user's own code. An upgrade prints them before it writes anything."""
    from .report_upgrade import follows_text

    text = follows_text(plan.follows)
    if text:
        click.echo(text)


@click.command(short_help="Show your edits since the last upgrade.")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--upstream", is_flag=True, help="Show what the template changed since, instead of your edits.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@json_option
@click.pass_context
def diff(ctx: click.Context, paths: tuple[str, ...], upstream: bool, exit_code: bool, as_json: bool) -> None:
    """Show your edits to the generated files since the last upgrade, as a unified diff.

    With PATHS, only the edits in those files and folders.
    """
    from ..catalog.secrets import recover, reveal
    from ..project.compare import compare, edits
    from ..project.folder import find_project, read_paths
    from ..project.state import read_state
    from ..upgrade.git import modes_count
    from .report_upgrade import diff_data, diff_text

    root = find_project(Path.cwd())
    manifest, base = read_state(root)
    if upstream:
        from ..catalog.catalog import load_recorded
        from ..catalog.migrate import carry_answers
        from ..catalog.secrets import hide
        from ..render.render import render
        from ..sandbox.draws import Draws
        from ..vendor.rewrite import in_project

        template = load_recorded(manifest.template, root)
        draws = Draws(manifest.drawn)
        answers, _ = carry_answers(manifest.answers, template, {}, draws)
        other: Tree = in_project(render(template, hide(template.questions, answers), draws), manifest.vendored)
        diffs = compare(base, other)
    else:
        other = read_paths(root, base)
        base = reveal(base, recover(base, other))
        diffs = edits(base, other, modes_count(root, base, other))
    if paths:
        wanted = [os.path.relpath(os.path.abspath(path), root).replace(os.sep, "/") for path in paths]
        for path, given in zip(wanted, paths, strict=True):
            if path != "." and not any(name == path or name.startswith(path + "/") for name in [*base, *other]):
                raise UsageError(f"`{given}` is not one of the template's files")
        diffs = [d for d in diffs if any(w == "." or d.path == w or d.path.startswith(w + "/") for w in wanted)]
    if as_json:
        print_json(diff_data(diffs))
    elif diffs:
        click.echo(diff_text(diffs))
    if exit_code and diffs:
        ctx.exit(1)
