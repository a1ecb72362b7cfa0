"""The command line: parse, call, print. Everything heavier than click is imported inside the command that needs it."""

import os

import click

from .. import __version__
from .console import Cli
from .health import adopt, doctor
from .new import list_, new, show
from .upgrade import diff, set_, upgrade


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


for command in (new, list_, show, diff, doctor, upgrade, set_, adopt):
    main.add_command(command)
