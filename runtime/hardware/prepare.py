"""Models and optimizers as a run needs them: on the device, compiled, wrapped for distribution."""

from typing import TYPE_CHECKING, Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import nn
from torch.optim import Optimizer

from ..errors import ConfigError
from .deepspeed import EngineOptimizer, configure
from .sharding import is_sharded_model

if TYPE_CHECKING:
    from ..run import Run


class FusedOptimizer(AcceleratedOptimizer):  # type: ignore[misc]
    """An optimizer that skips an update within its step, told of an overflow by the loss scaler.

    accelerate takes an update for made where the optimizer's `step` was called, as it always is for these. That the
    scale has fallen says that it was not. Reading the scale waits for the device.
    """

    _scale: float | None = None  # behind the last step

    def step(self, closure: Any = None) -> None:
        before = self.scaler.get_scale() if self._scale is None else self._scale
        super().step(closure)
        self._scale = self.scaler.get_scale()
        self._is_overflow = self._scale < before

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._scale = None  # it comes back as well


def prepare(run: "Run", objects: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `Run.prepare` returns, in the same order."""
    # One that an earlier run has prepared still has the loss scaler of that run
    plain = [thing.optimizer if isinstance(thing, AcceleratedOptimizer) else thing for thing in objects]
    if run._compile:
        for model in plain:
            if isinstance(model, nn.Module):
                model.compile()  # in place, so that the names of the weights stay as they are
    groups = [
        [list(group["params"]) for group in thing.param_groups] for thing in plain if isinstance(thing, Optimizer)
    ]
    if run.accelerator.distributed_type is DistributedType.DEEPSPEED:
        if not groups and all(isinstance(thing, nn.Module) for thing in plain):  # an engine is for training
            return tuple(run.accelerator.prepare_model(model, evaluation_mode=True) for model in plain)
        _check_engine(run, plain)
        configure(run.accelerator, run._reporter.say)
    sharded = {id(thing) for thing in plain if is_sharded_model(thing)}  # before accelerate does, in place
    whole = [thing for thing in plain if id(thing) not in sharded]
    prepared = run.accelerator.prepare(*whole) if whole else ()
    wrapped = iter(prepared if len(whole) > 1 else [prepared])
    ready = [thing if id(thing) in sharded else next(wrapped) for thing in plain]
    models = [thing for thing in ready if isinstance(thing, nn.Module)]
    run._models += models
    for index, thing in enumerate(ready):
        if isinstance(thing, AcceleratedOptimizer):
            run._optimizers.append(thing.optimizer)
            if run.accelerator.distributed_type is DistributedType.DEEPSPEED:
                ready[index] = run._engine = EngineOptimizer(models[0], groups[0])
            elif run._plain:
                ready[index] = thing.optimizer
            elif thing.scaler is not None and getattr(thing.optimizer, "_step_supports_amp_scaling", False):
                ready[index] = FusedOptimizer(thing.optimizer, device_placement=False, scaler=thing.scaler)
    return tuple(ready)


def _check_engine(run: "Run", objects: list[Any]) -> None:
    kinds = [sum(isinstance(thing, kind) for thing in objects) for kind in (nn.Module, Optimizer)]
    if run._engine is not None or kinds != [1, 1]:
        raise ConfigError("DeepSpeed trains one model by one optimizer: give both to one `run.prepare`, and no others")
