"""Preparing models and optimizers: moved to the device, compiled, wrapped for distribution.

One class each for plain PyTorch, for accelerate's wrappers and for DeepSpeed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ..errors import ConfigError
from ..storage.shards import Turns, check_has_memory
from .deepspeed import EngineOptimizer, configure
from .exchange import average, take_from_main
from .gradients import clip_grad_norm, leaves, takes_found_inf
from .sharding import ENGINES, check_shards, is_sharded, is_sharded_model, whole
from .states import load_model, load_optimizer, parts

SPREAD_FROM = 1 << 26
"""Bytes of the parameters that DDP replicates, from which on each process writes some of their rows."""

_WRAPPED = ENGINES | {DistributedType.FSDP}
"""Where models have accelerate's own wrappers."""


class Prepared:
    """The models and optimizers of a run: their backward pass, gradient clipping and state.

    This class is for plain PyTorch, DDP and FSDP2, where no loss is scaled and optimizers need no wrapper.

    Args:
        accelerator: accelerate's `Accelerator`.
        say: Prints a line.
        compile: Whether to compile the models.

    Attributes:
        models: The prepared models, in their wrappers.
        optimizers: PyTorch's optimizers, without wrappers.
    """

    def __init__(self, accelerator: Accelerator, say: Callable[[str], None], *, compile: bool) -> None:
        self.accelerator, self.say, self.compile = accelerator, say, compile
        accelerator.gradient_accumulation_steps = 1  # a launcher's setting would divide each loss
        self.models: list[nn.Module] = []
        self.optimizers: list[Any] = []
        self._exchanged: dict[nn.Parameter, None] = {}  # whose gradients DDP averages, in order
        self._graph_is_kept = False  # the last backward pass kept its graph for another one

    def prepare(self, objects: Sequence[Any], *, find_unused_parameters: bool = False) -> list[Any]:
        """Prepare models and optimizers; see `Run.prepare`. Returns them in the same order."""
        for thing in objects:
            if not isinstance(thing, nn.Module) and not hasattr(thing, "step"):  # accelerate would return it unprepared
                raise ConfigError(
                    f"`run.prepare` takes models and optimizers, not a `{type(thing).__name__}`: pass each as an argument, "
                    "or several models in an `nn.ModuleList`"
                )
        # The wrapper that an earlier run put around an optimizer has the loss scaler of that run
        plain = [thing.optimizer if isinstance(thing, AcceleratedOptimizer) else thing for thing in objects]
        models = [thing for thing in plain if isinstance(thing, nn.Module)]
        check_shards(models, self.accelerator.num_processes)
        if self.compile:
            for model in models:
                model.compile()  # in place, so that the names of the weights stay the same
        handler = self.accelerator.ddp_handler
        if find_unused_parameters:
            options = vars(handler) if handler else {}
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(**options | {"find_unused_parameters": True})
        ready = self.wrap(plain)
        self.accelerator.ddp_handler = handler
        for thing in ready:
            if isinstance(thing, DistributedDataParallel):
                self._exchanged |= dict.fromkeys(p for p in thing.parameters() if p.requires_grad)
        self.models += [thing for thing in ready if isinstance(thing, nn.Module)]
        self.optimizers += [thing.optimizer for thing in ready if isinstance(thing, AcceleratedOptimizer)]
        return [self.for_loop(thing) if isinstance(thing, AcceleratedOptimizer) else thing for thing in ready]

    def wrap(self, things: list[Any]) -> list[Any]:
        """Wrap them with accelerate, except models that the script has sharded itself."""
        frozen = [self._is_frozen(thing) for thing in things]
        sharded = [is_sharded_model(thing) for thing in things]  # before accelerate shards the others in place
        others = [t for t, *apart in zip(things, frozen, sharded, strict=True) if not any(apart)]
        prepared = self.accelerator.prepare(*others) if others else ()
        wrapped = iter(prepared if len(others) > 1 else [prepared])
        ready = []
        for thing, is_frozen, is_sharded_already in zip(things, frozen, sharded, strict=True):
            if is_frozen:
                ready.append(self.accelerator.prepare_model(thing, evaluation_mode=True))
            else:
                ready.append(thing if is_sharded_already else next(wrapped))
        return ready

    def _is_frozen(self, thing: Any) -> bool:
        """Whether it is a module without trainable parameters, which DDP refuses."""
        is_module = isinstance(thing, nn.Module) and self.accelerator.distributed_type not in _WRAPPED
        return is_module and not any(parameter.requires_grad for parameter in thing.parameters())

    def for_loop(self, optimizer: AcceleratedOptimizer) -> Any:
        """The optimizer that `Run.prepare` returns."""
        return optimizer.optimizer

    def parameters(self, model: nn.Module | Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """The parameters of a module as it is now, or the given ones, as a list.

        Raises:
            ConfigError: DDP does not average the gradients of some, so they would differ between processes.
        """
        found = list(model.parameters() if isinstance(model, nn.Module) else model)
        if self._exchanged:
            strays = [p for p in found if p.grad is not None and p not in self._exchanged and not is_sharded(p)]
            if strays:
                raise ConfigError(
                    f"`{type(model).__name__}` has {len(strays)} parameters whose gradients are not exchanged between "
                    "processes: added or unfrozen after `run.prepare`, or never passed to it. Prepare a model when it is "
                    "complete and trainable (`finetuning.Unfreezing` freezes after that), and again after it has grown: "
                    "`run.prepare(run.accelerator.unwrap_model(model))`"
                )
        return found

    def backward(
        self,
        loss: Tensor,
        count: int | Tensor,
        factor: float | Tensor,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
        inputs: Iterable[Tensor] | None = None,
    ) -> None:
        """Add the gradients of `loss / count * factor`, with a loss of shape (). The options are PyTorch's.

        `factor / count` is passed to autograd as the gradient of the loss: the same bits as from a division, without its
        graph, which saves a fifth of the time that a run may add to a step. It is 0 if the count is 0.

        Raises:
            ConfigError: `create_graph` with DDP, which averages values of gradients, not their graphs.
        """
        if loss.shape:
            if loss.numel() != 1:
                loss.backward()  # type: ignore[no-untyped-call]  # raises PyTorch's error
            loss = loss.reshape(())
        if isinstance(count, Tensor) or isinstance(factor, Tensor):
            # promoted to the dtype of the count, as in a division of the loss
            share = torch.ones((), dtype=loss.dtype, device=loss.device) * factor / count
            share = share.nan_to_num(posinf=0.0, neginf=0.0).to(loss.dtype)
        else:
            share = torch.full((), factor / count if count else 0.0, dtype=loss.dtype, device=loss.device)
        if self._exchanged and create_graph:
            raise ConfigError(
                "`create_graph` keeps the graph of this process only, so second derivatives would differ between "
                "processes: use `torch.autograd.grad(…, create_graph=True)` inside the loss, or one process"
            )
        is_kept, self._graph_is_kept = self._graph_is_kept, retain_graph
        if self._exchanged and (is_kept or retain_graph or inputs is not None):
            self._backward_without_ddp(loss, share, retain_graph, inputs)
        else:
            keeps = retain_graph or create_graph
            given = None if inputs is None else list(inputs)
            loss.backward(share, retain_graph=keeps, create_graph=create_graph, inputs=given)  # type: ignore[no-untyped-call]

    def _backward_without_ddp(
        self, loss: Tensor, share: Tensor, retain_graph: bool, inputs: Iterable[Tensor] | None
    ) -> None:
        """A backward pass whose gradients are averaged here: one of several through a graph, or only for some leaves.

        DDP averages only in the first backward pass after a forward pass, once every parameter has its gradient. Gradients
        that are averaged already are the same on all processes, so averaging them again changes nothing.
        """
        targets = leaves(loss) if inputs is None else list(inputs)
        gradients = torch.autograd.grad(loss, targets, share, retain_graph=retain_graph, allow_unused=True)
        for target, gradient in zip(targets, gradients, strict=True):
            if gradient is not None:
                target.grad = gradient if target.grad is None else target.grad.add_(gradient)
        if self.accelerator.sync_gradients:
            reached = set(targets)
            average(p.grad for p in self._exchanged if p in reached and p.grad is not None)

    def clip_grad_norm(self, parameters: list[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        """As `gradients.clip_grad_norm`, over all processes. Collective if a model is sharded."""
        if self.has_shards():
            return self.clip_by_accelerate(parameters, max_norm)
        return clip_grad_norm(parameters, max_norm, reads=reads)

    def clip_by_accelerate(self, parameters: list[nn.Parameter], max_norm: float | None) -> Tensor:
        """For gradients that are scaled or sharded."""
        limit = math.inf if max_norm is None else max_norm
        return whole(torch.as_tensor(self.accelerator.clip_grad_norm_(parameters, limit)))

    def exchange_gradients(self, now: bool) -> None:
        """Set whether the next backward pass exchanges gradients between processes; that of a step's last micro-batch does."""
        self.accelerator.sync_gradients = now
        if now and self.accelerator.distributed_type is DistributedType.XLA:
            self.accelerator.gradient_state.is_xla_gradients_synced = False
        for model in self.models:
            if isinstance(model, DistributedDataParallel):
                model.require_backward_grad_sync = now
            elif is_sharded_model(model):
                model.set_requires_gradient_sync(now)

    def has_shards(self) -> bool:
        """Whether a forward pass is a collective, so that all processes must run the same number of them."""
        by_accelerate = self.accelerator.distributed_type is DistributedType.FSDP
        return by_accelerate or any(map(is_sharded_model, self.models))

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        """The module inside a wrapper, whose forward pass calls no collective; a sharded model as it is."""
        return model if self.has_shards() else self._inner(model)

    def take_buffers_from_main(self, models: Iterable[nn.Module]) -> None:
        """Copy the main process's buffers, which are saved, to the prepared models and others. Collective.

        DDP does the same in its next forward pass. In FSDP2, DeepSpeed and plain modules each process has its own.
        """
        if self.accelerator.num_processes == 1:
            return
        found: dict[Tensor, None] = {}  # without duplicates, in the same order on all processes
        for model in (*self.models, *models):
            ignored = model.parameters_to_ignore if isinstance(model, DistributedDataParallel) else ()
            found |= dict.fromkeys(b for name, b in self._inner(model).named_buffers() if name not in ignored)
        take_from_main(buffer for buffer in found if not is_sharded(buffer) and not is_lazy(buffer))

    @property
    def loss_scaler(self) -> Any:
        """The gradient scaler of fp16, which has a state; None if losses are not scaled."""
        return self.accelerator.scaler

    def state_of(self, thing: Any, *, spread: bool = True) -> Any:
        """The state of a tracked object, with a `Shard` for each tensor that several processes write. Collective for DeepSpeed.

        Args:
            thing: A model, an optimizer or anything else with a `state_dict`.
            spread: Whether several processes share the writing of what DDP replicates, if it is large, and of what
                DeepSpeed has sharded. Otherwise one process writes it, from the `gather` of its `Shard`.

        Raises:
            ConfigError: A model has parameters on the meta device.
        """
        processes = self.accelerator
        rank, count = processes.process_index, processes.num_processes
        if isinstance(thing, EngineOptimizer):
            return thing.parts(Turns(rank, count))
        if isinstance(thing, nn.Module):
            check_has_memory(thing)
            state = self.unwrapped(thing).state_dict(keep_vars=True)  # so that tied parameters are one object
        else:
            state = thing.state_dict()
        replicated = self._replicated() if spread and count > 1 else set()
        return parts(state, rank, count, replicated, gathers=spread)

    def parts_of(self, state: Any) -> Any:
        """The same for a state that is there already, with a `Shard` for each DTensor."""
        return parts(state, self.accelerator.process_index, self.accelerator.num_processes, ())

    def _replicated(self) -> set[int]:
        """The `id` of each tensor that DDP keeps the same on all processes; none if they are small."""
        if sum(parameter.nbytes for parameter in self._exchanged) < SPREAD_FROM:
            return set()
        found = {id(parameter) for parameter in self._exchanged}
        for optimizer in self.optimizers:
            for parameter, values in optimizer.state.items():
                if parameter in self._exchanged:
                    found |= {id(value) for value in values.values()}
        return found

    def load(self, thing: Any, state: Any, *, keeps_types: bool = True) -> None:
        """Load a state of `state_of`, saved by any number of processes. Collective if it is sharded.

        Args:
            thing: As in `state_of`.
            state: Its state, with whole tensors.
            keeps_types: Whether an optimizer's state keeps its saved dtype, instead of the dtype of each parameter.
        """
        if isinstance(thing, nn.Module):
            load_model(self.unwrapped(thing), state)
        elif isinstance(thing, Optimizer):
            load_optimizer(thing, state, keeps_types=keeps_types)
        else:
            thing.load_state_dict(state)

    def unwrapped(self, model: nn.Module) -> Any:
        """The model without any wrapper, so that a checkpoint is the same with or without `torch.compile`."""
        return self._inner(model, keep_torch_compile=False)

    def _inner(self, model: nn.Module, *, keep_torch_compile: bool = True) -> nn.Module:
        """The module inside distributed wrappers. Asks accelerate only if there may be some: it imports DeepSpeed, in 6 s."""
        plain = model.module if isinstance(model, DistributedDataParallel) else model
        if type(plain).__name__ == "OptimizedModule" or self.accelerator.distributed_type in _WRAPPED:
            plain = self.accelerator.unwrap_model(model, keep_torch_compile=keep_torch_compile)
        return plain


class AcceleratePrepared(Prepared):
    """For accelerate's wrappers: a loss scaler, or an engine with its own way to step."""

    def for_loop(self, optimizer: AcceleratedOptimizer) -> Any:
        if self.loss_scaler is None or not takes_found_inf(optimizer.optimizer):
            return optimizer
        return FusedOptimizer(optimizer.optimizer, device_placement=False, scaler=self.loss_scaler)

    def backward(self, loss: Tensor, count: int | Tensor, factor: float | Tensor, **options: Any) -> None:
        if self.loss_scaler is None:
            self.accelerator.backward(loss / count * factor, **options)
        else:
            super().backward(self.loss_scaler.scale(loss), count, factor, **options)

    def clip_grad_norm(self, parameters: list[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        return self.clip_by_accelerate(parameters, max_norm)


class DeepSpeedPrepared(Prepared):
    """For DeepSpeed's engine: one model and one optimizer."""

    engine: Any = None  # an `EngineOptimizer`, once there is a model to train

    def wrap(self, things: list[Any]) -> list[Any]:
        if all(isinstance(thing, nn.Module) for thing in things):  # to evaluate them: an engine is for training
            return [self.accelerator.prepare_model(model, evaluation_mode=True) for model in things]
        models = [thing for thing in things if isinstance(thing, nn.Module)]
        optimizers = [thing for thing in things if isinstance(thing, Optimizer)]
        if self.engine is not None or (len(models), len(optimizers)) != (1, 1):
            raise ConfigError(
                "DeepSpeed trains one model with one optimizer: pass both to one `run.prepare`, and nothing else"
            )
        configure(self.accelerator, self.say)
        groups = [list(group["params"]) for group in optimizers[0].param_groups]
        ready = super().wrap(things)
        self.engine = EngineOptimizer(next(thing for thing in ready if isinstance(thing, nn.Module)), groups)
        return ready

    def for_loop(self, optimizer: AcceleratedOptimizer) -> Any:
        return self.engine

    def backward(self, loss: Tensor, count: int | Tensor, factor: float | Tensor, **options: Any) -> None:
        if refused := [name for name in ("create_graph", "inputs") if options.get(name)]:
            names = " or ".join(f"`{name}`" for name in refused)
            raise ConfigError(f"DeepSpeed's backward pass does not support {names}")
        is_last, keeps = self.accelerator.sync_gradients, bool(options.get("retain_graph"))
        self.engine.backward(loss / count * factor, is_last, retain_graph=keeps)

    def clip_grad_norm(self, parameters: list[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        norm: Tensor = self.engine.clip_grad_norm(parameters, max_norm, reads=reads)
        return norm

    def has_shards(self) -> bool:
        return self.engine is not None and self.engine.stage == 3

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        return model if self.engine is not None else super().for_evaluation(model)

    def load(self, thing: Any, state: Any, *, keeps_types: bool = True) -> None:
        super().load(thing, state, keeps_types=keeps_types)
        if isinstance(thing, nn.Module) and self.engine is not None:
            self.engine.take_weights()


def prepared_for(accelerator: Accelerator, say: Callable[[str], None], *, compile: bool) -> Prepared:
    """The class that fits an accelerator."""
    if accelerator.distributed_type is DistributedType.DEEPSPEED:
        kind: type[Prepared] = DeepSpeedPrepared
    elif accelerator.scaler is not None or accelerator.distributed_type in ENGINES:
        kind = AcceleratePrepared
    else:
        kind = Prepared
    return kind(accelerator, say, compile=compile)


class FusedOptimizer(AcceleratedOptimizer):  # type: ignore[misc]
    """A fused optimizer under a loss scaler, which skips an update with an overflow inside its own `step`.

    accelerate sees a skipped update by `step` not being called, but here it is always called. Instead, a scale that has
    fallen shows that the update was skipped. Reading the scale waits for the device.
    """

    _scale: float | None = None  # after the last step; None if unknown

    def step(self, closure: Any = None) -> None:
        before = self.scaler.get_scale() if self._scale is None else self._scale
        super().step(closure)
        self._scale = self.scaler.get_scale()
        self._is_overflow = self._scale < before

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._scale = None  # the scale is restored as well
