"""The steps of loaders that `Step.beside` takes together with those of the training loader."""

from collections.abc import Generator

from ..data.loader import Loader
from ..data.order import Portion
from ..errors import ConfigError
from .data_check import DataCheck
from .position import Position


class BesideLoaders:
    """Reads loaders step by step beside another loader, epoch after epoch, and keeps their positions.

    Args:
        position: Holds the epoch and the samples of each loader.
        data_check: Compares their data.
        num_processes: How many processes take part in each step.
    """

    def __init__(self, position: Position, data_check: DataCheck, num_processes: int) -> None:
        self._position, self._data_check, self._num_processes = position, data_check, num_processes
        self._epochs: dict[str, tuple[int, Generator[Portion]]] = {}  # by loader: its epoch, and the steps left in it

    def next_step(self, training: Loader, loader: Loader, micro_batches: int) -> Portion:
        """The next step of a loader beside the steps of `training`. Collective at its first step.

        Raises:
            ConfigError: The loader was made too late, has no step, or some process may have no sample in a micro-batch.
            DataError: As `DataCheck.check`.
        """
        if not loader.name:
            raise ConfigError(
                "The loader of `step.beside` must be made before `run.epochs`, so that its position can be saved"
            )
        positions = self._position.beside
        epoch, start = positions.get(loader.name, (1, 0))
        opened, steps = self._epochs.get(loader.name, (0, None))
        if steps is None:
            self._data_check.check(loader)
            self._check_no_fillers(training, micro_batches)
            self._check_no_fillers(loader, micro_batches)
        if steps is None or opened != epoch:
            steps = loader.portions(epoch, start // loader.batch_size, micro_batches, start=start)
            self._epochs[loader.name] = epoch, steps
        portion = next(steps, None)
        if portion is None or portion.is_last:
            positions[loader.name] = [epoch + 1, 0]
        else:
            positions[loader.name] = [epoch, start + portion.num_samples]
        if portion is not None:
            return portion
        if not start:
            raise ConfigError(f"`{type(loader.dataset).__name__}` had no step in epoch {epoch}: it holds no batch")
        return self.next_step(training, loader, micro_batches)

    def _check_no_fillers(self, loader: Loader, micro_batches: int) -> None:
        """Refuse steps with a filler on some process, which would count in the loss of the other loader."""
        if (smallest := loader.smallest_step) < micro_batches * self._num_processes:
            raise ConfigError(
                "`step.beside` needs a sample for every micro-batch of every process "
                f"({self._num_processes} processes, {micro_batches} micro-batches each), and the smallest step of "
                f"`{type(loader.dataset).__name__}` may have {smallest}: pass `drop_last=True` to `run.loader`, or a "
                "larger batch size"
            )
