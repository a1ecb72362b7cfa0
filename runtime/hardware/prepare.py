"""Models and optimizers as a run needs them: on the device, compiled, wrapped for distribution.

What differs between plain PyTorch, accelerate's wrappers and DeepSpeed is here, one class for each.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..errors import ConfigError
from .deepspeed import EngineOptimizer, configure
from .gradients import clip_grad_norm, takes_found_inf
from .sharding import ENGINES, gather_state, is_sharded_model, load_model, load_optimizer, model_state, whole


class Prepared:
    """The models and optimizers of a run, and how they go backward, clip and come into a checkpoint.

    Args:
        accelerator: accelerate's.
        say: Takes a line for the terminal.
        compile: Whether to compile the models.

    Attributes:
        models: As they are trained, in their wrappers.
        optimizers: PyTorch's own, without wrappers.
    """

    def __init__(self, accelerator: Accelerator, say: Callable[[str], None], *, compile: bool) -> None:
        self.accelerator = accelerator
        self.models: list[nn.Module] = []
        self.optimizers: list[Any] = []
        self._say, self._compile = say, compile
        self._parameters: dict[nn.Module, list[nn.Parameter]] = {}

    @cached_property
    def _way(self) -> "_Plain":
        kind = self.accelerator.distributed_type
        if kind is DistributedType.DEEPSPEED:
            return _DeepSpeed(self.accelerator, self.models, self._say)
        if self.accelerator.scaler is not None or kind in ENGINES:
            return _Accelerated(self.accelerator, self.models)
        return _Plain(self.accelerator, self.models)

    def prepare(self, objects: Sequence[Any]) -> list[Any]:
        """What `Run.prepare` returns, in the same order."""
        # One that an earlier run has prepared still has the loss scaler of that run
        own = [_without_wrapper(thing) for thing in objects]
        if self._compile:
            for model in own:
                if isinstance(model, nn.Module):
                    model.compile()  # in place, so that the names of the weights stay as they are
        ready = self._way.prepare(own)
        self.models += [thing for thing in ready if isinstance(thing, nn.Module)]
        self.optimizers += [_without_wrapper(thing) for thing in ready if isinstance(thing, Optimizer)]
        return ready

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """`model.parameters()` as a list, the same each time."""
        if model not in self._parameters:
            self._parameters[model] = list(model.parameters())
        return self._parameters[model]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's loss. Shape ()."""
        self._way.backward(loss)

    def clip_grad_norm(self, model: nn.Module, max_norm: float | None, *, reads: bool) -> Tensor:
        """As `gradients.clip_grad_norm`, over all processes. Collective where a model is sharded."""
        return whole(self._way.clip_grad_norm(self.parameters(model), max_norm, reads=reads))

    def exchange_gradients(self, now: bool) -> None:
        """Say whether the next backward pass exchanges gradients between processes, as a step's last one does."""
        self.accelerator.sync_gradients = now
        if now and self.accelerator.distributed_type is DistributedType.XLA:
            self.accelerator.gradient_state.is_xla_gradients_synced = False
        for model in self.models:
            if isinstance(model, DistributedDataParallel):
                model.require_backward_grad_sync = now
            elif is_sharded_model(model):
                model.set_requires_gradient_sync(now)

    def has_shards(self) -> bool:
        """Whether a forward pass is a collective, so that all processes must make as many."""
        return self._way.has_shards()

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        """The module inside a wrapper, where its forward pass works alone and calls no collective."""
        return self._way.for_evaluation(model)

    @property
    def loss_scaler(self) -> Any:
        """What scales losses in fp16, with `state_dict` and `load_state_dict`; None where nothing does."""
        return self._way.scaler

    def state_of(self, thing: Any, keep: bool) -> Any:
        """The state of anything that is tracked, with whole tensors. Collective where it is sharded.

        Args:
            thing: A model, an optimizer or anything else with a `state_dict`.
            keep: Whether this process wants what is gathered; it gets None for it otherwise.
        """
        if isinstance(thing, EngineOptimizer):
            return thing.state_dict(keep)
        state = model_state(self._unwrapped(thing)) if isinstance(thing, nn.Module) else thing.state_dict()
        return gather_state(state, keep)

    def load(self, thing: Any, state: Any) -> None:
        """Load what `state_of` has returned, on any number of processes. Collective where it is sharded."""
        if isinstance(thing, nn.Module):
            load_model(self._unwrapped(thing), state)
            self._way.take_weights()
        elif isinstance(thing, Optimizer):
            load_optimizer(thing, state)
        else:
            thing.load_state_dict(state)

    def _unwrapped(self, model: nn.Module) -> Any:
        """The model as it was written, so that a run goes on with or without `torch.compile` around it."""
        return self.accelerator.unwrap_model(model, keep_torch_compile=False)


def _without_wrapper(thing: Any) -> Any:
    return thing.optimizer if isinstance(thing, AcceleratedOptimizer) else thing


