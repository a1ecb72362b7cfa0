"""Learning rates, and other settings of an optimizer, as functions of the step.

    schedule = schedules.cosine(optimizer, total_steps, warmup_steps=100)
    …
    optimizer.step()
    schedule.step()

Every schedule here is a function f of the step, counted from 1: step k uses f(k) times the peak, the value with which
the param group was created. f depends on k only, so resuming is exact and takes no time.

    warm-up     steps 1 … w have f(k) = k / (w + 1): step 1 is above 0, step w + 1 is at the peak
    decay       over D steps: step j, counted from 0, is at the fraction p = j / D of the way down. The first is still
                at the peak, the last is slightly above the minimum, so that it is not wasted if the minimum is 0
    afterwards  f stays at the minimum

PyTorch's LinearLR, CosineAnnealingLR, MultiStepLR and OneCycleLR count in the same way.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol

from torch import Tensor

from .errors import ConfigError, quoted
from .hardware.param_groups import set_field

_Curve = Callable[[int, float], float]  # from the step and the peak to the value
_Factor = Callable[[int], float]  # from the step, counted from 1, to the factor of the peak
_Shape = Callable[[float], float]  # from the fraction p of the way down to a factor


class HasParamGroups(Protocol):
    """A PyTorch optimizer, or accelerate's wrapper around one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...


