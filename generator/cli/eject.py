"""The command `eject`."""

from pathlib import Path

import click

from .console import json_option, print_json, print_notes


@click.command(short_help="Copy the runtime into the project, to drop the dependency on paccel.")
@click.option(
    "--into",
    metavar="FOLDER",
    help="The folder for the package. [default: src, if the code is there, else the project's folder]",
)
@click.option("--dry-run", is_flag=True, help="Show what would happen to each file, but write nothing.")
@click.option("--diff", "with_diff", is_flag=True, help="With --dry-run: also show the diff of your files.")
@click.option("--allow-dirty", is_flag=True, help="Also change files that have uncommitted edits.")
@json_option
def eject(into: str | None, dry_run: bool, with_diff: bool, allow_dirty: bool, as_json: bool) -> None:
    """Copy the runtime into the project as the package paccel_runtime, so that the project no longer depends on paccel.

    Imports, requirements and commands in your files are rewritten. paccel upgrade and paccel set still work, and update the
    copy. paccel upgrade --undo undoes it.
    """
    from ..eject import eject as engine
    from ..errors import UsageError
    from ..project.folder import find_project
    from ..upgrade.preconditions import refuse_unfinished
    from ..upgrade.upgrade import Outcome

    if with_diff and not dry_run:
        raise UsageError("`--diff` needs `--dry-run`")
    root = find_project(Path.cwd())
    texts: list[str] = []
    if dry_run:
        refuse_unfinished(root)
        plan, vendored = engine.make_ejection(root, into)
        outcome = Outcome("planned", plan.summaries, (), plan.notes)
        texts = [change.diff() for change in plan.changes if change.before is not None] if with_diff else []
    else:
        outcome, vendored = engine.eject(root, into, allow_dirty=allow_dirty)
    if as_json:
        print_json(outcome.to_json() | {"vendored": vendored._asdict()} | ({"diffs": texts} if with_diff else {}))
        return
    rewritten = [change.path for change in outcome.changes if change.status == "updated"]
    copied = len(outcome.changes) - len(rewritten)
    would = "would be " if dry_run else ""
    click.echo(f"  {would}copied     {vendored.path}/  the runtime of paccel {vendored.version}, {copied} files")
    for path in rewritten:
        click.echo(f"  {would}rewritten  {path}")
    for text in texts:
        click.echo(f"\n{text}", nl=False)
    print_notes(outcome.notes)
    if not dry_run:
        click.echo("\nDone: the project no longer needs paccel to run; `paccel upgrade --undo` undoes it")