class _Plain:
    """PyTorch as it is: nothing scales the loss, and optimizers need no wrapper. DDP and FSDP2 are plain in this sense."""

    scaler: Any = None

    def __init__(self, accelerator: Accelerator, models: list[nn.Module]) -> None:
        self.accelerator, self.models = accelerator, models

    def prepare(self, things: list[Any]) -> list[Any]:
        sharded = [is_sharded_model(thing) for thing in things]  # by the loop itself; accelerate shards in place, below
        others = [thing for thing, is_sharded in zip(things, sharded, strict=True) if not is_sharded]
        prepared = self.accelerator.prepare(*others) if others else ()
        wrapped = iter(prepared if len(others) > 1 else [prepared])
        ready = [thing if is_sharded else next(wrapped) for thing, is_sharded in zip(things, sharded, strict=True)]
        return [self.optimizer(thing) if isinstance(thing, AcceleratedOptimizer) else thing for thing in ready]

    def optimizer(self, wrapped: AcceleratedOptimizer) -> Any:
        return wrapped.optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def clip_grad_norm(self, parameters: list[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        if self.has_shards():
            return self._clip_by_accelerate(parameters, max_norm)
        return clip_grad_norm(parameters, max_norm, reads=reads)

    def _clip_by_accelerate(self, parameters: list[nn.Parameter], max_norm: float | None) -> Tensor:
        """For gradients that are scaled, or are shards of several kinds."""
        return torch.as_tensor(self.accelerator.clip_grad_norm_(parameters, math.inf if max_norm is None else max_norm))

    def has_shards(self) -> bool:
        by_accelerate = self.accelerator.distributed_type is DistributedType.FSDP
        return by_accelerate or any(map(is_sharded_model, self.models))

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        inner: nn.Module = model if self.has_shards() else self.accelerator.unwrap_model(model)
        return inner

    def take_weights(self) -> None:
        """Weights were loaded: nothing else holds a copy of them."""


class _Accelerated(_Plain):
    """accelerate's wrappers: a loss scaler, or an engine that steps in a way of its own."""

    @property
    def scaler(self) -> Any:
        return self.accelerator.scaler

    def optimizer(self, wrapped: AcceleratedOptimizer) -> Any:
        if self.scaler is None or not takes_found_inf(wrapped.optimizer):
            return wrapped
        return FusedOptimizer(wrapped.optimizer, device_placement=False, scaler=self.scaler)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip_grad_norm(self, parameters: list[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        return self._clip_by_accelerate(parameters, max_norm)


class _DeepSpeed(_Plain):
    """DeepSpeed's engine: one model and one optimizer."""

    engine: EngineOptimizer | None = None

    def __init__(self, accelerator: Accelerator, models: list[nn.Module], say: Callable[[str], None]) -> None:
        super().__init__(accelerator, models)
        self.say = say

    def prepare(self, things: list[Any]) -> list[Any]:
        if all(isinstance(thing, nn.Module) for thing in things):  # an engine is for training
            return [self.accelerator.prepare_model(model, evaluation_mode=True) for model in things]
        kinds = [sum(isinstance(thing, kind) for thing in things) for kind in (nn.Module, Optimizer)]
        if self.engine is not None or kinds != [1, 1]:
            raise ConfigError(
                "DeepSpeed trains one model by one optimizer: give both to one `run.prepare`, and no others"
            )
        configure(self.accelerator, self.say)
        groups = [
            [list(group["params"]) for group in thing.param_groups] for thing in things if isinstance(thing, Optimizer)
        ]
        ready = super().prepare(things)
        (model,) = (thing for thing in ready if isinstance(thing, nn.Module))
        self.engine = EngineOptimizer(model, groups[0])
        return [self.engine if isinstance(thing, AcceleratedOptimizer) else thing for thing in ready]

    def optimizer(self, wrapped: AcceleratedOptimizer) -> Any:
        return wrapped  # takes its place when the engine is there

    @property
    def scaler(self) -> Any:
        return None if self.engine is None else self.engine.scaler

    def backward(self, loss: Tensor) -> None:
        self._trained().backward(loss, self.accelerator.sync_gradients)

    def clip_grad_norm(self, parameters: list[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        return self._trained().clip_grad_norm(parameters, max_norm, reads=reads)

    def has_shards(self) -> bool:
        return self.engine is not None and self.engine.stage == 3

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        inner: nn.Module = model if self.engine is not None else self.accelerator.unwrap_model(model)
        return inner

    def take_weights(self) -> None:
        if self.engine is not None:
            self.engine.take_weights()

    def _trained(self) -> EngineOptimizer:
        if self.engine is None:
            raise ConfigError("DeepSpeed has no model to train yet: give it with its optimizer to `run.prepare`")
        return self.engine


class FusedOptimizer(AcceleratedOptimizer):  # type: ignore[misc]
    """An optimizer that skips an update within its step, told of an overflow by the loss scaler.

    accelerate takes an update for made where the optimizer's `step` was called, as it always is for these. That the
    scale has fallen says that it was not. Reading the scale waits for the device.
    """

    _scale: float | None = None  # after the last step

    def step(self, closure: Any = None) -> None:
        before = self.scaler.get_scale() if self._scale is None else self._scale
        super().step(closure)
        self._scale = self.scaler.get_scale()
        self._is_overflow = self._scale < before

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._scale = None  # it comes back as well
