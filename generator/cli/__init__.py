"""The command line, and the only part that prints."""

import os
import signal
from contextlib import suppress


def _stop(number: int, frame: object) -> None:
    os.write(2, b"Error: interrupted\n")
    os._exit(130)


# Ctrl-C during the imports: there is nothing to clean up yet, and Python would print a traceback, or ignore the signal in a
# callback of its import locks.
_loading = signal.getsignal(signal.SIGINT)
with suppress(ValueError):  # not in the main thread, which alone receives signals
    if _loading is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
try:
    from .main import main
finally:
    with suppress(ValueError):
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, _loading)

__all__ = ["main"]
