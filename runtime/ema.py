"""An exponential moving average of a model's weights."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .errors import ConfigError
from .hardware.sharding import gather, is_sharded, like, local, shape, shard, write
from .storage.weights import plain_names

_LOOKS_EVERY = 64  # updates, at the model's parameters: they are named anew, too long to do each time
_HALF = (torch.float16, torch.bfloat16)


class EMA:
    """Averages the parameters over the steps (Polyak and Juditsky, 1992), with exponentially decaying weights.

    Update t, counted from 1: average ← decay · average + (1 - decay) · parameter. With `warmup` the decay is
    min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.

    Buffers are the model's own, not averaged: running statistics are averages already, and counters and masks must
    not be averaged. Sharded parameters are averaged by shard. Averages of half-precision parameters are kept in
    float32, where a small step is not rounded away.

    Args:
        model: The model as it is trained; create the EMA after it has been moved, wrapped and sharded.
        decay: Weight of the past, from 0 to below 1; or a function from the update, counted from 1, to the decay,
            which is used without warm-up.
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
        named = list(model.named_parameters())
        names = plain_names(name for name, _ in named)
        self._pairs: dict[str, tuple[nn.Parameter, Tensor]] = {}  # each parameter and its average
        # One fused operation for each device and type. A shard may move, so it is looked up in each update.
        self._groups: dict[Any, tuple[list[Tensor], list[nn.Parameter]]] = defaultdict(lambda: ([], []))
        for name, (_, parameter) in zip(names, named, strict=True):
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
            ConfigError: The model has other parameters than when this was made; looked at in every 64th update.
        """
        self._check_not_swapped_in("update")
        if self.updates % _LOOKS_EVERY == 0:
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
        """Begin anew from the model's parameters as they are now, as if the EMA were made now."""
        self._check_not_swapped_in("restart")
        self.updates = 0
        for parameter, average in self._pairs.values():
            average.copy_(local(parameter))

    def averages(self, model: nn.Module) -> bool:
        """Whether it averages parameters of a model, wrapped or not."""
        own = {id(parameter) for parameter, _ in self._pairs.values()}
        return any(id(parameter) in own for parameter in model.parameters())

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within the `with`, the model's parameters are the average; afterwards its own again, bit for bit.

        Values are exchanged in place: there is no second model, and parameters stay the same objects, so wrapping and
        compiling are unaffected. Do not train, update or save the EMA within. Collective if DeepSpeed shards the model.
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

        An average in float32 would be rounded in a half-precision parameter, so it stays in place, and the parameter
        is set aside: the first call returns it, and the second puts it back from `kept`.
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
        """The averages by parameter name, whole or sharded as FSDP2 shards the model. Collective if they are gathered."""
        self._check_not_swapped_in("save")
        self._check_parameters()
        get = gather if whole else like
        averages = {n: get(average, p) if is_sharded(p) else average for n, (p, average) in self._pairs.items()}
        return {"updates": self.updates, "averages": averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which has whole averages, in place. Collective if DeepSpeed shards the model.

        Raises:
            ValueError: Names or shapes differ from the model's; lists all of them, and changes nothing.
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
        """A parameter that was added or replaced after this was made would silently go without an average."""
        named = list(self.model.named_parameters())
        now = dict(zip(plain_names(name for name, _ in named), (parameter for _, parameter in named), strict=True))
        other = [
            name
            for name in sorted(self._pairs.keys() | now.keys())
            if (name in now) != (name in self._pairs)
            or not (is_sharded(now[name]) or is_sharded(self._pairs[name][0]) or now[name] is self._pairs[name][0])
        ]
        if other:
            names = ", ".join(f"`{name}`" for name in other[:5]) + (", …" if len(other) > 5 else "")
            raise ConfigError(f"The model has other parameters than when its EMA was made: {names}. Make a new EMA")

    def _check_not_swapped_in(self, action: str) -> None:
        if self._is_swapped_in:
            raise RuntimeError(f"The average is swapped in: {action} after the `with` block")
