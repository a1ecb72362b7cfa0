"""Models and optimizers as a run needs them: on the device, compiled, wrapped for distribution.

What differs between plain PyTorch, accelerate's wrappers and DeepSpeed is here, one class for each.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
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

    This one is for PyTorch as it is, DDP and FSDP2 among it: nothing scales the loss, optimizers need no wrapper.

    Args:
        accelerator: accelerate's.
        say: Takes a line for the terminal.
        compile: Whether to compile the models.

    Attributes:
        models: As they are trained, in their wrappers.
        optimizers: PyTorch's own, without wrappers.
    """

    def __init__(self, accelerator: Accelerator, say: Callable[[str], None], *, compile: bool) -> None:
        self.accelerator, self.say, self.compile = accelerator, say, compile
        self.models: list[nn.Module] = []
        self.optimizers: list[Any] = []
        self._parameters: dict[nn.Module, list[nn.Parameter]] = {}

    def prepare(self, objects: Sequence[Any]) -> list[Any]:
        """What `Run.prepare` returns, in the same order."""
        # One that an earlier run has prepared still has the loss scaler of that run
        own = [thing.optimizer if isinstance(thing, AcceleratedOptimizer) else thing for thing in objects]
        if self.compile:
            for model in own:
                if isinstance(model, nn.Module):
                    model.compile()  # in place, so that the names of the weights stay as they are
        ready = self.wrap(own)
        self.models += [thing for thing in ready if isinstance(thing, nn.Module)]
        self.optimizers += [thing.optimizer for thing in ready if isinstance(thing, AcceleratedOptimizer)]
        return [self.unwrap(thing) if isinstance(thing, AcceleratedOptimizer) else thing for thing in ready]

    def wrap(self, things: list[Any]) -> list[Any]:
        """What accelerate makes of them; a model that the loop has sharded stays as it is."""
        sharded = [is_sharded_model(thing) for thing in things]
        others = [thing for thing, is_sharded in zip(things, sharded, strict=True) if not is_sharded]
        prepared = self.accelerator.prepare(*others) if others else ()
        wrapped = iter(prepared if len(others) > 1 else [prepared])
        return [thing if is_sharded else next(wrapped) for thing, is_sharded in zip(things, sharded, strict=True)]

    def unwrap(self, optimizer: AcceleratedOptimizer) -> Any:
        """The optimizer that the loop gets."""
        return optimizer.optimizer

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """`model.parameters()` as a list, the same each time."""
        if model not in self._parameters:
            self._parameters[model] = list(model.parameters())
        return self._parameters[model]

    def backward(self, loss: Tensor, count: int | Tensor, factor: int) -> None:
        """Add the gradients of `loss / count * factor`, a loss of shape ().

        The factor goes to autograd as the gradient of the loss: the same bits as from the division, and no operations
        whose graph has to be kept. It is a fifth of the time that a run may add to a step.
        """
        if loss.shape:
            (loss / count * factor).backward()  # type: ignore[no-untyped-call]  # what it takes is PyTorch's to say
        elif isinstance(count, int):
            loss.backward(_share(factor, count, loss.dtype, loss.device))  # type: ignore[no-untyped-call]
        else:
            share = _share(factor, 1, loss.dtype, loss.device) / count  # may be wider, as the division would be
            loss.backward(share.to(loss.dtype))  # type: ignore[no-untyped-call]

    def clip_grad_norm(self, model: nn.Module, max_norm: float | None, *, reads: bool) -> Tensor:
        """As `gradients.clip_grad_norm`, over all processes. Collective where a model is sharded."""
        if self.has_shards():
            return self.clip_by_accelerate(model, max_norm)
        return clip_grad_norm(self.parameters(model), max_norm, reads=reads)

    def clip_by_accelerate(self, model: nn.Module, max_norm: float | None) -> Tensor:
        """For gradients that are scaled, or are shards of several kinds."""
        limit = math.inf if max_norm is None else max_norm
        return whole(torch.as_tensor(self.accelerator.clip_grad_norm_(self.parameters(model), limit)))

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
        by_accelerate = self.accelerator.distributed_type is DistributedType.FSDP
        return by_accelerate or any(map(is_sharded_model, self.models))

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        """The module inside a wrapper, where its forward pass works alone and calls no collective."""
        inner: nn.Module = model if self.has_shards() else self.accelerator.unwrap_model(model)
        return inner

    @property
    def loss_scaler(self) -> Any:
        """What scales losses in fp16, with `state_dict` and `load_state_dict`; None where nothing does."""
        return self.accelerator.scaler

    def state_of(self, thing: Any, keep: bool) -> Any:
        """The state of anything that is tracked, with whole tensors. Collective where it is sharded.

        Args:
            thing: A model, an optimizer or anything else with a `state_dict`.
            keep: Whether this process wants what is gathered; it gets None for it otherwise.
        """
        if isinstance(thing, EngineOptimizer):
            return thing.state_dict(keep)
        state = model_state(self.unwrapped(thing)) if isinstance(thing, nn.Module) else thing.state_dict()
        return gather_state(state, keep)

    def load(self, thing: Any, state: Any) -> None:
        """Load what `state_of` has returned, on any number of processes. Collective where it is sharded."""
        if isinstance(thing, nn.Module):
            load_model(self.unwrapped(thing), state)
        elif isinstance(thing, Optimizer):
            load_optimizer(thing, state)
        else:
            thing.load_state_dict(state)

    def unwrapped(self, model: nn.Module) -> Any:
        """The model as it was written, so that a run goes on with or without `torch.compile` around it."""
        return self.accelerator.unwrap_model(model, keep_torch_compile=False)


