"""Gradients and losses that are not finite: passed over or an error, the same on all processes, without waiting."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..hardware.gradients import takes_found_inf
from ..hardware.prepare import Prepared
from .position import Position

_SCALER_SKIPS = 24  # in a row: from its first scale, 2¹⁶, a loss scaler has then come down to 2⁻⁸
_CHUNK = 256  # norms kept before they are looked at without a log point
_NAMED = 16  # samples that an error names

Samples = Callable[[], list[int]]


class FiniteGuard:
    """Takes the norm of each step's gradient, and sees that no update with one that is not finite is made or kept.

    Distributed wrappers have summed the gradient, so its norm is the same on all processes, and so is what follows. On
    the CPU, a norm is read immediately. On a device, reading would wait for it, so norms are kept until the next log
    point, checkpoint or end of the run, and an update that is to be skipped is made harmless on the device.

    Args:
        position: Which step it is.
        prepared: The optimizers, and the loss scaler where there is one.
        warn: Takes a line for the terminal.
        may_skip: Steps in a row that may be skipped, and log points in a row whose loss alone may not be finite. 0 makes
            the first an error.
        reads: Whether to read each norm immediately, as on the CPU.

    Attributes:
        reads: As given: whether reading a value waits for nothing.
        samples: Returns the indices of the samples of the current step, which an error names; None where it has none.
    """

    def __init__(
        self, position: Position, prepared: Prepared, warn: Callable[[str], None], may_skip: int, *, reads: bool
    ) -> None:
        self._position, self._prepared, self._warn = position, prepared, warn
        self._may_skip = may_skip
        self.reads = reads
        self.samples: Samples | None = None
        self._pending: list[tuple[int, Samples | None, Tensor]] = []  # step, its samples, norm
        self._last_bad, self._in_a_row = 0, 0
        self._skipped = 0  # updates, since they were last logged
        self._bad_losses = 0  # log points in a row, whose gradients were all finite

    def take(self, norm: Tensor, parameters: list[nn.Parameter]) -> None:
        """Look at the norm of this step's gradient, before its update."""
        step = self._position.step
        if self.reads:
            value = norm.item()
            if not math.isfinite(value):
                if not self._scales():
                    for parameter in parameters:
                        parameter.grad = None  # PyTorch's optimizers leave out a parameter without a gradient
                self._count(step, self.samples, value)
            return
        if self._may_skip and not self._scales():
            self._neutralize(norm, parameters)
        self._pending.append((step, self.samples, norm.detach().clone()))  # the loop may change its own in place
        if len(self._pending) == _CHUNK:
            self.check()

    def check(self) -> None:
        """Look at the norms since the last time. Waits for the device.

        Raises:
            NonFiniteError: More steps in a row than may be skipped had a gradient that is not finite.
        """
        if self._pending:
            pending, self._pending = self._pending, []
            values = torch.stack([norm for _, _, norm in pending]).tolist()
            for (step, samples, _), value in zip(pending, values, strict=True):
                if not math.isfinite(value):
                    self._count(step, samples, value)

    def take_loss(self, loss: Any, first_step: int, skipped: int) -> None:
        """Look at the mean training loss since `first_step`, at a log point.

        Skipped updates explain one that is not finite. Where all gradients were finite, there is no update to skip: it
        is an error, or where updates may be skipped, a warning at as many log points in a row.

        Raises:
            NonFiniteError: At one log point more. Names the samples, where the loss is that of one step.
        """
        if not isinstance(loss, float):
            return
        self._bad_losses = 0 if math.isfinite(loss) or skipped else self._bad_losses + 1
        if not self._bad_losses:
            return
        position = self._position
        several = first_step < position.step
        steps = f"steps {first_step} to {position.step}" if several else f"step {position.step}"
        what = f"The training loss became {loss} in {steps}"
        if self._bad_losses <= self._may_skip:
            self._warn(f"{what}, while its gradients are finite")
            return
        row = f", as at the {self._may_skip} log points before it" if self._may_skip else ""
        samples = "" if several else _named(self.samples)
        raise NonFiniteError(f"{what}{row}{samples}")

    def read_skipped(self) -> int:
        """Updates skipped since the last call, after a `check`."""
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
        self._bad_losses = state.get("bad_losses", 0)  # not in a checkpoint of earlier versions

    def _scales(self) -> bool:
        """Whether a loss scaler skips such updates by itself: for it, they are how it finds its scale."""
        return self._prepared.loss_scaler is not None

    def _count(self, step: int, samples: Samples | None, value: float) -> None:
        self._skipped += 1
        if step != self._last_bad:  # a step may have several updates
            self._in_a_row = self._in_a_row + 1 if step == self._last_bad + 1 else 1
            self._last_bad = step
        may_skip = max(self._may_skip, _SCALER_SKIPS) if self._scales() else self._may_skip
        if self._in_a_row > may_skip:
            row = f", as in the {may_skip} steps before it" if may_skip else ""
            raise NonFiniteError(f"The gradient of step {step} has the norm {value}{row}{_named(samples)}")
        if not self._scales():
            self._warn(f"step {step} is skipped: its gradient has the norm {value}")

    def _neutralize(self, norm: Tensor, parameters: list[nn.Parameter]) -> None:
        """Make the coming update do nothing if the norm is not finite, without reading it.

        Fused optimizers take a flag for this and skip the update. For others the gradient becomes 0, so that their
        momentum and weight decay still act.
        """
        fused, rest = self._split(parameters)
        is_bad = _local(norm).isfinite().logical_not()
        flag = is_bad.float()
        for optimizer in fused:
            optimizer.found_inf = flag
        for parameter in rest:
            if parameter.grad is not None:
                _local(parameter.grad).masked_fill_(is_bad, 0.0)

    def _split(self, parameters: list[nn.Parameter]) -> tuple[list[Any], list[nn.Parameter]]:
        """The fused optimizers that update nothing but these parameters, and the parameters of all others."""
        own, fused, covered = set(parameters), [], set[nn.Parameter]()
        for optimizer in self._prepared.optimizers:
            updated = {p for group in optimizer.param_groups for p in group["params"]}
            if takes_found_inf(optimizer) and updated <= own:
                fused.append(optimizer)
                covered |= updated
        return fused, [p for p in parameters if p not in covered]


def _named(samples: Samples | None) -> str:
    indices = [] if samples is None else samples()
    if not indices:
        return ""
    more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
    return f"; its samples are {', '.join(map(str, indices[:_NAMED]))}{more}"


def _local(tensor: Any) -> Tensor:
    """The values on this process; a shard's, where the tensor is sharded."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
