"""The runtime of a train.py: helpers for device, precision, distribution, checkpoints and run directories.

The training loop is the user's. Each helper does one thing that you could write yourself; `Run.accelerator` is always
there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import everything when the first name is used, so that `paccel.runtime.supervise` starts without PyTorch."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`", name=name)
    return getattr(import_module(".api", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
