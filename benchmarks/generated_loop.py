"""The training loop of a generated project, taken from the rendered template, for the benchmarks that time it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import load_template
from paccel.render.render import render

# Lines to delete from `train.py`, with their blocks, so that only forward, backward and update remain; each entry is the
# start of a line. The rest of the loop stays: exact order, seeds of each step, the stop flag, steps that are due.
FEATURES = (
    "train_meter.add(",
    "grad_norm = run.clip_grad_norm(",
    "learning_rate = schedule.get_last_lr()",
    "schedule.step()",
    "if step.every(config.log_every):",
)


def without_features(train: str) -> str:
    """`train.py` without clipping, schedule and log lines; each of `FEATURES` must be there exactly once."""
    lines = train.splitlines(keepends=True)
    for feature in FEATURES:
        (at,) = (number for number, line in enumerate(lines) if line.lstrip().startswith(feature))
        indent = len(lines[at]) - len(lines[at].lstrip())
        end = at + 1
        while lines[end].strip() and len(lines[end]) - len(lines[end].lstrip()) > indent:
            end += 1
        del lines[at:end]
    return "".join(lines)


@contextmanager
def generated(folder: Path, *, template: str = "image-classification", features: bool = True) -> Iterator[ModuleType]:
    """Write a template's default project to `folder`, and yield its `train` module."""
    chosen = load_template(template)
    for path, file in render(chosen, resolve_answers(chosen, {}, project_name="generated")).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    script = folder / "train.py"
    if not features:
        script.write_text(without_features(script.read_text(encoding="utf-8")), encoding="utf-8")
    names = ("train", "model", "data", "evaluate")
    sys.path.insert(0, str(folder))
    try:
        import train  # type: ignore[import-not-found]

        yield train
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


def splits_of(module: ModuleType, train: Any, held_out: Any, channels: int, num_classes: int) -> Any:
    """The project's own `Splits` of other data."""
    return sys.modules["data"].Splits(train, held_out, held_out, channels=channels, num_classes=num_classes)
