"""Errors that a user can cause, each with the exit code of the command that meets it.

PaccelError
├── UsageError           2  an option, answer, name or path that cannot be used
├── PreconditionError    3  the project is not in a state for this command
│   └── StateError          its manifest or baseline is missing or damaged
└── TemplateError        4  a template that cannot be found, read or rendered
"""


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
