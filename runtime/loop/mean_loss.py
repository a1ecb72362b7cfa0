"""Noticing a loss that is a mean already, which `Run.backward` would divide once more."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def warn_of_mean(loss: Tensor, count: int | Tensor, warn: Callable[[str], None]) -> bool:
    """Warn if a loss that is divided by `count` is a mean already. Returns whether it is."""
    is_divided = not isinstance(count, int) or count > 1
    if not (is_divided and is_mean(loss)):
        return False
    divisor = count if isinstance(count, int) else "a count"
    warn(
        f"the loss is a mean, and `run.backward` divides it by {divisor} once more: use a sum over the micro-batch "
        '(`reduction="sum"`), or pass `mean_of=step.micro_batch_samples`'
    )
    return True


def is_mean(loss: Tensor) -> bool:
    """Whether a loss is a mean, by the last operations of its graph: a mean, a sum of means, or a mean times at most 1.

    A mean times a number above 1, such as a batch size, may be a sum. Compiled losses cannot be told.
    """
    return _is_mean(loss.grad_fn)


def _is_mean(node: Any) -> bool:
    name = "" if node is None else node.name()
    inner = [following for following, _ in node.next_functions if following is not None] if name else []
    if name.startswith("MeanBackward"):
        return True
    if name.startswith("AddBackward"):
        return bool(inner) and all(map(_is_mean, inner))
    if name.startswith("MulBackward"):
        factors = [
            f for f in (getattr(node, "_saved_other", None), getattr(node, "_saved_self", None)) if f is not None
        ]
        return len(inner) == len(factors) == 1 and abs(float(factors[0])) <= 1 and _is_mean(inner[0])
    return getattr(node, "_saved_reduction", 0) == 1  # in PyTorch's loss functions, 0 is none, 1 mean, 2 sum
