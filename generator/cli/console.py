"""What all commands share: error messages, exit codes, options, tab completion."""

import codecs
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import PaccelError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED = 130
UPGRADE_FOUND = 10
SECONDS_BETWEEN_LINES = 2.0

_ASCII = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "…": "..."})

F = TypeVar("F", bound=Callable[..., Any])


class Cli(click.Group):
    """The `paccel` command group. It prints every error as one message, or one JSON object, and exits with its code."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sections: dict[str, tuple[click.Command, ...]] = {}

    def main(self, args: Sequence[str] | None = None, *_: Any, **options: Any) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        code, message = 0, ""
        options |= {"prog_name": "paccel", "standalone_mode": False}
        _print_in_any_encoding()
        try:
            with _one_interrupt():
                _check_text(arguments)
                code = super().main(arguments, **options) or 0
        except (
            click.Abort,
            click.ClickException,
            PaccelError,
            OSError,
            UnicodeEncodeError,
            KeyboardInterrupt,  # before click could make it an Abort
        ) as error:
            code, message = _explained(error)
        if message:
            with suppress(OSError):  # nobody can read it
                _print_error(message, code, "--json" in arguments)
        _close_broken_streams()
        sys.exit(code)

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands that `--help` lists under a title, in this order."""
        self._sections[title] = commands
        for command in commands:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]  # in the order of `add_section`, not by name

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each title. The descriptions are aligned across sections."""
        widest = max(map(len, self.commands))
        room = formatter.width - widest - 6
        for title, commands in self._sections.items():
            with formatter.section(title):
                rows = [(str(command.name).ljust(widest), command.get_short_help_str(room)) for command in commands]
                formatter.write_dl(rows)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _exit_on_closed_pipe():  # `--help` and `--version` are printed here
            try:
                return super().make_context(*arguments, **options)
            except click.exceptions.NoArgsIsHelpError as error:
                click.echo(error.ctx.get_help())
                raise click.exceptions.Exit(error.exit_code) from error

    def invoke(self, ctx: click.Context) -> Any:
        with _exit_on_closed_pipe():
            return super().invoke(ctx)


def _print_in_any_encoding() -> None:
    """Replace characters that the encoding of a standard stream lacks, such as cp1252 of a pipe on Windows."""
    codecs.register_error("paccel", _in_ascii)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "paccel"), (sys.stderr, "paccel")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `codecs`: box drawing becomes ASCII, everything else an escape like `\\u4e2d`."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse arguments with characters that neither a file name nor an answer can have."""
    for argument in arguments:
        try:
            unusable = b"\0" in os.fsencode(argument)
        except UnicodeEncodeError:
            unusable = True
        if unusable:
            raise UsageError(f"The argument {argument!a} has a character that cannot be used")


@contextmanager
def _exit_on_closed_pipe() -> Iterator[None]:
    """End the command quietly when the reader of its output has closed the pipe, as `| head` does."""
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(0) from error


def _close_broken_streams() -> None:
    """Discard buffered output that can no longer be written, so that Python does not fail on it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _explained(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the message for the exception that ended a command."""
    match error:
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
        case click.ClickException():
            return error.exit_code, _click_message(error)
        case PaccelError():
            return error.exit_code, str(error)
        case UnicodeEncodeError():  # a file name that needs UTF-8, in a locale without it
            name = error.object[error.start : error.end]
            return 3, (
                f"The name {name!a} cannot be written in the encoding `{error.encoding}`: choose a UTF-8 locale, or set"
                " `PYTHONUTF8=1`"
            )
        case OSError() if error.filename:
            return 3, f"`{error.filename}`: {error.strerror}"
        case FileNotFoundError():  # without a file name, it is the working directory
            return 3, "The working directory no longer exists: go to another folder"
        case _:
            return 3, getattr(error, "strerror", None) or str(error)


def _click_message(error: click.ClickException) -> str:
    """Put click's message in the form of ours: names in backticks, and a pointer to `--help`."""
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
    except ValueError:  # not in the main thread, which alone receives signals
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

    click.echo(json.dumps(data, indent=2))


def print_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('Warning:', fg='yellow', bold=True)} {warning}", err=True)


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(f"{click.style('Note:', bold=True)} {note}", err=True)


def print_progress(text: str) -> None:
    click.echo(text, err=True)


def slow_progress() -> Callable[[str], None]:
    """Return a function that prints progress at most every two seconds, so that a quick command prints none."""
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print_progress(f"{text} …")

    return tell


def complete_templates(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    from ..catalog.catalog import bundled_names

    names = [CompletionItem(name) for name in bundled_names() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="dir")]


def complete_answers(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    from ..catalog.catalog import DEFAULT_TEMPLATE, load_template

    try:
        template = load_template(ctx.params.get("template") or DEFAULT_TEMPLATE)
    except PaccelError:
        return []
    values = [
        f"{question.name}={value}"
        for question in template.questions
        if not question.is_folder
        for value in question.choices or (("true", "false") if question.kind == "bool" else ("",))
    ]
    return [CompletionItem(value) for value in values if value.startswith(incomplete)]


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def parse_answers(given: Sequence[str]) -> dict[str, str]:
    """Parse `KEY=VALUE` arguments; the last one of a key counts."""
    wrong = [text for text in given if not text.partition("=")[0] or "=" not in text]
    if wrong:
        raise UsageError(f"`{wrong[0]}` is not an answer: write `KEY=VALUE`")
    return {name: value for name, _, value in (text.partition("=") for text in given)}
