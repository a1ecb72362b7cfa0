"""A learning-rate range test: find a learning rate before starting the run with it."""

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from .data.loader import Loader
from .errors import ConfigError
from .hardware.param_groups import set_field
from .hardware.sharding import ENGINES
from .loop.step import Step
from .meter import Meter
from .record.curves import COLORS, FAINT, plot_style
from .run import Run
from .settings.limits import beyond_limits
from .storage.files import atomic_write

_SMOOTHING = 0.8  # weight of the past in the smoothed loss
_DIVERGED = 4.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class LearningRates:
    """The result of the test: the loss at each learning rate, the same on all processes.

    Attributes:
        rates: The learning rates, increasing.
        losses: The mean loss of the step with each rate.
        smoothed: An exponential moving average of the losses.
        suggestion: The rate at which the smoothed loss falls fastest; None if it does not fall.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def draw(self, path: Path) -> None:
        """Plot the losses over the rates as a PNG, with the suggestion marked."""
        from matplotlib import style
        from matplotlib.figure import Figure

        with style.context(["default", plot_style()]):
            figure = Figure(figsize=(8, 4.4), dpi=144, layout="constrained")
            axes = figure.add_subplot()
            axes.semilogx(self.rates, self.losses, color=COLORS["train"], alpha=0.35, linewidth=0.8)
            axes.semilogx(self.rates, self.smoothed, color=COLORS["train"], linewidth=1.8)
            low, high = min(self.smoothed), max(self.smoothed[: self.smoothed.index(min(self.smoothed)) + 1])
            room = (high - low) or abs(high) or 1.0
            axes.set_ylim(low - 0.08 * room, high + 0.35 * room)
            axes.margins(x=0)
            axes.set_title("loss", loc="left")
            axes.set_xlabel("learning rate", loc="right")
            text, color = "no suggestion: the loss never decreased", FAINT
            if self.suggestion is not None:
                text, color = f"suggestion {self.suggestion:.1e}".replace("e-0", "e-"), COLORS["eval"]
                value = self.smoothed[self.rates.index(self.suggestion)]
                axes.axvline(self.suggestion, color=color, linewidth=1.0, alpha=0.5)
                axes.plot([self.suggestion], [value], "o", color=color, markersize=6)
            axes.set_title(text, loc="right", color=color, fontsize=9, fontweight="normal")
            content = BytesIO()
            figure.savefig(content, format="png", metadata={"Software": None})
        atomic_write(path, content.getvalue())


def find_learning_rate(
    run: Run,
    model: nn.Module,
    optimizer: Any,
    loader: Loader,
    compute_loss: Callable[[Any, Any], Any],
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    count: Callable[[Any], int | torch.Tensor] | None = None,
) -> LearningRates:
    """Train a few steps with an increasing learning rate, record the loss, then restore everything.

    Afterwards weights, buffers, gradients, modes, optimizer, loss scale, random generators, position in the data and
    meters are the same as before, bit for bit, so the run continues as if there had been no test. Other state that
    `compute_loss` changes is not restored. The test stops early when the loss is four times its lowest value, or not
    finite. Param groups keep the ratio of their learning rates; the tested rate is that of the group with the largest.
    Smith, 2015 (arXiv:1506.01186). Collective; synchronises the device in each step.

    Args:
        run: The run, between `prepare` and the loop.
        model: The model, as `prepare` returned it.
        optimizer: Its optimizer, as `prepare` returned it; it may have a schedule.
        loader: The training data; the test uses its first steps.
        compute_loss: Takes (model, batch), returns the loss summed over the batch, or a tuple that starts with it.
        lowest: The first learning rate.
        highest: The last learning rate.
        steps: How many learning rates to try, each larger than the last by the same factor.
        accumulate: Gradient accumulation: micro-batches per step on each process.
        max_grad_norm: Clip gradients to this norm, as the loop does. None is off.
        count: Takes a batch, returns how many items its loss is summed over, such as tokens. None counts samples.

    Raises:
        ConfigError: `lowest` is not below `highest`, there are fewer than 10 steps, `accumulate` or `max_grad_norm` is
            too small, there is no data or only a stream, DeepSpeed, Megatron-LM or XLA keep state that cannot be
            restored, or the first loss is not finite.
    """
    _check(run, loader, lowest, highest, steps, {"accumulate": accumulate, "max_grad_norm": max_grad_norm})
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    with _restored(run, model, optimizer):
        model.train()
        meter = Meter(run)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        ratios = [peak / max(peaks) if max(peaks) > 0 else 1.0 for peak in peaks]
        average = 0.0
        for step in _steps(run, loader, steps, accumulate):
            rate = lowest * (highest / lowest) ** ((step.number - 1) / (steps - 1))
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                set_field(group, "lr", rate * ratio)
            total = step.num_samples if count is None else step.total(count)
            for batch in step:
                with run.micro_batch.uncounted():  # so that meters in the user's function add nothing
                    result = compute_loss(model, batch)
                loss = result[0] if isinstance(result, tuple | list) else result
                run.backward(loss / total)
                meter.add(loss=loss, count=step.micro_batch_samples if count is None else count(batch))
            if max_grad_norm is not None:
                run.prepared.clip_grad_norm(run.prepared.parameters(model), max_grad_norm, reads=False)
            optimizer.step()
            optimizer.zero_grad()
            value = meter.read()["loss"]  # the mean over all processes, so that all stop at the same step
            average = _SMOOTHING * average + (1 - _SMOOTHING) * value
            unbiased = average / (1 - _SMOOTHING**step.number)
            if not math.isfinite(value) or (smoothed and unbiased > _DIVERGED * min(smoothed)):
                break
            rates.append(rate)
            losses.append(value)
            smoothed.append(unbiased)
    if not rates:
        raise ConfigError(f"The loss is {value} in the first step, with the learning rate {lowest:.2e}")
    return LearningRates(rates, losses, smoothed, _steepest(rates, smoothed))


def _check(run: Run, loader: Loader, lowest: float, highest: float, steps: int, others: dict[str, Any]) -> None:
    problems = []
    if not 0 < lowest < highest < math.inf:
        problems.append(f"`lowest` must be above 0 and below `highest`: {lowest} and {highest}")
    if steps < 10:
        problems.append(f"`steps` must be at least 10: {steps}")
    problems += beyond_limits(others)
    if loader.is_stream:
        problems.append(
            f"`{type(loader.dataset).__name__}` is a stream, which cannot be rewound: use a dataset with an index"
        )
    if run.accelerator.distributed_type in ENGINES:
        engine = run.accelerator.distributed_type.value
        problems.append(f"{engine} keeps state that cannot be restored: find the learning rate without it")
    if problems:
        raise ConfigError("\n".join(problems))
    loader.total_steps(1)  # raises if there is no data for a single step


def _steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """The rate at which the smoothed loss falls fastest before its minimum, measured over a quarter of all rates."""
    lowest, reach = smoothed.index(min(smoothed)), max(1, len(smoothed) // 8)
    falls = {i: smoothed[i - reach] - smoothed[i + reach] for i in range(reach, lowest - reach + 1)}
    best = max(falls, key=lambda i: falls[i], default=None)
    return None if best is None or falls[best] <= 0 else rates[best]


def _steps(run: Run, loader: Loader, steps: int, accumulate: int) -> Iterator[Step]:
    """The first steps of the data, epoch after epoch, without moving the run's position in it."""
    number, epoch = 0, 0
    while number < steps:
        epoch += 1
        for portion in itertools.islice(loader.portions(epoch, 0, accumulate), steps - number):
            number += 1
            yield Step(portion, number, epoch, accumulate, run.micro_batch, run.reporter.throughput)


