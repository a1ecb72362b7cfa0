"""What a train.py stands on: helpers for device, precision, distribution, checkpoints and records.

The loop is the user's. Each of these does one thing that a reader could write out; `Run.accelerator` is always there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Load all of it when the first name is asked for, so that `paccel.runtime.supervise` starts without PyTorch."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`", name=name)
    return getattr(import_module(".api", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