class Schedule:
    """Sets fields of an optimizer's param groups before each step.

    Use it like PyTorch's schedulers: `step` after each `optimizer.step`. Updates that the loss scaler skips are not
    counted. A group that `add_param_group` adds later joins at the next `step`, with its present value as the peak.

    Args:
        optimizer: Its groups hold the peaks when the schedule is created, and the values of step 1 afterwards.
        curves: Field of a group -> function of (step, peak) that returns the value at the step. The field `momentum` is
            the first of the `betas` if the optimizer has those.
        name: The name in messages.
        total_steps: The step at which the curves end. None is no end.

    Raises:
        ConfigError: A group has no such field.
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        curves: dict[str, _Curve],
        *,
        name: str = "schedule",
        total_steps: int | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.curves = curves
        self.name, self.total_steps = name, total_steps
        self._steps_done = 0
        self._peaks: dict[str, list[float]] = {field: [] for field in curves}
        self._applied: dict[str, list[float]] = {}  # by field, the values of the next step
        self._apply()

    def step(self) -> None:
        """Set the values of the next step. Call it once after each `optimizer.step`; never synchronises the device."""
        if getattr(self.optimizer, "step_was_skipped", False):  # accelerate's wrapper, after an overflow in fp16
            return
        self._steps_done += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The value for the next step, one for each param group: the learning rate, or the only scheduled field."""
        return list(self._applied[self._main_field()])

    def values_at(self, step: int, field: str | None = None) -> list[float]:
        """The values that a step uses, one for each param group.

        Args:
            step: Any step of the run, counted from 1.
            field: A scheduled field. None is the learning rate, or the only field.
        """
        field = field or self._main_field()
        return [self.curves[field](step, peak) for peak in self._peaks[field]]

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps_done": self._steps_done,
            "peaks": {field: list(peaks) for field, peaks in self._peaks.items()},
            "name": self.name,
            "total_steps": self.total_steps,
            "values": {field: list(values) for field, values in self._applied.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to the step of `state`, and set the values of the groups for it.

        Curves and peaks stay those with which this schedule was created. Only the peaks of groups that were added later
        come from the state.

        Raises:
            ValueError: The state is of a schedule for other fields.
        """
        groups = len(self.optimizer.param_groups)
        if not set(state["peaks"]) & set(self.curves):
            raise ValueError(f"the state is for {sorted(state['peaks'])}, this schedule sets {sorted(self.curves)}")
        self._steps_done = state["steps_done"]
        for field, peaks in self._peaks.items():
            peaks += state["peaks"].get(field, [])[len(peaks) : groups]
        self._apply()

    def change_since(self, state: dict[str, Any]) -> str | None:
        """How name or length differ from `state`, and what that changes in the next step; None if they are equal."""
        name, total = state.get("name", self.name), state.get("total_steps", self.total_steps)
        if (name, total) == (self.name, self.total_steps):
            return None
        if name == self.name and isinstance(total, int) and self.total_steps:
            how = "stretched" if self.total_steps > total else "shortened"
            what = f"{name} is {how} from {total} to {self.total_steps} steps"
        else:
            what = f"the schedule was {_named(name, total)} and is {_named(self.name, self.total_steps)}"
        goes = [
            f"its {'rate' if field == 'lr' else field} goes from {_short(before)} to {_short(after)}"
            for field, values in self._applied.items()
            for before, after in list(zip(state["values"].get(field, []), values, strict=False))[:1]
            if before != after
        ]
        return what + (f": {', '.join(goes)}" if goes else "")

    def _apply(self) -> None:
        groups = self.optimizer.param_groups
        for field, peaks in self._peaks.items():
            peaks += [_read(group, field) for group in groups[len(peaks) :]]
            self._applied[field] = self.values_at(self._steps_done + 1, field)
            for group, value in zip(groups, self._applied[field], strict=True):
                _write(group, field, value)

    def _main_field(self) -> str:
        return "lr" if "lr" in self.curves else next(iter(self.curves))


def _named(name: str, total_steps: int | None) -> str:
    return name if total_steps is None else f"{name} over {total_steps} steps"


def _short(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _read(group: dict[str, Any], field: str) -> float:
    if field == "momentum" and "betas" in group:
        return float(group["betas"][0])
    if field not in group:
        known = quoted(name for name in group if name != "params")
        raise ConfigError(f"The optimizer's param groups have no `{field}` to schedule: they have {known}")
    return float(group[field])


def _write(group: dict[str, Any], field: str, value: float) -> None:
    if field == "momentum" and "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        set_field(group, field, value)


def from_function(optimizer: HasParamGroups, function: _Factor, field: str = "lr") -> Schedule:
    """A custom schedule: `function` takes the step, counted from 1, and returns the factor of the peak.

    To use a function for PyTorch's LambdaLR, which takes the number of steps done, pass `lambda k: function(k - 1)`.
    """
    return _scaled_peak(optimizer, function, field, "a function")


def chain(optimizer: HasParamGroups, *parts: tuple[int, Callable[[HasParamGroups], Schedule]]) -> Schedule:
    """Schedules one after the other, each counting its steps from 1; the last one continues beyond its steps.

        schedules.chain(optimizer, (1000, schedules.constant), (5000, lambda o: schedules.cosine(o, 5000)))

    Args:
        optimizer: Its groups hold the peaks, the same for all parts.
        parts: Number of steps, and a function that creates the schedule for an optimizer.

    Raises:
        ConfigError: There is no part, one has less than 1 step, or they set different fields.
    """
    made = [make(_Groups([_copied(group) for group in optimizer.param_groups])) for _, make in parts]
    fields = {tuple(sorted(schedule.curves)) for schedule in made}
    if len(fields) != 1:
        raise ConfigError(f"The parts of a chain must set the same fields: {sorted(fields) or 'there is none'}")
    if problems := [steps for steps, _ in parts if steps < 1]:
        raise ConfigError(f"Each part of a chain needs at least 1 step: {problems[0]}")
    starts = [0, *accumulate(steps for steps, _ in parts)][:-1]

    def follow(field: str) -> _Curve:
        def curve(step: int, peak: float) -> float:
            part = bisect_left(starts, step) - 1
            return made[part].curves[field](step - starts[part], peak)

        return curve

    name = ", then ".join(schedule.name for schedule in made)
    curves = {field: follow(field) for field in made[0].curves}
    return Schedule(optimizer, curves, name=name, total_steps=sum(steps for steps, _ in parts))


@dataclass
class _Groups:
    """Copies of param groups: a schedule can be created for them without changing the optimizer."""

    param_groups: list[dict[str, Any]]


def _copied(group: dict[str, Any]) -> dict[str, Any]:
    return {field: value.clone() if isinstance(value, Tensor) else value for field, value in group.items()}


def constant(optimizer: HasParamGroups, warmup_steps: int = 0, *, field: str = "lr") -> Schedule:
    """The peak throughout, after a linear warm-up."""
    _check(warmup_steps=warmup_steps)
    return _scaled_peak(optimizer, lambda step: _warmup(step, warmup_steps), field, "constant")


def linear(
    optimizer: HasParamGroups,
    total_steps: int,
    warmup_steps: int = 0,
    cooldown_steps: int = 0,
    *,
    min_ratio: float = 0.0,
    field: str = "lr",
) -> Schedule:
    """A straight line down to `min_ratio`, after a linear warm-up and before `cooldown_steps` at `min_ratio`."""
    factor = _decay_to(total_steps, warmup_steps, cooldown_steps, min_ratio, lambda p: 1.0 - p)
    return _scaled_peak(optimizer, factor, field, "linear", total_steps)


def cosine(
    optimizer: HasParamGroups,
    total_steps: int,
    warmup_steps: int = 0,
    cooldown_steps: int = 0,
    *,
    min_ratio: float = 0.0,
    k_decay: float = 1.0,
    field: str = "lr",
) -> Schedule:
    """Half a cosine down to `min_ratio`, after a linear warm-up. Loshchilov and Hutter, 2016 (arXiv:1608.03983).

    Args:
        optimizer: Its groups hold the peaks.
        total_steps: Steps of the whole run, including warm-up and cool-down.
        warmup_steps: Steps on the way up.
        cooldown_steps: Steps at `min_ratio` at the end.
        min_ratio: The minimum as a fraction of the peak.
        k_decay: Above 1, the value stays high for longer. Zhang and Li, 2020 (arXiv:2004.05909).
        field: The field of the param groups to schedule.

    Raises:
        ConfigError: Invalid arguments; lists all problems.
    """
    if k_decay <= 0:
        raise ConfigError(f"`k_decay` must be positive: {k_decay}")
    factor = _decay_to(total_steps, warmup_steps, cooldown_steps, min_ratio, lambda p: _cosine(p**k_decay))
    return _scaled_peak(optimizer, factor, field, "cosine", total_steps)


Decay = Literal["sqrt", "linear", "cosine", "exponential", "inverse"]


def wsd(
    optimizer: HasParamGroups,
    total_steps: int,
    warmup_steps: int,
    decay_steps: int,
    *,
    decay: Decay = "sqrt",
    min_ratio: float = 0.0,
    field: str = "lr",
) -> Schedule:
    """Warm-up, stable, decay: at the peak for most of the run, so that its length can be chosen late.

    A checkpoint from before the decay, up to step `total_steps - decay_steps`, can be resumed with a larger
    `total_steps`: the result is the same as if that had been set from the start.

    Args:
        optimizer: Its groups hold the peaks.
        total_steps: Steps of the whole run, including warm-up and decay.
        warmup_steps: Steps on the way up.
        decay_steps: Steps on the way down.
        decay: The way down, with p from 0 to 1: `sqrt` is 1 - √p (Hägele et al., 2024, arXiv:2405.18392), `linear`
            1 - p, `cosine` half a cosine; `exponential` is min_ratio^p and `inverse` 1 / (1 - p + p / min_ratio), both
            of which need a `min_ratio` above 0 (Hu et al., 2024, arXiv:2404.06395).
        min_ratio: The minimum as a fraction of the peak.
        field: The field of the param groups to schedule.

    Raises:
        ConfigError: Invalid arguments; lists all problems.
    """
    ways: dict[str, _Shape] = {
        "sqrt": _ending_at(min_ratio, lambda p: 1.0 - math.sqrt(p)),
        "linear": _ending_at(min_ratio, lambda p: 1.0 - p),
        "cosine": _ending_at(min_ratio, _cosine),
        "exponential": lambda p: math.pow(min_ratio, p),
        "inverse": lambda p: 1.0 / (1.0 - p + p / min_ratio),
    }
    problems = []
    if decay not in ways:
        problems.append(f"`decay` must be one of {quoted(ways)}: `{decay}`")
    elif decay in ("exponential", "inverse") and not min_ratio > 0:
        problems.append(f"`decay` `{decay}` never reaches 0 and needs a `min_ratio` above it, such as 0.1")
    _check(total_steps, min_ratio, problems, warmup_steps=warmup_steps, decay_steps=decay_steps)
    factor = _factor(warmup_steps, total_steps - decay_steps, decay_steps, ways[decay])
    return _scaled_peak(optimizer, factor, field, "wsd", total_steps)


def multi_step(
    optimizer: HasParamGroups,
    milestones: Sequence[int],
    *,
    gamma: float = 0.1,
    warmup_steps: int = 0,
    field: str = "lr",
) -> Schedule:
    """Multiply the peak by `gamma` after each milestone, a number of steps, after a linear warm-up."""
    _check(warmup_steps=warmup_steps)
    ordered = sorted(milestones)
    factor = lambda step: _warmup(step, warmup_steps) * gamma ** bisect_right(ordered, step - 1)  # noqa: E731
    return _scaled_peak(optimizer, factor, field, "multi_step")


def one_cycle(
    optimizer: HasParamGroups,
    total_steps: int,
    *,
    warmup_fraction: float = 0.3,
    initial_ratio: float = 1 / 25,
    final_ratio: float = 1 / 25e4,
    anneal: Literal["cosine", "linear"] = "cosine",
    momentum: tuple[float, float] | None = (0.95, 0.85),
) -> Schedule:
    """Up to the peak, then down to almost 0, with momentum the other way round. Smith, 2018 (arXiv:1803.09820).

    The same as PyTorch's OneCycleLR with the peak as its `max_lr`.

    Args:
        optimizer: Its groups hold the peaks.
        total_steps: Steps of the whole run.
        warmup_fraction: The fraction of the steps on the way up.
        initial_ratio: The first learning rate as a fraction of the peak.
        final_ratio: The last learning rate as a fraction of the peak.
        anneal: The shape of both ways: half a cosine, or a straight line.
        momentum: At both ends and at the peak; of SGD, or the first of Adam's betas. None leaves it unchanged.

    Raises:
        ConfigError: Invalid arguments; lists all problems.
    """
    problems = []
    if not 0 <= warmup_fraction <= 1:
        problems.append(f"`warmup_fraction` must be from 0 to 1: {warmup_fraction}")
    if anneal not in ("cosine", "linear"):
        problems.append(f"`anneal` must be `cosine` or `linear`: `{anneal}`")
    _check(total_steps, 0.0, problems)
    top = warmup_fraction * total_steps - 1  # in steps done; PyTorch does not round it either
    last = total_steps - 1
    shape = _cosine if anneal == "cosine" else lambda p: 1.0 - p

    def through(step: int, first: float, middle: float, end: float) -> float:
        done = min(step - 1, last)
        if done <= top:
            return middle + (first - middle) * shape(done / top if top else 1.0)
        return end + (middle - end) * shape((done - top) / (last - top))

    curves: dict[str, _Curve] = {"lr": lambda step, peak: peak * through(step, initial_ratio, 1.0, final_ratio)}
    if momentum is not None:
        outer, inner = momentum
        curves["momentum"] = lambda step, _: through(step, outer, inner, outer)
    return Schedule(optimizer, curves, name="one_cycle", total_steps=total_steps)


def _scaled_peak(
    optimizer: HasParamGroups, factor: _Factor, field: str, name: str, total_steps: int | None = None
) -> Schedule:
    """A schedule of one field, whose value is the peak times the factor of the step."""
    curves: dict[str, _Curve] = {field: lambda step, peak: peak * factor(step)}
    return Schedule(optimizer, curves, name=name, total_steps=total_steps)


def _decay_to(total_steps: int, warmup_steps: int, cooldown_steps: int, min_ratio: float, shape: _Shape) -> _Factor:
    """Warm-up, a decay over all remaining steps with `shape` from 1 to 0, cool-down."""
    _check(total_steps, min_ratio, warmup_steps=warmup_steps, cooldown_steps=cooldown_steps)
    decay_steps = total_steps - warmup_steps - cooldown_steps
    return _factor(warmup_steps, warmup_steps, decay_steps, _ending_at(min_ratio, shape))


def _factor(warmup_steps: int, start: int, decay_steps: int, shape: _Shape) -> _Factor:
    """A linear warm-up, then 1 until step `start`, then down with `shape`."""

    def factor(step: int) -> float:
        if step <= start:
            return _warmup(step, warmup_steps)
        return shape(min(1.0, (step - 1 - start) / decay_steps) if decay_steps else 1.0)

    return factor


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, step / (warmup_steps + 1))


def _ending_at(min_ratio: float, shape: _Shape) -> _Shape:
    """`shape`, which falls from 1 to 0, scaled to fall to `min_ratio`."""
    return lambda p: min_ratio + (1.0 - min_ratio) * shape(p)


def _cosine(p: float) -> float:
    """From 1 at p = 0 to 0 at p = 1, flat at both ends."""
    return 0.5 * (1.0 + math.cos(math.pi * p))


def _check(total_steps: int | None = None, min_ratio: float = 0.0, problems: Sequence[str] = (), **parts: int) -> None:
    found = list(problems)
    found += [f"`{name}` must be 0 or more: {steps}" for name, steps in parts.items() if steps < 0]
    if not 0 <= min_ratio <= 1:
        found.append(f"`min_ratio` must be from 0 to 1: {min_ratio}")
    if total_steps is not None:
        if total_steps < 1:
            found.append(f"`total_steps` must be at least 1: {total_steps}")
        elif sum(parts.values()) > total_steps:
            sizes = " and ".join(f"`{name}` {steps}" for name, steps in parts.items())
            found.append(f"{sizes} do not fit into `total_steps` {total_steps}")
    if found:
        raise ConfigError("\n".join(found))
