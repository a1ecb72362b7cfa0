"""The commands `doctor` and `adopt`."""

from contextlib import suppress
from pathlib import Path

import click

from ..errors import PaccelError
from .console import complete_templates, json_option, parse_answers, print_json, slow_progress


@click.command(short_help="Check this machine and the project.")
@click.option(
    "--rebuild-baseline",
    is_flag=True,
    help="Render .paccel/baseline.zip again, for example after a git conflict in it.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, rebuild_baseline: bool, as_json: bool) -> None:
    """Check this machine and the project.

    Shows versions, devices and precisions, and whether the project's .paccel folder is valid. Exits with 3 if it is not.
    """
    from ..health import doctor as checks
    from ..project.folder import find_project
    from .report import doctor_data, doctor_text

    if rebuild_baseline:
        root = find_project(Path.cwd())
        manifest = checks.rebuild_baseline(root)
        if as_json:
            print_json({"rebuilt": str(root), "files": list(manifest.files)})
        else:
            count = "1 file" if len(manifest.files) == 1 else f"{len(manifest.files)} files"
            click.echo(f"Rebuilt the baseline of {root.name}: {count}, as recorded in the manifest")
        return
    root = Path.cwd()
    health = None
    with suppress(PaccelError):  # not in a project: check the machine alone
        root = find_project(root)
        health = checks.examine_project(root)
    machine = checks.examine_machine(root)
    if as_json:
        print_json(doctor_data(machine, health))
    else:
        click.echo(doctor_text(machine, health))
    if health is not None and health.problems:
        ctx.exit(3)


@click.command(short_help="Recreate the .paccel folder of a project that lost it.")
@click.option(
    "--template",
    metavar="NAME|DIR|GIT|ZIP",
    help="The project's template. [default: the most similar bundled one]",
    shell_complete=complete_templates,
)
@click.option("--set", "given", metavar="KEY=VALUE", multiple=True, help="A known answer; repeatable.")
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    help="Read answers from a TOML or JSON file, such as the .cruft.json of a cruft project.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be adopted, but write nothing.")
@json_option
def adopt(template: str | None, given: tuple[str, ...], answers: Path | None, dry_run: bool, as_json: bool) -> None:
    """Recreate the .paccel folder of a project that lost it, so that upgrades work again.

    Finds the template and answers whose files are most similar to the project's. The project's files stay as they are.
    """
    from ..catalog.answers import read_answers
    from ..health.adopt import adopt as adopt_project
    from .report import answer_text

    known = (read_answers(answers) if answers else {}) | parse_answers(given)
    found = adopt_project(Path.cwd(), template=template, answers=known, dry_run=dry_run, tell=slow_progress())
    if as_json:
        print_json({**found.to_json(), "dry_run": dry_run})
        return
    shown = ", ".join(f"{name}={answer_text(value)}" for name, value in found.manifest.answers.items())
    click.echo(f"{'Would adopt' if dry_run else 'Adopted'} as {found.manifest.template.name} ({shown})")
    click.echo(f"{found.likeness:.0%} of the lines match the template's {len(found.tree)} files")
    for what, names in (("edited", found.edited), ("missing", found.missing)):
        click.echo(f"  {what + ':':<8} {', '.join(names) or 'none'}")
    if not found.complete:
        click.echo("Time ran out before all answers were tried: pass those that you know with `--set`", err=True)
