"""A learning-rate range test: which rates make the loss fall, before a run is started with one of them."""

import copy
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .curves import _COLORS, _FAINT, _INK, _style
from .errors import ConfigError
from .loader import Loader
from .loop import Step
from .meter import Meter
from .storage import atomic_write

if TYPE_CHECKING:
    from .run import Run

_SMOOTHING = 0.8  # weight of the past in the smoothed loss
_DIVERGED = 4.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class LearningRates:
    """What the test has found: the loss of a step at each rate, the same on all processes.

    Attributes:
        rates: The learning rates, rising.
        losses: The mean loss of the step that was made with each.
        smoothed: The losses, averaged over the steps before with falling weights.
        suggestion: The rate at which the smoothed loss falls fastest; None where it does not fall.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def draw(self, path: Path) -> None:
        """Write the losses over the rates as a PNG, with the suggestion marked."""
        from matplotlib import style
        from matplotlib.figure import Figure

        with style.context(["default", _style()]):
            figure = Figure(figsize=(8, 4.4), dpi=144, layout="constrained")
            axes = figure.add_subplot()
            axes.plot(self.rates, self.losses, color=_COLORS["train"], alpha=0.35, linewidth=0.8)
            axes.plot(self.rates, self.smoothed, color=_COLORS["train"], linewidth=1.8)
            axes.set_xscale("log")
            low, high = min(self.smoothed), max(self.smoothed[: self.smoothed.index(min(self.smoothed)) + 1])
            room = (high - low) or abs(high) or 1.0
            axes.set_ylim(low - 0.08 * room, high + 0.35 * room)
            axes.set_xlim(self.rates[0], self.rates[-1] if len(self.rates) > 1 else None)
            axes.set_title("loss", loc="left")
            axes.set_xlabel("learning rate", loc="right")
            if self.suggestion is not None:
                value = self.smoothed[self.rates.index(self.suggestion)]
                axes.axvline(self.suggestion, color=_COLORS["eval"], linewidth=1.0, alpha=0.5)
                axes.plot([self.suggestion], [value], "o", color=_COLORS["eval"], markersize=6)
                text = f"suggestion {self.suggestion:.1e}".replace("e-0", "e-")
                axes.set_title(text, loc="right", color=_COLORS["eval"], fontsize=9, fontweight="normal")
            else:
                axes.set_title("no rate makes it fall", loc="right", color=_FAINT, fontsize=9, fontweight="normal")
            axes.tick_params(axis="x", which="minor", color=_FAINT)
            axes.spines["bottom"].set_color(_INK)
            content = BytesIO()
            figure.savefig(content, format="png", metadata={"Software": None})
        atomic_write(path, content.getvalue())


def find_learning_rate(
    run: "Run",
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
    """Train a few steps with a rate that grows from one to the next, watch the loss, and put everything back.

    Afterwards the model, its mode, the optimizer, the loss scale, the generators and the place in the data are what
    they were, bit for bit, so the run goes on as if nothing had been tried. It stops early where the loss is four
    times its lowest, or no number. Rates of several groups keep their ratio, the largest is the one that is tried.
    Smith, 2015 (arXiv:1506.01186). Collective.

    Args:
        run: The run, between `prepare` and the loop.
        model: What is trained, as `prepare` returned it.
        optimizer: What trains it, as `prepare` returned it; a schedule may have been made for it.
        loader: The training data, of which the first epoch's first steps are used.
        compute_loss: From (model, batch) to the loss summed over the batch, or a tuple that begins with it.
        lowest: The first learning rate.
        highest: The last one.
        steps: How many are tried, in equal ratios.
        accumulate: Micro-batches into which each process cuts its share of a step.
        max_grad_norm: Scale gradients down to this norm, as the loop does. None is off.
        count: What a micro-batch's loss sums over, such as its tokens; its samples otherwise.

    Raises:
        ConfigError: The rates do not rise, there are fewer than 10 steps, or there is no data.
    """
    problems = []
    if not 0 < lowest < highest:
        problems.append(f"`lowest` must be above 0 and below `highest`: {lowest} and {highest}")
    if steps < 10:
        problems.append(f"`steps` must be at least 10: {steps}")
    if problems:
        raise ConfigError("\n".join(problems))
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    with _put_back(run, model, optimizer):
        model.train()
        meter = Meter(run)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        ratios = [peak / max(peaks) if max(peaks) > 0 else 1.0 for peak in peaks]
        average = 0.0
        for step in _steps(run, loader, steps, accumulate):
            rate = lowest * (highest / lowest) ** ((step.number - 1) / (steps - 1))
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate * ratio)
                else:
                    group["lr"] = rate * ratio
            total = step.num_samples if count is None else step.total(count)
            for batch in step:
                result = compute_loss(model, batch)
                loss = result[0] if isinstance(result, tuple | list) else result
                run.backward(loss / total)
                meter.add(loss=loss, count=step.micro_batch_samples if count is None else count(batch))
            if max_grad_norm is not None:
                run.accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            value = meter.read()["loss"]  # one exchange in each step, so that all processes stop at the same
            average = _SMOOTHING * average + (1 - _SMOOTHING) * value
            unbiased = average / (1 - _SMOOTHING**step.number)
            if not math.isfinite(value) or (smoothed and unbiased > _DIVERGED * min(smoothed)):
                break
            rates.append(rate)
            losses.append(value)
            smoothed.append(unbiased)
    return LearningRates(rates, losses, smoothed, _steepest(rates, smoothed))


def _steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """The rate of the steepest fall on the way down to the lowest smoothed loss, over a quarter of all rates each."""
    if not smoothed:
        return None
    lowest, reach = smoothed.index(min(smoothed)), max(1, len(smoothed) // 8)
    falls = {i: smoothed[i - reach] - smoothed[i + reach] for i in range(reach, lowest - reach + 1)}
    best = max(falls, key=lambda i: falls[i], default=None)
    return None if best is None or falls[best] <= 0 else rates[best]


def _steps(run: "Run", loader: Loader, steps: int, accumulate: int) -> Iterator[Step]:
    """The first steps of the data, epoch after epoch, without moving the run's place in it."""
    loader.total_steps(1)  # raises where there is no step at all
    number, epoch = 0, 0
    while number < steps:
        epoch += 1
        source = loader.fetch(loader.training_parts(epoch, 0, accumulate))
        for step_in_epoch in range(min(loader.steps_per_epoch, steps - number)):
            number += 1
            yield Step(run, source, number, epoch, loader.samples_of_step(step_in_epoch), accumulate)


@contextmanager
def _put_back(run: "Run", model: nn.Module, optimizer: Any) -> Iterator[None]:
    """Whatever is done to the model, the optimizer and the generators within is undone in the end, in place."""
    tensors = [*model.parameters(), *model.buffers()]
    with torch.no_grad():
        kept = [tensor.detach().clone() for tensor in tensors]
    modes = [(module, module.training) for module in model.modules()]
    optimizer_state = copy.deepcopy(optimizer.state_dict())
    scaler = run.accelerator.scaler
    scale = None if scaler is None else scaler.state_dict()
    position = asdict(run._position)
    host = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():  # of the host and of every CUDA device
        try:
            yield
        finally:
            random.setstate(host[0])
            np.random.set_state(host[1])
            with torch.no_grad():
                for tensor, value in zip(tensors, kept, strict=True):
                    tensor.copy_(value)
            for module, training in modes:
                module.training = training
            model.zero_grad()  # more than the optimizer's: it may hold only some of the parameters
            optimizer.load_state_dict(optimizer_state)
            if scaler is not None and scale:
                scaler.load_state_dict(scale)
            run._reporter.throughput.read()  # the speed of training is counted from here
            assert asdict(run._position) == position, "the test has a walk of its own"
