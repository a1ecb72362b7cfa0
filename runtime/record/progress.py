"""What a run prints: progress bars, a line per log point, and warnings."""

import math
import os
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm


def bar(total: int | None, initial: int, *, shown: bool, description: str, delay: float = 0.0) -> "tqdm[Any]":
    """A progress bar below the log lines, if standard error is a terminal. `TQDM_DISABLE=1` turns it off."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit="step",
        disable=not shown or not sys.stderr.isatty() or bool(os.environ.get("TQDM_DISABLE")),
        delay=delay,
        leave=False,
        dynamic_ncols=True,
        smoothing=0.05,
    )


def say(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a warning to standard error."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def number(value: float) -> str:
    """A number as text, with about four significant digits."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size == 0 or size >= 0.01:
        return f"{value:.4f}" if size < 10 else f"{value:.4g}"
    return f"{value:.2e}"


def line(step: int, total: int | None, epoch: int, section: str, values: Mapping[str, Any]) -> str:
    """The line of a log point: `step 120/1120  epoch 2  train  loss 0.4312  learning_rate 3.00e-03`."""
    width = len(str(total)) if total else 6
    where = f"step {step:>{width}}" + (f"/{total}" if total else "")
    shown = [f"{name} {number(value)}" for name, value in values.items() if value is not None]
    return "  ".join([where, f"epoch {epoch:>2}", f"{section:<5}", *shown])
