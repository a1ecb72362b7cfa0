"""The commands that change a project later: `upgrade`, `set`, `adopt`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .console import complete_answers, complete_templates, json_option, parse_settings, print_json

if TYPE_CHECKING:
    from ..files.tree import Tree
    from ..upgrade.upgrade import Outcome, Plan

UPGRADE_FOUND = 10

_COLOURS = {"conflict": "red", "deleted": "yellow", "kept": "yellow", "added": "green", "restored": "green"}

_dirty_option = click.option("--allow-dirty", is_flag=True, help="Touch files with changes that git has not committed.")
_dry_option = click.option("--dry-run", is_flag=True, help="Show what would happen to each file, but write nothing.")
_diff_option = click.option("--diff", "with_diff", is_flag=True, help="With --dry-run: show each file's diff too.")
_verify_option = click.option(
    "--verify", "verified", is_flag=True, help="Then compile the project and run its tests; offer to undo if they fail."
)


@click.command(short_help="Merge the template's changes into your files.")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--check", is_flag=True, help=f"Only say whether there is an upgrade; exit code {UPGRADE_FOUND} if so.")
@_dry_option
@_diff_option
@click.option(
    "--continue", "go_on", is_flag=True, help="Finish: conflicts are decided, or the last try was interrupted."
)
@click.option("--abort", is_flag=True, help="Go back to before an unfinished upgrade.")
@click.option("--undo", is_flag=True, help="Go back to before the last upgrade; one under way is aborted.")
@_verify_option
@click.option("--skip", metavar="PATH", multiple=True, help="Leave a file or folder alone, now and later; repeatable.")
@click.option(
    "--restore", metavar="PATH", multiple=True, help="Bring back a file that you deleted or skip; repeatable."
)
@click.option(
    "--template",
    metavar="NAME|DIR|GIT|ZIP",
    help="Render from another source from now on.",
    shell_complete=complete_templates,
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
    abort: bool,
    undo: bool,
    verified: bool,
    skip: tuple[str, ...],
    restore: tuple[str, ...],
    template: str | None,
    allow_dirty: bool,
    as_json: bool,
) -> None:
    """Merge what the template has become into what you made of the project.

    With PATHs, only those files are upgraded, the others later.
    """
    from ..project.folder import find_project
    from ..upgrade import upgrade as engine

    ways = {"--check": check, "--dry-run": dry_run, "--continue": go_on, "--abort": abort, "--undo": undo}
    given = [name for name, on in ways.items() if on]
    if len(given) > 1:
        raise UsageError(f"`{given[0]}` and `{given[1]}` do not go together: give one of them")
    if given and given[0] in {"--continue", "--abort", "--undo"} and (paths or skip or restore or template):
        raise UsageError(f"`{given[0]}` takes no paths and no `--skip`, `--restore` or `--template`")
    _check_options(given, dry_run, with_diff, verified)
    root = find_project(Path.cwd())
    inside = [_inside(root, path) for path in paths]
    wishes: dict[str, Any] = {
        "template": template,
        "skip": [_inside(root, path) for path in skip],
        "restore": [_inside(root, path) for path in restore],
        "only": inside,
    }
    if go_on or abort or undo:
        move = engine.continue_upgrade if go_on else engine.abort_upgrade if abort else engine.undo_upgrade
        _report(ctx, root, move(root), as_json, verified and go_on)
    elif check or dry_run:
        engine.refuse_unfinished(root)
        plan = engine.make_plan(root, **wishes)
        _show_plan(plan, as_json, with_diff, check)
        ctx.exit((UPGRADE_FOUND if plan.found else 0) if check else 1 if plan.conflicts else 0)
    else:
        _report(ctx, root, engine.upgrade(root, **wishes, allow_dirty=allow_dirty), as_json, verified)


@click.command("set", short_help="Change answers; your edits are kept.")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=complete_answers)
@_dry_option
@_diff_option
@_verify_option
@_dirty_option
@json_option
@click.pass_context
def set_(
    ctx: click.Context,
    settings: tuple[str, ...],
    dry_run: bool,
    with_diff: bool,
    verified: bool,
    allow_dirty: bool,
    as_json: bool,
) -> None:
    """Change answers of the project: turn a feature on or off, KEY=VALUE, with your edits kept.

    Today's template is rendered, so a project of an older one is upgraded by it.
    """
    from ..project.folder import find_project
    from ..upgrade import upgrade as engine

    _check_options(["--dry-run"] * dry_run, dry_run, with_diff, verified)
    root = find_project(Path.cwd())
    answers = parse_settings(settings)
    if dry_run:
        engine.refuse_unfinished(root)
        plan = engine.make_plan(root, answers=answers)
        _show_plan(plan, as_json, with_diff, False)
        ctx.exit(1 if plan.conflicts else 0)
    _report(ctx, root, engine.set_answers(root, answers, allow_dirty=allow_dirty), as_json, verified)


def _check_options(given: list[str], dry_run: bool, with_diff: bool, verified: bool) -> None:
    """Refuse an option that would have no effect, lest its user waits for one."""
    if with_diff and not dry_run:
        raise UsageError("`--diff` shows what would happen: give it with `--dry-run`")
    if verified and given not in ([], ["--continue"]):
        raise UsageError(
            f"`--verify` looks at a finished upgrade, and `{given[0]}` finishes none: leave one of them out"
        )


def _inside(root: Path, path: str) -> str:
    """A path as typed, relative to the working directory, as one relative to the project."""
    absolute = Path(path) if Path(path).is_absolute() else Path.cwd() / path
    parts: list[str] = []
    for part in absolute.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    try:
        return Path(*parts).relative_to(root).as_posix()
    except ValueError as error:
        raise UsageError(f"`{path}` is not inside the project `{root}`") from error


def _show_plan(plan: "Plan", as_json: bool, with_diff: bool, check: bool) -> None:
    if as_json:
        print_json(plan.to_json(with_diff))
        return
    if not plan.found:
        click.echo("Up to date")
    elif check:
        count = len(plan.changes)
        files = "1 file" if count == 1 else f"{count} files"
        click.echo(f"There is an upgrade: {files}; `paccel upgrade --dry-run` shows what becomes of them")
    else:
        _table([change.to_json() for change in plan.changes])
        for text in [change.diff() for change in plan.changes] if with_diff else ():
            if text:
                click.echo(f"\n{text}", nl=False)
    _notes(plan.notes)


def _report(ctx: click.Context, root: Path, outcome: "Outcome", as_json: bool, verified: bool) -> None:
    checked = None
    if verified and outcome.state in {"done", "nothing"}:
        from ..health.verify import verify
        from ..project.state import read_manifest

        checked = verify(root, read_manifest(root).files)
    if as_json:
        print_json(outcome.to_json() | ({"verification": checked.to_json()} if checked else {}))
    else:
        words = {
            "nothing": "Up to date",
            "aborted": "Back to before the upgrade",
            "undone": "Back to before the upgrade",
        }
        if outcome.state in words:
            click.echo(words[outcome.state])
        else:
            _table(outcome.changes)
        _notes(outcome.notes)
        if outcome.conflicts:
            click.echo(
                f"\n{click.style('Conflicts', fg='red', bold=True)} in {', '.join(outcome.conflicts)}: decide them, then"
                "\n  paccel upgrade --continue     or     paccel upgrade --abort"
            )
        elif outcome.state == "done":
            click.echo("\nDone; `paccel upgrade --undo` takes it back")
    if checked is not None and not checked.problems and not as_json:
        click.echo(
            f"Verified: it compiles{', and its tests pass' if checked.ran_tests else '; it has no tests to run'}"
        )
    if checked is not None and checked.problems:
        if not as_json:
            click.echo("\n" + "\n".join([*checked.problems, checked.output]))
            if outcome.state == "done" and sys.stdin.isatty() and click.confirm("Undo the upgrade?", default=False):
                from ..upgrade.upgrade import undo_upgrade

                undo_upgrade(root)
                click.echo("Back to before the upgrade")
            elif outcome.state == "done":
                click.echo("`paccel upgrade --undo` goes back to before the upgrade")
        ctx.exit(1)
    ctx.exit(outcome.exit_code)


def _table(changes: Any) -> None:
    """One line a file: what happens, where, why; then the template's changelog for it."""
    width = max((len(change["path"]) for change in changes), default=0)
    for change in changes:
        word = click.style(f"{change['status']:<9}", fg=_COLOURS.get(change["status"]))
        click.echo(f"  {word} {change['path']:<{width}}  {change['reason']}")
        for line in change["why"]:
            click.echo(f"            {line}")
        if "incoming" in change:
            click.echo(f"            the template's version: {change['incoming']}")
    if not changes:
        click.echo("  no file changes; only `.paccel` does")


def _notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(f"{click.style('Note:', bold=True)} {note}", err=True)


@click.command(short_help="Show your edits to the template's files.")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--upstream", is_flag=True, help="Show what the template has changed since, instead of your edits.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@json_option
@click.pass_context
def diff(ctx: click.Context, paths: tuple[str, ...], upstream: bool, exit_code: bool, as_json: bool) -> None:
    """Show your edits to the template's files, or only those in PATH."""
    from ..project.compare import compare
    from ..project.folder import find_project, read_paths
    from ..project.state import read_state
    from .report import diff_data, diff_text

    root = find_project(Path.cwd())
    manifest, base = read_state(root)
    if upstream:
        from ..catalog.catalog import load_template
        from ..catalog.migrate import carry_answers
        from ..render.render import render

        template = load_template(manifest.template.source)
        answers, _ = carry_answers(manifest.answers, template, {})
        other: Tree = render(template, answers)
    else:
        other = read_paths(root, base)
    diffs = compare(base, other)
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
