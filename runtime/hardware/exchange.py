"""Collectives of tensors, on their own device."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import ConfigError
from .agreement import Agreement


@torch.no_grad()
def take_from_main(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with their values on the main process. Collective."""
    _as_one(tensors, lambda values: dist.broadcast(values, src=0))


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with their mean over all processes. Collective."""

    def mean(values: Tensor) -> None:
        dist.all_reduce(values)
        values /= dist.get_world_size()

    _as_one(tensors, mean)


def _as_one(tensors: Iterable[Tensor], exchange: Callable[[Tensor], Any]) -> None:
    """Exchange all tensors of a device and dtype as one, instead of waiting for each."""
    groups: dict[Any, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        groups[tensor.device, tensor.dtype].append(tensor)
    for group in groups.values():
        values = torch.cat([tensor.reshape(-1) for tensor in group])
        exchange(values)
        for tensor, part in zip(group, torch.split(values, [tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(part.view_as(tensor))


def gather_rows(tensor: Tensor, agreement: Agreement) -> Tensor:
    """The rows of all processes in rank order. Gradients flow back to this process's rows. Collective.

    Args:
        tensor: Shape (rows, …), with any number of rows on each process.
        agreement: The processes.

    Raises:
        AgreementError: Other processes are at another call.
        ConfigError: Shape or dtype of the rows differ between processes; raised on all of them.
    """
    kinds = agreement.gather((tuple(tensor.shape), tensor.dtype))  # on the host, where a missing process is reported
    if len({(shape[1:], dtype) for shape, dtype in kinds}) > 1:
        shapes = ", ".join(f"{shape} {str(dtype).removeprefix('torch.')}" for shape, dtype in kinds)
        raise ConfigError(f"`run.gather` needs rows of one shape and dtype, and the processes have {shapes}")
    rows: Tensor = _GatherRows.apply(tensor, [shape[0] for shape, _ in kinds], agreement.rank)
    return rows


class _GatherRows(torch.autograd.Function):
    """Gathers rows; backward, sums the gradients of all processes' losses with respect to this process's rows."""

    @staticmethod
    def forward(context: Any, own: Tensor, sizes: list[int], rank: int) -> Tensor:
        context.bounds = sum(sizes[:rank]), sum(sizes[: rank + 1])
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        start, stop = context.bounds
        return total[start:stop], None, None
