"""The part of a tensor that one process writes or holds: a box of its elements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError


@dataclass(frozen=True)
class Box:
    """So many elements of a tensor, from a place on, in each of its dimensions."""

    offset: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def numel(self) -> int:
        return torch.Size(self.size).numel()


@dataclass(eq=False)
class Shard:
    """A tensor of which each process writes a part.

    Attributes:
        shape: Of the whole tensor.
        dtype: Of its elements.
        offset: Where the part of this process begins, in each dimension.
        part: The part. None: other processes write this tensor.
        stride: Of the whole tensor, where it is not contiguous.
        gather: Returns the whole tensor. Collective.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: tuple[int, ...]
    part: Tensor | None
    gather: Callable[[], Tensor]
    stride: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Of the whole tensor."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def box_of(tensor: Any) -> Box:
    """What this process holds of a DTensor, in the words that DTensor has for PyTorch's checkpoints."""
    (chunk,) = tensor.__create_chunk_list__()
    return Box(tuple(chunk.offsets), tuple(chunk.sizes))


def check_has_memory(model: nn.Module) -> None:
    """Refuse a model to which values could not be given.

    Raises:
        ConfigError: It has parameters on the meta device.
    """
    if bare := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        others = f" and {len(bare) - 1} more are" if bare[1:] else " is"
        raise ConfigError(
            f"`{bare[0]}`{others} on the meta device, without memory: call `model.to_empty(device=run.device)` after "
            "`fully_shard` and before `run.prepare`"
        )


def copied(tensors: Mapping[str, Tensor | Shard]) -> dict[str, Tensor | Shard]:
    """Copies on the host that no later step changes; of shards, of this process's part."""
    return {name: _copy(tensor) for name, tensor in tensors.items()}


def _copy(tensor: Any) -> Any:
    if isinstance(tensor, Shard):
        part = None if tensor.part is None else _copy(tensor.part)
        return Shard(tensor.shape, tensor.dtype, tensor.offset, part, tensor.gather, tensor.stride)
    return tensor.to("cpu", copy=True, memory_format=torch.preserve_format)
