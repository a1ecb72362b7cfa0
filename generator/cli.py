"""The command line: parse, call, print. Everything heavier than click is imported inside the command that needs it."""

# ruff: noqa: E402
import gc

gc.set_threshold(100_000)  # first: looking for garbage while all is imported takes longer than a command's own work

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import __version__
from .cli_upgrade import adopt, set_, upgrade
from .console import (
    Cli,
    complete_answers,
    complete_templates,
    json_option,
    parse_settings,
    print_json,
    print_warnings,
)
from .errors import PaccelError, UsageError

if TYPE_CHECKING:
    from .tree import Tree


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="paccel %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Editable PyTorch training projects: the loop is yours, and upgrades keep your edits.

    \b
    paccel new my-project
    cd my-project && pip install -e . && python train.py
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--template",
    metavar="NAME|DIR|GIT|ZIP",
    help="A bundled template, or one of your own. [default: image-classification]",
    shell_complete=complete_templates,
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Answer a question; repeatable.",
    shell_complete=complete_answers,
)
@click.option("--answers", type=click.Path(path_type=Path), help="Read answers from a TOML or JSON file.")
@click.option("--no-input", is_flag=True, help="Ask nothing; take the defaults.")
@click.option("--dry-run", is_flag=True, help="Render and show, but write nothing.")
@json_option
def new(
    path: Path,
    template: str | None,
    settings: tuple[str, ...],
    answers: Path | None,
    no_input: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a new project in the folder PATH."""
    from .baseline import Manifest
    from .catalog import DEFAULT_TEMPLATE, load_template
    from .project import check_target, create_project
    from .prompt import ask
    from .questions import PROJECT_NAME, check_project_name, read_answers, resolve_answers
    from .render import render
    from .report import next_commands, tree_text

    check_target(path)
    name = os.path.basename(os.path.abspath(path))
    given = (read_answers(answers) if answers else {}) | parse_settings(settings)
    found = load_template(template or DEFAULT_TEMPLATE)
    if PROJECT_NAME not in given and any(question.name == PROJECT_NAME for question in found.questions):
        check_project_name(name)
    may_ask = sys.stdin.isatty() and not no_input and not as_json
    chosen = resolve_answers(found, given, project_name=name, ask=ask if may_ask else None)
    tree = render(found, chosen)
    if not dry_run:
        create_project(path, Manifest.of(found.ref, chosen, tree), tree)
    commands = next_commands(str(path), tree)
    if as_json:
        print_json(
            {
                "project": os.path.abspath(path),
                "template": {"name": found.name, "source": found.source, "version": found.version},
                "answers": chosen,
                "files": list(tree),
                "next": commands,
                "dry_run": dry_run,
                "warnings": list(found.warnings),
            }
        )
        return
    print_warnings(found)
    click.echo(f"{'Would create' if dry_run else 'Created'} {path} from the template {found.name}\n")
    click.echo(tree_text(name, tree, found.bundled))
    if not dry_run:
        click.echo("\nNext:\n" + "\n".join(f"  {command}" for command in commands))


@main.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the templates that come with paccel."""
    from .catalog import read_bundled_metadata
    from .report import list_data, list_text

    found = read_bundled_metadata()
    if as_json:
        print_json(list_data(found))
    else:
        click.echo(list_text(found))


@main.command(short_help="Describe a template: questions, choices and files.")
@click.argument("template", shell_complete=complete_templates)
@json_option
def show(template: str, as_json: bool) -> None:
    """Describe a TEMPLATE: questions, choices, defaults and files."""
    from .catalog import load_template
    from .questions import PROJECT_NAME, resolve_answers
    from .render import render
    from .report import show_data, show_text

    found = load_template(template)
    tree = render(found, resolve_answers(found, {}, project_name="my-project"))
    questions = [question for question in found.questions if question.name != PROJECT_NAME]
    if as_json:
        print_json(show_data(found, questions, tree) | {"warnings": list(found.warnings)})
    else:
        print_warnings(found)
        click.echo(show_text(found, questions, tree))


@main.command(short_help="Show your edits to the template's files.")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--upstream", is_flag=True, help="Show what the template has changed since, instead of your edits.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@json_option
@click.pass_context
def diff(ctx: click.Context, paths: tuple[str, ...], upstream: bool, exit_code: bool, as_json: bool) -> None:
    """Show your edits to the template's files, or only those in PATH."""
    from .baseline import read_state
    from .compare import compare
    from .project import find_project, read_paths
    from .report import diff_data, diff_text

    root = find_project(Path.cwd())
    manifest, base = read_state(root)
    if upstream:
        from .carry import carry_answers
        from .catalog import load_template
        from .render import render

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


@main.command(short_help="Check this machine and the project.")
@click.option("--rebuild-baseline", is_flag=True, help="Render the baseline again, after a git conflict in it.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, rebuild_baseline: bool, as_json: bool) -> None:
    """Say what this machine offers, and whether the project is sound."""
    from . import doctor as checks
    from .project import find_project
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


@main.command(short_help="Print the tab completion of bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the tab completion of a SHELL.

    \b
    bash: put  eval "$(paccel completion bash)"    into ~/.bashrc
    zsh:  put  eval "$(paccel completion zsh)"     into ~/.zshrc
    fish: put  paccel completion fish | source     into ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(main, {}, "paccel", "_PACCEL_COMPLETE").source())


for command in (upgrade, set_, adopt):
    main.add_command(command)

if __name__ == "__main__":
    main()
