"""The norm of a gradient and its clipping, as `torch.nn.utils.clip_grad_norm_` does it, to the bit."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def clip_grad_norm(parameters: Sequence[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
    """Scale the gradients in place so that their norm is at most `max_norm`; None only measures.

    PyTorch multiplies by 1 if nothing is to be clipped, which takes as long as the norm itself. If the norm can be read
    without waiting, gradients are only scaled when the norm comes near the limit.

    Args:
        parameters: Parameters without a gradient are ignored.
        max_norm: The limit.
        reads: Whether to read the norm, as on the CPU, where that waits for nothing.

    Returns:
        The norm before clipping. Shape (), on the gradients' device.
    """
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm is not None and not (reads and norm.item() < 0.99 * max_norm - 1e-6):  # PyTorch's factor has this 1e-6
        clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def takes_found_inf(optimizer: Any) -> bool:
    """Whether an optimizer skips its update on the device if its attribute `found_inf` is set, as fused ones do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def leaves(loss: Tensor) -> list[Tensor]:
    """The leaf tensors that a loss depends on, such as parameters, in an order that depends only on its graph."""
    found: dict[Tensor, None] = {}
    for node in _nodes(loss.grad_fn):
        if hasattr(node, "variable"):
            found[node.variable] = None
    return list(found)


def _nodes(root: Any) -> Iterator[Any]:
    """Every node of a graph once."""
    waiting, seen = [root], {root, None}
    while waiting:
        node = waiting.pop()
        yield node
        for following, _ in node.next_functions:
            if following not in seen:
                seen.add(following)
                waiting.append(following)
