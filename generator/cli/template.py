"""The command `check-template`."""

import click

from .console import complete_templates, json_option, print_json


@click.command("check-template", short_help="Find mistakes in a template.")
@click.argument("source", metavar="DIR", default=".", shell_complete=complete_templates)
@click.option(
    "--since",
    metavar="REF|DIR",
    help="The version of existing projects: a git tag, branch or commit, or a folder. [default: the newest tag]",
)
@json_option
@click.pass_context
def check_template(ctx: click.Context, source: str, since: str | None, as_json: bool) -> None:
    """Find mistakes in the template in the folder DIR: unused questions, undefined names, branches that no choice reaches,
    text that only looks like Jinja, files that are invalid for some answers, renames that are not declared, and more.

    Exits with 1 if it finds any. Each finding says how to silence it.
    """
    from ..lint.check import check_template as check
    from ..lint.finding import RULES

    report = check(source, since)
    if as_json:
        print_json(report.to_json())
    else:
        for finding in report.findings:
            place = f"{finding.path}:{finding.line}" if finding.line else finding.path
            click.echo(f"{click.style(place, bold=True)}: {click.style(finding.rule, fg='red')}: {finding.text}")
            click.echo(click.style(f"    if it is intended: {finding.silence}", dim=True))
        count = len(report.findings)
        compared = f", compared with {report.since}" if report.since else ""
        kinds = len({finding.rule for finding in report.findings})
        found = f"{count} finding{'s' * (count != 1)}, by {kinds} of {len(RULES)} rules" if count else "no findings"
        click.echo(f"{report.template}: {found}{compared}")
    ctx.exit(1 if report.findings else 0)
