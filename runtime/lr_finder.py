"""The learning-rate range test: how the loss falls and rises while the learning rate grows from step to step.

    found = find_learning_rate(run, model, optimizer, train_loader, compute_loss)
    found.draw(run.run_dir / "learning_rate.png")
    print(found.suggestion)

Call it after `run.prepare` and in front of the loop. Everything that it moves is put back to the bit.
"""

import copy
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from . import curves
from .errors import ConfigError
from .loop import Step
from .progress import bar
from .storage import atomic_write

if TYPE_CHECKING:
    from .loader import Loader, Part
    from .run import Run

_WARMUP = 10  # steps in which the smoothed loss settles, before it may end the test
_MEMORY = 0.8  # of the smoothed loss that ends the test


@dataclass(frozen=True)
class LearningRates:
    """What a range test saw: the same on all processes.

    Attributes:
        learning_rates: Of each step, the highest among the param groups.
        losses: Of each step, before its update: the mean over all processes. All are finite.
        suggestion: Where the smoothed loss falls fastest for a growing learning rate, a value to start from. None if
            it never falls: then `first` and `last` are too far off, or the model does not learn.
    """

    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None

    def draw(self, path: Path) -> None:
        """Write a PNG: the loss over the learning rate, raw and smoothed, with a ring at the suggestion.

        Call it on the main process alone. Needs no display; the same values give the same bytes.
        """
        # Slow to import, and needed once in a while
        from matplotlib import style

        with style.context(["default", curves._style()]):
            figure = self._figure()
            content = BytesIO()
            figure.savefig(content, format="png", metadata={"Software": None})
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content.getvalue())

    def _figure(self) -> Any:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.4), dpi=144, layout="constrained")
        axes = figure.add_subplot()
        color, smoothed = curves._COLORS["train"], _smooth(self.losses)
        axes.plot(self.learning_rates, self.losses, color=color, alpha=0.35, linewidth=0.8)
        axes.plot(self.learning_rates, smoothed, color=color, linewidth=1.8)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate", loc="right")
        axes.set_title("loss", loc="left")
        low, high = min(self.losses), float(smoothed.max())
        room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        axes.set_ylim(low - room, high + room)
        if self.suggestion is not None:
            color, where = curves._COLORS["eval"], self.learning_rates.index(self.suggestion)
            axes.plot(
                [self.suggestion],
                [smoothed[where]],
                "o",
                markersize=10,
                markerfacecolor="none",
                markeredgecolor=color,
                markeredgewidth=1.4,
            )
            axes.set_title(
                f"falls fastest at {self.suggestion:.2e}", loc="right", color=color, fontsize=9, fontweight="normal"
            )
        return figure


def find_learning_rate(
    run: "Run",
    model: nn.Module,
    optimizer: Any,
    loader: "Loader",
    compute_loss: Callable[[nn.Module, Any], Any],
    *,
    first: float = 1e-7,
    last: float = 10.0,
    steps: int = 100,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    count: Callable[[Any], int | Tensor] | None = None,
    stop_factor: float = 4.0,
) -> LearningRates:
    """Train for `steps` steps with a learning rate that grows by the same factor each time, and undo it all.

    The range test of Smith, 2017 (arXiv:1506.01186), on the steps with which the run begins. Weights, buffers,
    gradients, modes, optimizer, loss scale and generators come back to the bit; the run's place in its data and its
    meters are not touched. Other state that `compute_loss` changes is not known here. Collective; waits for the device
    in each step.

    Args:
        run: The run.
        model: What `compute_loss` is called with, prepared.
        optimizer: Prepared as well. Its param groups keep the ratios of their learning rates.
        loader: The training data.
        compute_loss: From the model and a batch to the loss summed over the batch, shape (), or a tuple that begins
            with it.
        first: Learning rate of the first step.
        last: Learning rate of the last step.
        steps: How many; more give a smoother curve.
        accumulate: Micro-batches into which each process cuts its share of a step.
        max_grad_norm: Gradients are scaled down to this norm, as in the loop. None is off.
        count: What the loss of a batch is a sum over, such as its tokens. None is its samples.
        stop_factor: The test ends early where the smoothed loss is so many times its lowest, or not finite.

    Raises:
        ConfigError: The arguments do not fit each other, all problems at once; or DeepSpeed, Megatron-LM or XLA keep
            what would have to be put back; or the first loss is not finite.
    """
    _check(run, loader, first, last, steps, accumulate, stop_factor)
    rates = [first * (last / first) ** (k / (steps - 1)) for k in range(steps)]
    losses: list[float] = []
    smoothed, lowest = 0.0, math.inf
    with (
        _undone(run, model, optimizer),
        bar(steps, 0, shown=run.accelerator.is_main_process, description="learning rate") as shown,
    ):
        highest = max(float(group["lr"]) for group in optimizer.param_groups)
        ratios = [float(group["lr"]) / highest if highest else 1.0 for group in optimizer.param_groups]
        model.train()
        for step, rate in zip(_steps(run, loader, steps, accumulate), rates, strict=True):
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                _set_rate(group, rate * ratio)
            loss = _train_step(run, model, optimizer, step, compute_loss, max_grad_norm, count)
            if not math.isfinite(loss):
                break
            losses.append(loss)
            smoothed = _MEMORY * smoothed + (1 - _MEMORY) * loss
            mean = smoothed / (1 - _MEMORY ** len(losses))
            lowest = min(lowest, mean)
            if len(losses) > _WARMUP and mean > lowest + (stop_factor - 1) * abs(lowest):
                break
            shown.update()
    if not losses:
        raise ConfigError(f"The loss is not finite in the first step, with the learning rate {first:.2e}")
    return LearningRates(tuple(rates[: len(losses)]), tuple(losses), _suggest(rates, losses))


