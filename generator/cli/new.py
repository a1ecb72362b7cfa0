"""The commands `new`, `list` and `show`."""

import os
import sys
from pathlib import Path

import click

from .console import complete_answers, complete_templates, json_option, parse_answers, print_json, print_warnings


@click.command(short_help="Create a new project.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--template",
    metavar="NAME|DIR|GIT|ZIP",
    help="A bundled template (see paccel list), or your own. [default: image-classification]",
    shell_complete=complete_templates,
)
@click.option(
    "--set",
    "given",
    metavar="KEY=VALUE",
    multiple=True,
    help="Answer a question (see paccel show); repeatable.",
    shell_complete=complete_answers,
)
@click.option("--answers", type=click.Path(path_type=Path), help="Read answers from a TOML or JSON file.")
@click.option("--no-input", is_flag=True, help="Do not ask; use the defaults.")
@click.option("--dry-run", is_flag=True, help="Show the project, but write nothing.")
@json_option
def new(
    path: Path,
    template: str | None,
    given: tuple[str, ...],
    answers: Path | None,
    no_input: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Create a new project in the folder PATH.

    In a terminal, it asks the template's questions; each has a default.
    """
    from ..catalog.answers import read_answers, resolve_answers, without_effect
    from ..catalog.catalog import DEFAULT_TEMPLATE, load_template
    from ..catalog.secrets import hide
    from ..health.git import examine_git
    from ..project.folder import check_room, check_target, create_project
    from ..project.state import Manifest
    from ..render.render import render_folders, render_formatted
    from ..render.requirements import refuse_own_requirement
    from ..sandbox.draws import Draws
    from .prompt import ask
    from .report import next_commands, tree_text

    check_target(path)
    name = os.path.basename(os.path.abspath(path))
    known = (read_answers(answers) if answers else {}) | parse_answers(given)
    found = load_template(DEFAULT_TEMPLATE if template is None else template)
    may_ask = sys.stdin.isatty() and not no_input and not as_json
    draws = Draws()
    chosen = resolve_answers(found, known, project_name=name, ask=ask if may_ask else None, draws=draws)
    rendered = render_formatted(found, chosen, draws=draws)
    tree = rendered.tree
    refuse_own_requirement(found, chosen, tree)
    stored = hide(found.questions, chosen)
    if dry_run:
        check_room(path, tree)
    else:
        baseline = rendered if stored == chosen else render_formatted(found, stored, draws=draws)
        recorded = found.recorded_in(path).ref
        manifest = Manifest.of(recorded, stored, baseline.tree, unformatted=baseline.unformatted, drawn=draws.to_json())
        create_project(path, manifest, tree, baseline.tree, render_folders(found, chosen))
    warnings = [*found.warnings, *without_effect(found, known, chosen), *([] if dry_run else examine_git(path))]
    commands = next_commands(str(path), tree)
    if as_json:
        print_json(
            {
                "project": os.path.abspath(path),
                "template": {
                    "name": found.name,
                    "source": found.source,
                    "version": found.digest,
                    "digest": found.digest,
                },
                "answers": stored,
                "files": list(tree),
                "next": commands,
                "dry_run": dry_run,
                "warnings": warnings,
            }
        )
        return
    print_warnings(warnings)
    click.echo(f"{'Would create' if dry_run else 'Created'} {path} from the template {found.name}\n")
    click.echo(tree_text(name, tree, found.bundled))
    if not dry_run:
        click.echo("\nNext:\n" + "\n".join(f"  {command}" for command in commands))


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the bundled templates."""
    from ..catalog.catalog import read_bundled_metadata
    from .report import list_data, list_text

    found = read_bundled_metadata()
    if as_json:
        print_json(list_data(found))
    else:
        click.echo(list_text(found))


@click.command(short_help="Show a template's questions, choices, defaults and files.")
@click.argument("template", shell_complete=complete_templates)
@json_option
def show(template: str, as_json: bool) -> None:
    """Show the questions, choices, defaults and files of TEMPLATE."""
    from ..catalog.answers import resolve_answers
    from ..catalog.catalog import load_template
    from ..render.render import render
    from .report import show_data, show_text

    found = load_template(template)
    tree = render(found, resolve_answers(found, {}, project_name="my-project", checked=False))
    questions = [question for question in found.questions if not question.is_folder]
    if as_json:
        print_json(show_data(found, questions, tree) | {"warnings": list(found.warnings)})
    else:
        print_warnings(found.warnings)
        click.echo(show_text(found, questions, tree))
