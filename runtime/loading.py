"""Loading what a run has trained: its settings and its weights."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from .config import compare_settings, config_from_dict, config_to_dict
from .errors import ConfigError, local_rank
from .record import progress
from .record.record import Record
from .record.status import RUNS
from .storage.weights import has_hash, read_weights

T = TypeVar("T")


def load_run(config_class: type[T], run_dir: Path | None = None, **changes: Any) -> tuple[Path, T]:
    """The settings of a run, as an instance of its `Config`.

    Fields that the `Config` has got since have their defaults, those that it has lost are left out; a line on standard
    error names them.

    Args:
        config_class: The dataclass that the run was started with.
        run_dir: The run; None is the newest one under `runs/` that has weights.
        changes: Settings to take instead of the run's, such as where its data lies now. None is as in the run.

    Raises:
        ConfigError: There is no such run, or its settings do not fit the dataclass.
    """
    if run_dir is None:
        found = [*RUNS.glob("*/weights/*.safetensors"), *RUNS.glob("*/weights/*/*.safetensors.index.json")]
        runs = sorted(found, key=lambda path: path.stat().st_mtime)
        if not runs:
            raise ConfigError(f"No run with weights under `{RUNS}`: train one first, or pass `--run-dir`")
        run_dir = RUNS / runs[-1].relative_to(RUNS).parts[0]
    settings = Record(run_dir).settings()
    if settings is None:
        raise ConfigError(f"`{run_dir}` is not a run directory: it has no `config.json`")
    config = config_from_dict(config_class, settings)
    lines, _ = compare_settings(config_class, config_to_dict(config), settings)
    if lines and local_rank() == 0:
        print(
            f"note: {run_dir} was started with another `{config_class.__name__}`: {', '.join(lines)}", file=sys.stderr
        )
    given = {name: value for name, value in changes.items() if value is not None}
    return run_dir, replace(config, **given)  # type: ignore[type-var]


def load_weights(path: Path, model: nn.Module, *, strict: bool = True) -> list[str]:
    """Load weights into a model that is not wrapped yet, or sharded by FSDP2, of which each process reads its part.

    A file that paccel wrote is checked against its hash. One without a hash, as others write it, is loaded with a line
    that says so.

    Args:
        path: The file, or a folder with one or with a `model.safetensors.index.json`. Where `NAME.safetensors` is not
            there, the folder `NAME`.
        model: The model, or a part of one.
        strict: Whether a difference in names or shapes is an error. Otherwise what fits is loaded, and the rest printed.

    Returns:
        A line for each weight that does not fit; none with `strict`.

    Raises:
        CheckpointError: The file is missing or damaged, or its weights are not those of the model; lists them.
    """
    metadata, differences = read_weights(path, model, strict=strict)
    if os.environ.get("RANK", "0") == "0":
        if not has_hash(metadata):
            progress.say(f"{path} has no hash of paccel's: damage to it would not be noticed")
        if differences:
            progress.say("\n  ".join([f"{path} does not fit the model in all, the rest is loaded:", *differences]))
    return differences
