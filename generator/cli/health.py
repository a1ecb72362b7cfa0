"""The commands `doctor` and `adopt`."""

from pathlib import Path

import click

from ..errors import PaccelError
from .console import complete_templates, json_option, parse_settings, print_json


@click.command(short_help="Check this machine and the project.")
@click.option("--rebuild-baseline", is_flag=True, help="Render the baseline again, after a git conflict in it.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, rebuild_baseline: bool, as_json: bool) -> None:
    """Say what this machine offers, and whether the project is sound."""
    from ..health import doctor as checks
    from ..project.folder import find_project
    from .report import doctor_data, doctor_text

    if rebuild_baseline:
        root = find_project(Path.cwd())
        manifest = checks.rebuild_baseline(root)
        if as_json:
            print_json({"rebuilt": str(root), "files": list(manifest.files)})
        else:
            click.echo(
                f"Rebuilt the baseline of {root.name}: {len(manifest.files)} files, as the manifest records them"
            )
        return
    try:
        health = checks.examine_project(find_project(Path.cwd()))
    except PaccelError:  # outside of a project there is still the machine
        health = None
    machine = checks.examine_machine()
    if as_json:
        print_json(doctor_data(machine, health))
    else:
        click.echo(doctor_text(machine, health))
    if health is not None and health.problems:
        ctx.exit(3)


@click.command(short_help="Give a project that lost its `.paccel` a baseline again.")
@click.option(
    "--template",
    metavar="NAME|DIR|GIT|ZIP",
    help="The project's template. [default: the likeliest]",
    shell_complete=complete_templates,
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="An answer that you know; repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken for what, but write nothing.")
@json_option
def adopt(template: str | None, settings: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Give a project that lost its `.paccel` folder a baseline again. Its files stay as they are."""
    from ..health.adopt import adopt as take_in

    found = take_in(Path.cwd(), template=template, answers=parse_settings(settings), dry_run=dry_run)
    if as_json:
        print_json({**found.to_json(), "dry_run": dry_run})
        return
    answers = ", ".join(f"{name}={str(value).lower()}" for name, value in found.manifest.answers.items())
    click.echo(f"{'Would adopt' if dry_run else 'Adopted'} as {found.manifest.template.name} ({answers})")
    click.echo(f"{found.likeness:.0%} of its lines are the template's; {len(found.tree)} files, of which")
    for what, names in (("edited", found.edited), ("missing", found.missing)):
        click.echo(f"  {what}: {', '.join(names) or 'none'}")
