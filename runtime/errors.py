"""What can go wrong in a run, and whose doing it is.

ValueError
├── ConfigError         a setting, argument or environment that cannot be used
├── DataError           data that cannot be trained on, or evaluated
└── CheckpointError     a checkpoint, weights file or state that cannot be written or read
RuntimeError
└── AgreementError      this process is sound; another one failed
ArithmeticError
└── NonFiniteError      a loss or gradient is not a finite number
SystemExit
└── Stopped             no error: the run was asked to stop, and has saved
"""


class ConfigError(ValueError):
    """Raised with all problems at once: what was given, what is wrong, what to do; typed things in backticks."""


class DataError(ValueError):
    """Raised, by a project's own code, for data that is missing or wrong: what was given, what is wrong, what to do."""


class CheckpointError(ValueError):
    """Raised when saved state is damaged, does not fit, or cannot be saved; names the file or the key path."""


class AgreementError(RuntimeError):
    """Raised on every process but the one that failed, with that one's message."""


class NonFiniteError(ArithmeticError):
    """Raised on every process when a loss or a gradient is NaN or infinite; names the step."""


class Stopped(SystemExit):
    """Raised to leave a run that was asked to stop and has saved: exit code 75, "try again later" in sysexits.h."""

    def __init__(self, reason: str) -> None:
        super().__init__(75)
        self.reason = reason


MENDABLE = (ConfigError, DataError, CheckpointError)
"""What its reader can mend: told by its message alone, and no trace is kept of a run that has not begun."""
