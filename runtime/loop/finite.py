"""Gradients and losses that are not finite: an update is skipped or the run fails, the same on all processes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..hardware.gradients import takes_found_inf
from ..hardware.prepare import Prepared
from ..hardware.sharding import own_values
from .position import Position

_SCALER_SKIPS = 24  # steps in a row that a loss scaler may skip: its first scale, 2¹⁶, is halved to 2⁻⁸ then
_CHUNK = 256  # norms kept before they are read without a log point
_NAMED = 16  # samples that an error names

Samples = Callable[[], list[int]]
"""Returns the indices of the samples of a step."""


class FiniteGuard:
    """Checks the gradient norm of each step, and skips the update or fails the run if it is not finite.

    Distributed wrappers have summed the gradient, so its norm is the same on all processes, and so is every decision. On
    the CPU, a norm is read immediately. On a device, reading would wait for it: norms are kept until the next log point,
    checkpoint or end of the run, and an update to be skipped is neutralized on the device.

    Args:
        position: Which step it is.
        prepared: The optimizers, and the loss scaler if there is one.
        warn: Prints a warning.
        may_skip: How many steps in a row may be skipped, and at how many log points in a row only the loss may not be
            finite. 0 makes the first an error.
        reads: Whether to read each norm immediately, as on the CPU.

    Attributes:
        reads: Whether reading a value waits for nothing.
        samples: The samples of the current step, which an error names; None if it has none.
        logged_step: The step of the last log point.
    """

    def __init__(
        self, position: Position, prepared: Prepared, warn: Callable[[str], None], may_skip: int, *, reads: bool
    ) -> None:
        self._position, self._prepared, self._warn = position, prepared, warn
        self._may_skip = may_skip
        self.reads = reads
        self.samples: Samples | None = None
        self.logged_step = 0
        self._pending: list[tuple[int, Samples | None, Tensor]] = []  # step, its samples, norm
        self._last_bad, self._in_a_row = 0, 0  # the last step that was not finite, and how many in a row
        self._skipped = 0  # updates since the last log point
        self._bad_losses = 0  # log points in a row at which only the loss was not finite

    def check_norm(self, norm: Tensor, parameters: list[nn.Parameter]) -> None:
        """Check the norm of this step's gradient, before its update."""
        step = self._position.step
        if self.reads:
            value = norm.item()
            if not math.isfinite(value):
                if not self._has_loss_scaler():
                    for parameter in parameters:
                        parameter.grad = None  # PyTorch's optimizers skip a parameter without a gradient
                self._count(step, self.samples, value)
            return
        if self._may_skip and not self._has_loss_scaler():
            self._neutralize(norm, parameters)
        self._pending.append((step, self.samples, norm.detach().clone()))  # the loop may change its tensor in place
        if len(self._pending) == _CHUNK:
            self.check()

    def check(self) -> None:
        """Read the norms since the last check. Waits for the device.

        Raises:
            NonFiniteError: More steps in a row had a gradient that is not finite than may be skipped.
        """
        if self._pending:
            pending, self._pending = self._pending, []
            values = torch.stack([norm for _, _, norm in pending]).tolist()
            for (step, samples, _), value in zip(pending, values, strict=True):
                if not math.isfinite(value):
                    self._count(step, samples, value)

    def check_loss(self, loss: Any, skipped: int) -> None:
        """Check the mean training loss since the last log point, at a log point.

        A loss that is not finite is explained by skipped updates. If all gradients were finite, there is no update to
        skip: it is a warning at `may_skip` log points in a row, then an error.

        Args:
            loss: The mean; anything but a float is ignored.
            skipped: How many updates were skipped since the last log point.

        Raises:
            NonFiniteError: The loss was not finite at too many log points in a row. Names the samples if it is the loss
                of one step.
        """
        step = self._position.step
        first_step, self.logged_step = min(self.logged_step + 1, step), step
        if not isinstance(loss, float):
            return
        self._bad_losses = 0 if math.isfinite(loss) or skipped else self._bad_losses + 1
        if not self._bad_losses:
            return
        steps = f"steps {first_step} to {step}" if first_step < step else f"step {step}"
        problem = f"The training loss became {loss} in {steps}"
        if self._bad_losses <= self._may_skip:
            self._warn(f"{problem}, while its gradients are finite")
            return
        row = f", as at the {self._may_skip} log points before it" if self._may_skip else ""
        raise NonFiniteError(f"{problem}{row}{_named(self.samples) if first_step == step else ''}")

    def read_skipped(self) -> int:
        """How many updates were skipped since the last call. Waits for the device."""
        self.check()
        skipped, self._skipped = self._skipped, 0
        return skipped

    def state_dict(self) -> dict[str, int]:
        return {
            "last_bad": self._last_bad,
            "in_a_row": self._in_a_row,
            "skipped": self._skipped,
            "bad_losses": self._bad_losses,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._last_bad, self._in_a_row, self._skipped = state["last_bad"], state["in_a_row"], state["skipped"]
        self._bad_losses = state.get("bad_losses", 0)  # missing in older checkpoints

    def _has_loss_scaler(self) -> bool:
        """Whether a loss scaler skips these updates: overflows are how it finds its scale."""
        return self._prepared.loss_scaler is not None

    def _count(self, step: int, samples: Samples | None, value: float) -> None:
        self._skipped += 1
        if step != self._last_bad:  # a step may have several updates
            self._in_a_row = self._in_a_row + 1 if step == self._last_bad + 1 else 1
            self._last_bad = step
        may_skip = max(self._may_skip, _SCALER_SKIPS) if self._has_loss_scaler() else self._may_skip
        if self._in_a_row > may_skip:
            row = f", as in the {may_skip} steps before it" if may_skip else ""
            raise NonFiniteError(f"The gradient norm of step {step} is {value}{row}{_named(samples)}")
        if not self._has_loss_scaler():
            self._warn(f"step {step} is skipped: its gradient norm is {value}")

    def _neutralize(self, norm: Tensor, parameters: list[nn.Parameter]) -> None:
        """Make the next update harmless if the norm is not finite, without reading it.

        Fused optimizers have a flag that skips the update. For others the gradient becomes 0; their momentum and weight
        decay still act.
        """
        fused, rest = self._split(parameters)
        is_bad = own_values(norm).isfinite().logical_not()
        flag = is_bad.float()
        for optimizer in fused:
            optimizer.found_inf = flag
        for parameter in rest:
            if parameter.grad is not None:
                own_values(parameter.grad).masked_fill_(is_bad, 0.0)

    def _split(self, parameters: list[nn.Parameter]) -> tuple[list[Any], list[nn.Parameter]]:
        """The fused optimizers that update only these parameters, and the parameters that they do not cover."""
        own, fused, covered = set(parameters), [], set[nn.Parameter]()
        for optimizer in self._prepared.optimizers:
            updated = {p for group in optimizer.param_groups for p in group["params"]}
            if takes_found_inf(optimizer) and updated <= own:
                fused.append(optimizer)
                covered |= updated
        return fused, [p for p in parameters if p not in covered]


def _named(samples: Samples | None) -> str:
    """The samples of a step, as the end of an error message."""
    indices = [] if samples is None else samples()
    if not indices:
        return ""
    more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
    return f"; its samples are {', '.join(map(str, indices[:_NAMED]))}{more}"