@contextmanager
def _restored(run: Run, model: nn.Module, optimizer: Any) -> Iterator[None]:
    """Restore the model, the optimizer and the random generators, in place, at the end of the `with` block."""
    started = perf_counter()
    modules = [(module, dict(module.named_buffers(recurse=False)), module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    state = {parameter: copy.deepcopy(values) for parameter, values in optimizer.state.items()}
    groups = [dict(group) for group in optimizer.param_groups]
    in_groups = [value for group in groups for value in group.values() if isinstance(value, torch.Tensor)]
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers(), *in_groups)]
    scaler = run.prepared.loss_scaler
    scale = None if scaler is None else scaler.state_dict()
    throughput = run.reporter.throughput
    measured = copy.deepcopy(vars(throughput))
    generators: list[tuple[Callable[[Any], None], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    if run.device.type != "cpu":
        device = torch.get_device_module(run.device)
        generators.append((device.set_rng_state, device.get_rng_state()))
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for set_generator, before in generators:
            set_generator(before)
        for module, buffers, training in modules:
            for name, _ in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffers.get(name))  # the forward pass may have replaced the tensor
            module.training = training
        for group, values in zip(optimizer.param_groups, groups, strict=True):
            group.update(values)
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        optimizer.state.clear()
        optimizer.state.update(state)
        if scaler is not None and scale:
            scaler.load_state_dict(scale)
        vars(throughput).update(measured)
        throughput.other_seconds += perf_counter() - started
