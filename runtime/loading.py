"""Loading what a run has trained: its settings and its weights."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from .errors import ConfigError, local_rank
from .record import progress
from .record.record import Record
from .record.run_dirs import RUNS
from .settings.changes import compare_settings
from .settings.plain import config_from_dict, config_to_dict
from .storage.weights import has_hash, read_weights

T = TypeVar("T")


def load_run(config_class: type[T], run_dir: Path | None = None, **changes: Any) -> tuple[Path, T]:
    """The run directory, and the settings of the run as an instance of its `Config`.

    Fields added to the `Config` since the run have their defaults, removed ones are ignored; a line on standard error
    names them.

    Args:
        config_class: The dataclass that the run was started with.
        run_dir: The run; None is the newest one under `runs/` that has weights.
        changes: Settings that replace the run's, such as the path of its data. None keeps the run's.

    Raises:
        ConfigError: There is no such run, or its settings do not fit the dataclass.
    """
    if run_dir is None:
        found = [*RUNS.glob("*/weights/*.safetensors"), *RUNS.glob("*/weights/*/*.safetensors.index.json")]
        runs = sorted(found, key=lambda path: path.stat().st_mtime)
        if not runs:
            raise ConfigError(f"No run with weights under `{RUNS}`: train one first, or pass `--run-dir`")
        run_dir = RUNS / runs[-1].relative_to(RUNS).parts[0]
    settings = Record(run_dir).read_config().get("settings")
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
    """Load weights into a model that is not wrapped yet, or that FSDP2 has sharded: each process reads its part.

    A file that paccel wrote is checked against its hash. A file of another tool has none, and a line says that it was
    not checked.

    Args:
        path: The file, or a folder with one or with a `model.safetensors.index.json`. If `NAME.safetensors` does not
            exist, the folder `NAME` is tried.
        model: The model, or a part of one.
        strict: Whether a difference in names or shapes is an error. Otherwise what fits is loaded and the differences
            are printed.

    Returns:
        A line for each weight that does not fit; none with `strict`.

    Raises:
        CheckpointError: The file is missing or damaged, or does not fit the model; lists the differences.
    """
    metadata, differences = read_weights(path, model, strict=strict)
    if os.environ.get("RANK", "0") == "0":
        if not has_hash(metadata):
            progress.say(f"{path} has no hash of paccel's, so it was not checked for damage")
        if differences:
            progress.say(
                "\n  ".join([f"{path} was loaded where it fits the model; these weights differ:", *differences])
            )
    return differences
