"""The weights of a run that become files, for evaluation and use elsewhere."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ..ema import EMA
from ..errors import ConfigError
from ..hardware.agreement import Agreement
from ..hardware.prepare import Prepared
from ..storage.shards import Shard
from ..storage.weights import write_weights
from .writer import Writer


class WeightsFiles:
    """Writes the weights of models as safetensors files; the average, if a model has an EMA.

    Args:
        models: Models, and EMAs whose average to write, by name. None is each tracked model with parameters.
        tracked: Everything that is tracked, by name, among it the EMAs of the models.
        folder: Where the files go.
        max_shard_size: Bytes of a model's weights above which they become several files in a folder.
        prepared: The wrappers around models.
        agreement: The processes.
        writer: Writes in the background, or not.

    Raises:
        ConfigError: Two EMAs average one model and `models` does not say which to take, or it has something else.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module | EMA] | None,
        tracked: Mapping[str, Any],
        folder: Path,
        max_shard_size: int,
        prepared: Prepared,
        agreement: Agreement,
        writer: Writer,
    ) -> None:
        if models is None:
            modules = {name: thing for name, thing in tracked.items() if isinstance(thing, nn.Module)}
            models = {n: m for n, m in modules.items() if next(m.parameters(), None) is not None} or modules
        averages = {name: thing for name, thing in tracked.items() if isinstance(thing, EMA)}
        self._models = {name: _with_average(name, thing, averages) for name, thing in models.items()}
        self._folder, self._max_shard_size = folder, max_shard_size
        self._prepared, self._agreement, self._writer = prepared, agreement, writer

    def __bool__(self) -> bool:
        """Whether there is any model."""
        return bool(self._models)

    def write(self, name: str, step: int) -> None:
        """Write the weights of each model as `NAME.safetensors` or `NAME-MODEL.safetensors`. Collective."""
        for key, (model, average) in self._models.items():
            file = name if key == "model" or len(self._models) == 1 else f"{name}-{key}"
            write = partial(
                write_weights,
                self._folder / f"{file}.safetensors",
                metadata={"step": str(step)},
                max_shard_size=self._max_shard_size,
            )
            with average.swapped_in() if average else nullcontext():
                state = self._prepared.state_of(model, spread=False)
                if any(isinstance(value, Shard) for value in state.values()):
                    self._agreement.on_all(partial(write, state, writes=self._agreement.rank == 0))
                else:
                    self._writer.write_weights(key, state, write)


def _with_average(name: str, thing: Any, averages: Mapping[str, EMA]) -> tuple[nn.Module, EMA | None]:
    """A model, and the EMA whose average replaces its weights in the file."""
    if isinstance(thing, EMA):
        return thing.model, thing
    if not isinstance(thing, nn.Module):
        raise ConfigError(f"`weights` takes models and EMAs: `{name}` is a `{type(thing).__name__}`")
    own = [key for key, average in averages.items() if average.averages(thing)]
    if len(own) > 1:
        both = " and ".join(f"`{key}`" for key in own)
        each = ", ".join(f'"{key}": {key}' for key in own)
        raise ConfigError(
            f'{both} average `{name}`: say which becomes its weights, as in `weights={{"{name}": {own[0]}}}`, or '
            f"write a file of each: `weights={{{each}}}`"
        )
    return thing, averages[own[0]] if own else None
