"""The objects whose state a checkpoint holds."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..ema import EMA
from ..errors import AgreementError, ConfigError, quoted
from ..hardware.agreement import Agreement
from ..hardware.metrics import MetricState, is_metric
from ..hardware.param_groups import has_groups
from ..hardware.prepare import Prepared
from ..storage.checkpoint import encode_objects


class Tracked:
    """Everything that is passed to `Checkpoints` by name.

    Args:
        objects: Models, optimizers, schedules, EMAs, metrics and anything else with a `state_dict`.
        prepared: The wrappers around models and optimizers.
        agreement: The processes.

    Attributes:
        objects: The same, but metrics of torchmetrics as their `MetricState`.
        models: The models among them, without wrappers.

    Raises:
        ConfigError: An object has no `state_dict`, or is named `run`.
    """

    def __init__(self, objects: Mapping[str, Any], prepared: Prepared, agreement: Agreement) -> None:
        if "run" in objects:
            raise ConfigError("`run` is the name of the run's own state in a checkpoint: track this under another name")
        if stateless := [name for name, thing in objects.items() if not hasattr(thing, "state_dict")]:
            raise ConfigError(f"No state to track in {quoted(stateless)}")
        self._prepared = prepared
        self.objects: dict[str, Any] = {
            n: MetricState(thing, agreement) if is_metric(thing) else thing for n, thing in objects.items()
        }
        self.models = {
            n: prepared.unwrapped(thing) for n, thing in self.objects.items() if isinstance(thing, nn.Module)
        }

    def optimizers(self) -> dict[str, Any]:
        return {name: thing for name, thing in self.objects.items() if has_groups(thing)}

    def metrics_within_models(self) -> list[str]:
        """Metrics that are submodules of models: a model's `state_dict` leaves out what they have accumulated."""
        return [f"{n}.{path}" for n, model in self.models.items() for path, m in model.named_modules() if is_metric(m)]

    def parameter_names(self) -> dict[int, str]:
        """The name of each parameter of the models, as in `model.layer.weight`, by its identity."""
        return {
            id(parameter): f"{name}.{path}"
            for name, model in self.models.items()
            for path, parameter in model.named_parameters()
        }

    def state_of(self, name: str) -> Any:
        """The state of one object, with a `Shard` for each tensor that several processes write. Collective."""
        thing = self.objects[name]
        if isinstance(thing, EMA):
            return self._prepared.parts_of(thing.state_dict(whole=False))
        return self._prepared.state_of(thing)

    def check_states(self, hyperparameters: Any) -> None:
        """Check, before the first step instead of at the first save, that everything can be saved. Collective.

        Raises:
            CheckpointError: A state, or the hyperparameters, cannot be saved.
            ConfigError: A model has parameters without memory.
        """
        states = {"given": hyperparameters}
        for name in self.objects:
            try:
                states[name] = self.state_of(name)
            except (AgreementError, ConfigError):
                raise
            except Exception:  # it may have no state before its first step
                continue
        encode_objects(states, may_grow=True)
