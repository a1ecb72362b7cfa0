"""An exponential moving average of a model's weights."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .errors import ConfigError, quoted
from .hardware.sharding import gather, is_sharded, like, local, shape, shard, write
from .storage.weights import plain_names

_CHECK_EVERY = 64  # updates between checks of the model's parameters, which cost too much for each update
_HALF = (torch.float16, torch.bfloat16)


class EMA:
    """An average of the parameters over the steps with exponentially decaying weights (Polyak and Juditsky, 1992).

    Update t, counted from 1: average ← decay · average + (1 - decay) · parameter. With `warmup` the decay is
    min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.

    Buffers are not averaged: running statistics are averages already, and counters and masks must not be averaged.
    Sharded parameters are averaged by shard. Averages of half-precision parameters are kept in float32, so that small
    updates are not rounded away.

    Args:
        model: The model to train; create the EMA after the model has been moved, wrapped and sharded.
        decay: Weight of the past, from 0 to below 1; or a function of the update, counted from 1, that returns it and
            is used without warm-up.
        warmup: Whether to start with a smaller decay.

    Attributes:
        model: The model.

    Raises:
        ConfigError: `decay` is out of range, or the model has frozen parameters in DeepSpeed's ZeRO stage 3.
    """

    def __init__(self, model: nn.Module, decay: float | Callable[[int], float] = 0.999, warmup: bool = True) -> None:
        if not callable(decay) and not 0.0 <= decay < 1.0:
            raise ConfigError(f"`decay` must be from 0 to below 1: {decay}")
        self.model = model
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self._pairs: dict[str, tuple[nn.Parameter, Tensor]] = {}  # each parameter and its average
        # One fused operation for each device and type. The local tensor of a shard may move: look it up in each update
        self._groups: dict[Any, tuple[list[Tensor], list[nn.Parameter]]] = defaultdict(lambda: ([], []))
        for name, parameter in _parameters(model).items():
            part = local(parameter)
            average = part.float() if part.dtype in _HALF else part.clone()
            self._pairs[name] = parameter, average
            averages, parameters = self._groups[part.device, part.dtype, is_sharded(parameter)]
            averages.append(average)
            parameters.append(parameter)
        self._is_swapped_in = False

    @torch.no_grad()
    def update(self) -> None:
        """Update the average. Call it once after each optimizer step; it never synchronises the device.

        Raises:
            ConfigError: The model has other parameters than when the EMA was created; checked in every 64th update.
        """
        self._check_not_swapped_in("update")
        if self.updates % _CHECK_EVERY == 0:
            self._check_parameters()
        self.updates += 1
        if callable(self.decay):
            decay = self.decay(self.updates)
        else:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        for (_, dtype, by_shard), (averages, parameters) in self._groups.items():
            current: list[Any] = [local(p) for p in parameters] if by_shard else parameters
            if dtype in _HALF:
                current = [tensor.float() for tensor in current]
            get_ema_multi_avg_fn(decay)(averages, current, None)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def restart(self) -> None:
        """Start again from the model's present parameters, as if the EMA were created now."""
        self._check_not_swapped_in("restart")
        self.updates = 0
        for parameter, average in self._pairs.values():
            average.copy_(local(parameter))

    def averages(self, model: nn.Module) -> bool:
        """Whether this EMA averages parameters of a model, wrapped or not."""
        own = {id(parameter) for parameter, _ in self._pairs.values()}
        return any(id(parameter) in own for parameter in model.parameters())

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Swap the average into the model for the `with` block; afterwards its own parameters are back, bit for bit.

        Values are exchanged in place: there is no second model, and parameters stay the same objects, so wrapping and
        compiling are unaffected. Do not train, update or save the EMA inside. Collective if DeepSpeed shards the model.
        """
        self._check_not_swapped_in("swap in")
        self._check_parameters()
        kept = self._exchange()
        self._is_swapped_in = True
        try:
            yield
        finally:
            self._is_swapped_in = False
            self._exchange(kept)

    @torch.no_grad()
    def _exchange(self, kept: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Exchange averages and parameters, one tensor at a time.

        A half-precision parameter would round an average in float32, so the average stays where it is and the parameter
        is set aside: the first call returns it, the second restores it from `kept`.
        """
        aside: dict[str, Tensor] = {}
        for name, (parameter, average) in self._pairs.items():
            before = local(parameter).clone()
            if before.dtype in _HALF:
                write(parameter, average if kept is None else kept[name])
                aside[name] = before
            else:
                write(parameter, average)
                average.copy_(before)
        return aside

    def state_dict(self, *, whole: bool = True) -> dict[str, Any]:
        """The averages by parameter name: gathered, or sharded as FSDP2 shards the model. Collective if gathered."""
        self._check_not_swapped_in("save")
        self._check_parameters()
        get = gather if whole else like
        averages = {n: get(average, p) if is_sharded(p) else average for n, (p, average) in self._pairs.items()}
        return {"updates": self.updates, "averages": averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load `state`, which has whole averages, in place. Collective if DeepSpeed shards the model.

        Raises:
            ValueError: Names or shapes differ from the model's; lists all of them. Nothing is changed.
        """
        self._check_not_swapped_in("load")
        averages = state["averages"]
        problems = [f"missing: `{name}`" for name in self._pairs if name not in averages]
        problems += [f"unexpected: `{name}`" for name in averages if name not in self._pairs]
        for name, (parameter, _) in self._pairs.items():
            if name in averages and averages[name].shape != shape(parameter):
                problems.append(f"shape: `{name}` is {tuple(averages[name].shape)}, not {tuple(shape(parameter))}")
        if problems:
            raise ValueError("the averages do not fit the model: " + "; ".join(problems))
        self.updates = state["updates"]
        for name, (parameter, average) in self._pairs.items():
            average.copy_(shard(averages[name], parameter) if is_sharded(parameter) else averages[name])

    def _check_parameters(self) -> None:
        """Check that no parameter was added or replaced: it would silently have no average."""
        now = _parameters(self.model)
        changed = now.keys() ^ self._pairs.keys()
        for name, (before, _) in self._pairs.items():
            if name in now and now[name] is not before and not (is_sharded(now[name]) or is_sharded(before)):
                changed.add(name)
        if changed:
            raise ConfigError(
                f"The model has other parameters than when its EMA was created: {quoted(sorted(changed), 5)}. "
                "Create a new EMA"
            )

    def _check_not_swapped_in(self, action: str) -> None:
        if self._is_swapped_in:
            raise RuntimeError(f"The average is swapped in: {action} after the `with` block")


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model, wrapped or not, by the names that they have in the unwrapped model."""
    named = dict(model.named_parameters())
    return dict(zip(plain_names(named), named.values(), strict=True))
