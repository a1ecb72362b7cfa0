"""The `paccel` command and its subcommands. Each imports what it needs when it runs: `--help` imports click alone."""

import os

import click

from .. import __version__
from .console import Cli
from .eject import eject
from .experiments import card, repeat, verify
from .health import adopt, doctor
from .new import list_, new, show
from .runs import compare, runs, watch
from .template import check_template
from .try_ import try_
from .upgrade import diff, set_, upgrade


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="paccel %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Generate PyTorch training projects that you own, and upgrade them without losing your edits.

    \b
    paccel new my-project        # train.py, model.py, data.py: yours to edit
    cd my-project
    pip install -e .             # PyTorch and the paccel runtime
    python train.py

    Later, paccel upgrade merges template improvements into your files.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@click.command(short_help="Print the tab-completion script for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the tab-completion script for SHELL.

    \b
    bash: add  eval "$(paccel completion bash)"    to ~/.bashrc
    zsh:  add  eval "$(paccel completion zsh)"     to ~/.zshrc
    fish: add  paccel completion fish | source     to ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(main, {}, "paccel", "_PACCEL_COMPLETE").source())


main.add_section("Create", new, list_, show)
main.add_section("Change and upgrade", diff, upgrade, set_)
main.add_section("Runs", runs, compare, watch, repeat, try_, verify, card)
main.add_section("Maintenance", adopt, doctor, eject, check_template, completion)
