"""Comparing a loader's data with that of the checkpoint and of the other processes."""

from typing import Any
from weakref import WeakSet

from ..data.loader import Loader
from ..errors import DataError
from ..hardware.agreement import Agreement
from ..record.reporting import Reporter
from .position import Position

Description = dict[str, Any]
"""What `Loader.describe` returns."""


class DataCheck:
    """Compares the data of each loader, once, with the checkpoint's and between processes.

    Args:
        position: Holds the description of each loader's data.
        reporter: Reports data that may differ, and records all descriptions.
        agreement: The processes.
        is_fork: Whether the position comes from the checkpoint of another run, so that the data may differ.
    """

    def __init__(self, position: Position, reporter: Reporter, agreement: Agreement, *, is_fork: bool) -> None:
        self._position, self._reporter, self._agreement = position, reporter, agreement
        self._is_fork = is_fork
        self._checked: WeakSet[Loader] = WeakSet()

    def check(self, loader: Loader, *, trains: bool = True) -> None:
        """Compare a loader's data, the first time. Collective.

        A loader without a name, made after the first epoch began, is not compared with the checkpoint: data that the
        loop makes may differ each time.

        Raises:
            DataError: The training data differs from the checkpoint's, or the processes have different data. Raised on
                all processes.
        """
        if loader in self._checked:
            return
        self._checked.add(loader)
        description = loader.describe()
        self._compare_processes(description, trains)
        self._compare_with_checkpoint(loader.name, description, trains)
        record, name = self._reporter.record, loader.name
        if name and record is not None:
            self._agreement.on_main(lambda: record.write_data("train" if trains else "eval", name, description))

    def _compare_processes(self, description: Description, trains: bool) -> None:
        for other in self._agreement.gather(description):
            differences = _differences(description, other)
            if differences and (trains or description.get("samples") != other.get("samples")):
                raise DataError(
                    f"The processes are given different data ({'; '.join(differences)}): pass the whole dataset to "
                    "`run.loader` on every process, in the same order; paccel splits it"
                )

    def _compare_with_checkpoint(self, name: str | None, description: Description, trains: bool) -> None:
        position = self._position
        saved = position.data.get(name or "", description)
        is_known = description in position.data.values()
        if name:
            position.data[name] = description
        differences = [] if is_known else _differences(saved, description, with_batch_size=trains)
        if not differences:
            return
        changed = "; ".join(differences)
        if trains and not self._is_fork:
            raise DataError(
                f"The data of `run.loader` differs from that of the checkpoint: {changed}. Restore the data, or start a "
                "new run from the checkpoint with the new data: `--resume RUN/checkpoints/step-N --run-dir NEW`"
            )
        said = f"the data of `run.loader` differs from that of the checkpoint: {changed}"
        if trains and position.samples_in_epoch and not position.stream_is_over:
            said += f". Epoch {position.epoch} continues after {position.samples_in_epoch} samples"
            if _have_different_orders(saved, description):
                said += " in another order: some samples come twice, some never"
        self._reporter.say(said)


def _differences(before: Description, now: Description, *, with_batch_size: bool = True) -> list[str]:
    """What differs between two descriptions, in words."""
    words = {"samples": "{} samples", "classes": "the classes {}"} | (
        {"batch_size": "steps of {}", "order": "{}"} if with_batch_size else {}
    )
    differing = [key for key in words if key in before and key in now and before[key] != now[key]]
    found = [f"{words[key].format(_text(before[key]))}, now {_text(now[key])}" for key in differing]
    if not {"samples", "classes"} & set(differing) and before.get("content") != now.get("content"):
        found.append("the same number of samples, with other content")
    return found


def _have_different_orders(before: Description, now: Description) -> bool:
    return any(before.get(key, now.get(key)) != now.get(key) for key in ("samples", "content", "order"))


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
