"""What all commands share: errors as one message or one JSON object, exit codes, options, tab completion."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import PaccelError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..catalog.catalog import Template

INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


class Cli(click.Group):
    """The `paccel` command: every error becomes one message, or one JSON object, and its exit code."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **options: Any) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        code, message = 0, ""
        options |= {"prog_name": "paccel", "standalone_mode": False}
        try:
            with _one_interrupt():
                code = super().main(arguments, **options) or 0
        except click.Abort:
            code, message = INTERRUPTED, "interrupted"
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help())
            code = error.exit_code
        except click.ClickException as error:
            code, message = error.exit_code, _click_message(error)
        except PaccelError as error:
            code, message = error.exit_code, str(error)
        except OSError as error:
            code, message = 3, f"`{error.filename}`: {error.strerror}" if error.filename else str(error)
        if message:
            _print_error(message, code, "--json" in arguments)
        sys.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]  # in the order in which they were added, not by name

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader (`| head`) has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _click_message(error: click.ClickException) -> str:
    """Rewrite click's message in our form: typed things in backticks, and what to do."""
    message = re.sub(r"'([^']*)'", r"`\1`", error.format_message()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see `{context.command_path} --help`)" if context else message


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Let the first Ctrl-C interrupt, and ignore others during the cleanup after it."""

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # not in the main thread, and only that one receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print_error(message: str, code: int, as_json: bool) -> None:
    if as_json:
        print_json({"error": {"message": message, "exit_code": code}})
    else:
        click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True)


def print_json(data: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_warnings(template: "Template") -> None:
    for warning in template.warnings:
        click.echo(f"{click.style('Warning:', fg='yellow', bold=True)} {warning}", err=True)


def complete_templates(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    from ..catalog.catalog import bundled_names

    names = [CompletionItem(name) for name in bundled_names() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="dir")]


def complete_answers(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    from ..catalog.catalog import DEFAULT_TEMPLATE, load_template
    from ..catalog.questions import PROJECT_NAME

    try:
        template = load_template(ctx.params.get("template") or DEFAULT_TEMPLATE)
    except PaccelError:
        return []
    values = [
        f"{question.name}={value}"
        for question in template.questions
        if question.name != PROJECT_NAME
        for value in question.choices or (("true", "false") if question.kind == "bool" else ("",))
    ]
    return [CompletionItem(value) for value in values if value.startswith(incomplete)]


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def parse_answers(given: Sequence[str]) -> dict[str, str]:
    """Split `KEY=VALUE` arguments; a later one wins over an earlier one."""
    wrong = [text for text in given if not text.partition("=")[0] or "=" not in text]
    if wrong:
        raise UsageError(f"`{wrong[0]}` is not an answer: write `KEY=VALUE`")
    return {name: value for name, _, value in (text.partition("=") for text in given)}