def _check(
    run: "Run", loader: "Loader", first: float, last: float, steps: int, accumulate: int, stop_factor: float
) -> None:
    problems = []
    if not 0 < first < last < math.inf:
        problems.append(f"`first` must be above 0 and below `last`: {first} and {last}")
    if steps < 2:
        problems.append(f"`steps` must be at least 2: {steps}")
    if accumulate < 1:
        problems.append(f"`accumulate` must be at least 1: {accumulate}")
    if not stop_factor > 1:
        problems.append(f"`stop_factor` must be above 1: {stop_factor}")
    kind = run.accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA):
        problems.append(f"{kind.value} keeps state that cannot be put back: search for the learning rate without it")
    if problems:
        raise ConfigError("\n".join(problems))
    loader.total_steps(1)  # raises where there is no step at all


def _steps(run: "Run", loader: "Loader", steps: int, accumulate: int) -> Iterator[Step]:
    """The first steps of a run, over as many epochs as it takes."""

    def parts() -> Iterator["Part"]:
        for epoch in numbers(1):
            yield from loader.training_parts(epoch, 0, accumulate)

    source = loader.fetch(islice(parts(), steps * accumulate))
    for index in range(steps):
        epoch, step = divmod(index, loader.steps_per_epoch)
        yield Step(run, source, index + 1, epoch + 1, loader.samples_of_step(step), accumulate)


def _train_step(
    run: "Run",
    model: nn.Module,
    optimizer: Any,
    step: Step,
    compute_loss: Callable[[nn.Module, Any], Any],
    max_grad_norm: float | None,
    count: Callable[[Any], int | Tensor] | None,
) -> float:
    """One update. Returns the mean loss before it, over all processes."""
    total = step.num_samples if count is None else step.total(count)
    losses = []
    for batch in step:
        run._in_filler = True  # so that a meter in the user's function counts nothing of this
        loss = compute_loss(model, batch)
        loss = loss[0] if isinstance(loss, tuple) else loss
        run.backward(loss / total)
        if step.micro_batch_samples:
            losses.append(loss.detach())
    if max_grad_norm is not None:
        run.accelerator.clip_grad_norm_(list(model.parameters()), max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    own: float = sum(loss.item() for loss in losses)
    return sum(run._agreement.gather(own), 0.0) / float(total)


def _smooth(losses: tuple[float, ...] | list[float]) -> "curves.Array":
    """The losses without their noise. What shot up at the end does not bend the curve in front of it."""
    values = np.array(losses)
    clipped = np.minimum(values, np.median(values) + 2 * (np.median(values) - values.min()) + 1e-12)
    return curves._smooth(clipped, width=len(values) / 40)


def _suggest(rates: list[float], losses: list[float]) -> float | None:
    """The learning rate at the steepest fall in front of the minimum."""
    smoothed = _smooth(losses)
    end = int(smoothed.argmin())
    if end < 2:
        return None
    slopes = np.gradient(smoothed)[: end + 1]
    steepest = int(slopes.argmin())
    return rates[steepest] if slopes[steepest] < 0 else None


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):  # for CUDA graphs, which have noted where it is
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


@contextmanager
def _undone(run: "Run", model: nn.Module, optimizer: Any) -> Iterator[None]:
    """Put everything that training moves back to where it was, whatever happens in between."""
    started = perf_counter()
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    buffers = [(module, dict(module._buffers), module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    state = {parameter: _copy(values) for parameter, values in optimizer.state.items()}
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    values = [_copy(group) for group in settings]
    scaler = run.accelerator.scaler
    scale = None if scaler is None else scaler.state_dict()
    generators = _generators(run.device)
    throughput = run._reporter.throughput
    measured = copy.deepcopy(vars(throughput))
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for module, named, training in buffers:
                module._buffers.update(named)  # also where the forward pass has put another tensor in the place
                module.training = training
            for tensor, before in tensors:
                tensor.copy_(before)
            for group, named, before in zip(optimizer.param_groups, settings, values, strict=True):
                for name, value in named.items():
                    group[name] = value.copy_(before[name]) if isinstance(value, Tensor) else before[name]
        for parameter, gradient in gradients:
            parameter.grad = gradient
        optimizer.state.clear()
        optimizer.state.update(state)
        if scaler is not None:
            scaler.load_state_dict(scale)
        _set_generators(run.device, generators)
        vars(throughput).update(measured)
        throughput.other_seconds += perf_counter() - started
        run._in_filler = False


def _copy(value: Any) -> Any:
    """A copy that shares no tensor with `value`."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return copy.deepcopy(value)


def _generators(device: torch.device) -> list[Any]:
    states: list[Any] = [random.getstate(), np.random.get_state(), torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, getattr(torch, device.type).get_rng_state()]


def _set_generators(device: torch.device, states: list[Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    if device.type != "cpu":
        getattr(torch, device.type).set_rng_state(states[3])
