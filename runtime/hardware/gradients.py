"""The norm of a gradient and its clipping: what `torch.nn.utils.clip_grad_norm_` gives, to the bit, in less host time."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def clip_grad_norm(parameters: Sequence[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
    """Scale the gradients in place so that their norm is at most `max_norm`; None only measures.

    PyTorch takes the norm of each gradient by itself on the CPU, and multiplies by 1 where nothing is to be clipped.
    Here one call takes all norms, and on the CPU, only a norm that comes near the limit has the gradients touched.

    Args:
        parameters: Whose gradients; one without a gradient is left out.
        max_norm: The limit.
        reads: Whether the norm may be read at once, as on the CPU, where that waits for nothing.

    Returns:
        The norm before clipping. Shape (), on the gradients' device.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = _total_norm(grads)
    if max_norm is None or not grads:
        return norm
    if reads and norm.item() + 1e-6 < 0.99 * max_norm:  # PyTorch's own factor has this 1e-6
        return norm
    clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def _total_norm(grads: list[Tensor]) -> Tensor:
    kinds = {(grad.device, grad.dtype) for grad in grads}
    if len(kinds) != 1 or any(type(grad) is not Tensor or grad.layout != torch.strided for grad in grads):
        return get_total_norm(grads)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return norm


def add_gradients(loss: torch.Tensor, count: int | torch.Tensor, factor: int) -> None:
    """Add the gradients of `loss / count * factor`, to the bit, without an operation on each loss for it.

    Args:
        loss: Shape (); of another shape, what it takes is PyTorch's to say.
        count: A number, or a tensor of shape ().
        factor: Of all that the gradients are of.
    """
    if loss.shape:
        (loss / count * factor).backward()  # type: ignore[no-untyped-call]
    elif isinstance(count, int):
        loss.backward(_share(factor, count, loss.dtype, loss.device))  # type: ignore[no-untyped-call]
    else:
        share = _share(factor, 1, loss.dtype, loss.device) / count  # may be of a wider type, as the division would be
        loss.backward(share.to(loss.dtype))  # type: ignore[no-untyped-call]


@lru_cache(maxsize=64)
def _share(factor: int, count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The gradient that the division would pass on to the loss. Shape (). Kept, as most steps have the same."""
    return torch.tensor(factor, dtype=dtype, device=device) / count
