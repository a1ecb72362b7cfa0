"""Errors that a user can cause, each with the exit code of the command that meets it.

PaccelError
├── UsageError           2  an option, answer, name or path that cannot be used
├── PreconditionError    3  the project is not in a state for this command
│   └── StateError          its manifest or baseline is missing or damaged
└── TemplateError        4  a template that cannot be found, read or rendered
"""

from collections.abc import Iterable


class PaccelError(ValueError):
    """What was given, what is wrong, what to do; typed things in backticks, no final period on one sentence."""

    exit_code = 1


class UsageError(PaccelError):
    """Raised when an option, an answer, a name or a path cannot be used."""

    exit_code = 2


class PreconditionError(PaccelError):
    """Raised when the project is not in a state in which the command can run."""

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
    """Return `; did you mean …?` with the nearest of `known`, or nothing."""
    import difflib  # for messages only

    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean `{lowered[near[0]]}`?" if near else ""