@lru_cache(maxsize=64)
def _share(factor: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The gradient that the division passes on to the loss. Shape (). Kept, as most steps have the same."""
    return torch.tensor(factor, dtype=dtype, device=device) / count


class AcceleratePrepared(Prepared):
    """For accelerate's wrappers: a loss scaler, or an engine that steps in a way of its own."""

    def unwrap(self, optimizer: AcceleratedOptimizer) -> Any:
        if self.loss_scaler is None or not takes_found_inf(optimizer.optimizer):
            return optimizer
        return FusedOptimizer(optimizer.optimizer, device_placement=False, scaler=self.loss_scaler)

    def backward(self, loss: Tensor, count: int | Tensor, factor: int) -> None:
        self.accelerator.backward(loss / count * factor)

    def clip_grad_norm(self, model: nn.Module, max_norm: float | None, *, reads: bool) -> Tensor:
        return self.clip_by_accelerate(model, max_norm)


class DeepSpeedPrepared(Prepared):
    """For DeepSpeed's engine: one model and one optimizer."""

    engine: Any = None  # an `EngineOptimizer`, once there is a model to train

    def wrap(self, things: list[Any]) -> list[Any]:
        if all(isinstance(thing, nn.Module) for thing in things):  # an engine is for training
            return [self.accelerator.prepare_model(model, evaluation_mode=True) for model in things]
        models = [thing for thing in things if isinstance(thing, nn.Module)]
        optimizers = [thing for thing in things if isinstance(thing, Optimizer)]
        if self.engine is not None or (len(models), len(optimizers)) != (1, 1):
            raise ConfigError(
                "DeepSpeed trains one model by one optimizer: give both to one `run.prepare`, and no others"
            )
        configure(self.accelerator, self.say)
        groups = [list(group["params"]) for group in optimizers[0].param_groups]
        ready = super().wrap(things)
        self.engine = EngineOptimizer(next(thing for thing in ready if isinstance(thing, nn.Module)), groups)
        return ready

    def unwrap(self, optimizer: AcceleratedOptimizer) -> Any:
        return self.engine

    def backward(self, loss: Tensor, count: int | Tensor, factor: int) -> None:
        self.engine.backward(loss / count * factor, self.accelerator.sync_gradients)

    def clip_grad_norm(self, model: nn.Module, max_norm: float | None, *, reads: bool) -> Tensor:
        norm: Tensor = self.engine.clip_grad_norm(self.parameters(model), max_norm, reads=reads)
        return whole(norm)

    def has_shards(self) -> bool:
        return self.engine is not None and self.engine.stage == 3

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        return model if self.engine is not None else super().for_evaluation(model)

    def load(self, thing: Any, state: Any) -> None:
        super().load(thing, state)
        if isinstance(thing, nn.Module) and self.engine is not None:
            self.engine.take_weights()


def prepared_for(accelerator: Accelerator, say: Callable[[str], None], *, compile: bool) -> Prepared:
    """What prepares models and optimizers as this accelerator wants them."""
    if accelerator.distributed_type is DistributedType.DEEPSPEED:
        kind: type[Prepared] = DeepSpeedPrepared
    elif accelerator.scaler is not None or accelerator.distributed_type in ENGINES:
        kind = AcceleratePrepared
    else:
        kind = Prepared
    return kind(accelerator, say, compile=compile)


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
