"""What can go wrong in a run, whose doing it is, and how a script ends on it.

ValueError
├── ConfigError         a setting, argument or environment that cannot be used
├── DataError           data that cannot be trained on, or evaluated
└── CheckpointError     a checkpoint, weights file or state that cannot be written or read
RuntimeError
└── AgreementError      this process is fine; another one failed
ArithmeticError
└── NonFiniteError      a loss or gradient is not a finite number
SystemExit
└── Stopped             no error: the run was asked to stop, and has saved
"""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

_MOST_DELAY = 3  # seconds


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

    def __init__(self, reason: str, code: int = 75) -> None:
        super().__init__(code)
        self.reason = reason


def local_rank() -> int:
    """The rank of this process among those that a launcher started on this host; 0 without a launcher."""
    rank, size = os.environ.get("LOCAL_RANK", ""), os.environ.get("WORLD_SIZE", "")
    return int(rank) if rank.isdecimal() and size.isdecimal() and int(size) > 1 else 0


MENDABLE = (ConfigError, DataError, CheckpointError)
"""What its reader can mend: shown by its message alone. A run that fails with one before its first step leaves no trace."""


_OF_THE_MACHINE = {  # a full disk, a quota, a limit on files, a disk that is broken, or read-only, or not this user's
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}


def lost_another(error: BaseException | None) -> bool:
    """Whether a process that this one waited for has ended: gloo says so, NCCL waits for the launcher."""
    return isinstance(error, RuntimeError) and "by peer" in str(error)


@contextmanager
def exit_with_message() -> Iterator[None]:
    """End the script with one message and no traceback on an error that its reader can mend.

        if __name__ == "__main__":
            with exit_with_message():
                main(load_config(Config))

    Those are ConfigError, DataError and CheckpointError, AgreementError on the other processes, the loss of the
    connection to a process that has ended, and what the machine refuses: a full or read-only disk, a quota, a limit on
    open files. The exit code is 1, as for any error. All other errors pass through.

    Raises:
        SystemExit: In place of such an error.
    """
    try:
        yield
    except Exception as error:
        if not _show_message(error):
            raise
        raise SystemExit(1) from None


def show_uncaught_messages() -> None:
    """Do the same for a script without `exit_with_message`, as paccel 0.1.0 generated them, through `sys.excepthook`."""
    before = sys.excepthook
    if before.__module__ == __name__:
        return

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not _show_message(error):
            before(kind, error, trace)

    sys.excepthook = show


def _show_message(error: BaseException) -> bool:
    """Write the message of an error whose traceback would tell its reader nothing. Whether it is one."""
    if isinstance(error, (*MENDABLE, AgreementError)):
        # Where all processes of a host say the same, the launcher ends those that wait when the first has ended
        time.sleep(min(local_rank(), _MOST_DELAY))
        text = str(error)
    elif isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        file = f"`{error.filename}`: " if error.filename is not None else ""
        text = f"{file}{error.strerror}"
    elif lost_another(error):
        text = "another process exited; its error is above"
    else:
        return False
    print(f"error: {text}", file=sys.stderr)
    return True
