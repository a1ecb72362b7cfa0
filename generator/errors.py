"""Errors that a user can cause, each with the exit code of the command.

PaccelError
├── UsageError           2  an option, answer, name or path is not valid
├── PreconditionError    3  the project's state does not allow the command
│   └── StateError          the project's manifest or baseline is missing or damaged
└── TemplateError        4  a template cannot be found, read or rendered
"""

from collections.abc import Iterable


class PaccelError(ValueError):
    """The base class. A message says what was given, what is wrong and what to do.

    Names and commands are in backticks; a message of one sentence has no final period.
    """

    exit_code = 1


class UsageError(PaccelError):
    """Raised when an option, an answer, a name or a path is not valid."""

    exit_code = 2


class PreconditionError(PaccelError):
    """Raised when the state of the project does not allow the command."""

    exit_code = 3


class StateError(PreconditionError):
    """Raised when a project's manifest or baseline is missing or damaged.

    Attributes:
        problem: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class TemplateError(PaccelError):
    """Raised when a template cannot be found, read or rendered."""

    exit_code = 4


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the most similar of `known`, or an empty text."""
    import difflib  # only error messages need it

    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean `{lowered[near[0]]}`?" if near else ""
