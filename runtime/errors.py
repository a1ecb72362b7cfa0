"""The errors of a run, and how a script ends on them.

ValueError
├── ConfigError         a setting, argument or environment that cannot be used
├── DataError           data that cannot be used for training or evaluation
└── CheckpointError     a checkpoint, weights file or state that cannot be written or read
RuntimeError
└── AgreementError      this process is fine; another one failed
ArithmeticError
└── NonFiniteError      a loss or gradient is not a finite number
SystemExit
└── Stopped             no error: the run was asked to stop, and has saved a checkpoint
"""

import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

_MAX_DELAY = 3  # seconds


class ConfigError(ValueError):
    """Raised for an invalid setting, argument or environment; lists all problems, and what to do."""


class DataError(ValueError):
    """Raised by a project's own code for data that is missing or wrong; says what to do."""


class CheckpointError(ValueError):
    """Raised for state that is damaged, does not fit, or cannot be saved; names the file or the key path."""


class AgreementError(RuntimeError):
    """Raised when another process has failed, with the message of that process."""


class NonFiniteError(ArithmeticError):
    """Raised on every process when a loss or a gradient is NaN or infinite; names the step."""


class Stopped(SystemExit):
    """Raised to end a run that was asked to stop and has saved: exit code 75, "try again later" in sysexits.h."""

    def __init__(self, reason: str, code: int = 75) -> None:
        super().__init__(code)
        self.reason = reason


def quoted(names: Iterable[str], limit: int = sys.maxsize) -> str:
    """Names as messages list them: in backticks, and beyond `limit` with `and 3 more`."""
    found = [f"`{name}`" for name in names]
    rest = len(found[limit:])
    return ", ".join(found[:limit]) + (f" and {rest} more" if rest else "")


def local_rank() -> int:
    """The rank of this process on its host; 0 without a launcher."""
    rank, size = os.environ.get("LOCAL_RANK", ""), os.environ.get("WORLD_SIZE", "")
    return int(rank) if rank.isdecimal() and size.isdecimal() and int(size) > 1 else 0


MENDABLE = (ConfigError, DataError, CheckpointError)
"""Errors that the user can fix, shown without traceback. If one ends a run before its first step, no files are left."""

_OF_THE_MACHINE = {  # disk full, quota or file limit reached, disk broken, read-only or without permission
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}


def lost_another(error: BaseException | None) -> bool:
    """Whether an error says that another process has ended: gloo raises one, NCCL waits for the launcher."""
    return isinstance(error, RuntimeError) and "by peer" in str(error)


@contextmanager
def exit_with_message() -> Iterator[None]:
    """End the script with a message and no traceback on an error that the user can fix.

        if __name__ == "__main__":
            with exit_with_message():
                main(load_config(Config))

    These are ConfigError, DataError and CheckpointError, AgreementError on the other processes, a lost connection to a
    process that has ended, and limits of the machine: a full or read-only disk, a quota, too many open files. The exit
    code is 1, as for any error. All other errors pass through.

    Raises:
        SystemExit: Instead of such an error.
    """
    try:
        yield
    except Exception as error:
        if not _show_message(error):
            raise
        raise SystemExit(1) from None


def show_uncaught_messages() -> None:
    """Do the same by `sys.excepthook`, for a script without `exit_with_message`, as paccel 0.1.0 generated them."""
    before = sys.excepthook
    if before.__module__ == __name__:
        return

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not _show_message(error):
            before(kind, error, trace)

    sys.excepthook = show


def _show_message(error: BaseException) -> bool:
    """Print the message of an error whose traceback would not help the user. Returns whether the error is one."""
    if isinstance(error, (*MENDABLE, AgreementError)):
        # If all processes of a host fail alike, the launcher kills the waiting ones once the first has ended
        time.sleep(min(local_rank(), _MAX_DELAY))
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
