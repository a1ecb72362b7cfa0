"""The norm of a gradient and its clipping: what `torch.nn.utils.clip_grad_norm_` gives, to the bit, in less host time."""

from collections.abc import Sequence

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
