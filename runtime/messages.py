"""How a script ends on an error that its reader can mend: with its message alone, as on a mistake in the settings."""

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .errors import MENDABLE, AgreementError

_MOST_DELAY = 3  # seconds


def lost_another(error: BaseException | None) -> bool:
    """Whether a process that this one waited for has ended: gloo says so, NCCL waits for the launcher."""
    return isinstance(error, RuntimeError) and "by peer" in str(error)


class _Messages:
    """The hook that Python calls with an error that nobody has caught.

    Args:
        before: The hook until now, for all other errors.
    """

    def __init__(self, before: Callable[..., Any]) -> None:
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, (*MENDABLE, AgreementError)):
            # Where all processes of a host say the same, the launcher ends those that wait when the first has ended.
            time.sleep(min(int(os.environ.get("LOCAL_RANK", "0")), _MOST_DELAY))
            sys.stderr.write(f"error: {error}\n")
        elif lost_another(error):
            sys.stderr.write("error: another process has ended while this one waited for it: see what it has said\n")
        else:
            self._before(kind, error, trace)


def end_with_messages() -> None:
    """From now on, tell an uncaught error that its reader can mend by its message, without a traceback.

    Those are ConfigError, DataError and CheckpointError, and AgreementError on the other processes. The exit code is
    1, as for any error. A process that waited for one that has ended says so, in a line. Any other error is shown as
    before.
    """
    if not isinstance(sys.excepthook, _Messages):
        sys.excepthook = _Messages(sys.excepthook)
