"""What a result depends on besides code, settings and data: versions, threads, hardware and the launcher."""

import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

import torch

_ALWAYS = ("paccel", "torch", "accelerate", "numpy")
_IF_IMPORTED = {  # module -> package
    "torchvision": "torchvision",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "datasets": "datasets",
    "timm": "timm",
    "torchmetrics": "torchmetrics",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "PIL": "pillow",
}
# The variables by which accelerate configures the processes that it launches. None holds a secret.
_LAUNCH = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which a result depends."""
    found = {"python": platform.python_version()}
    for name in (*_ALWAYS, *(package for module, package in _IF_IMPORTED.items() if module in sys.modules)):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def surroundings() -> dict[str, Any]:
    """What else affects rounding: CPU threads, the CPU's instruction set, the GPU, and the launcher's variables."""
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
    launch = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_LAUNCH)}
    return found | ({"launch": launch} if launch else {})
