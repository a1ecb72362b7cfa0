"""Shards: the part of a tensor that one process holds or writes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError


@dataclass(frozen=True)
class Box:
    """A block of elements of a tensor: its offset and its size in each dimension."""

    offset: tuple[int, ...]
    size: tuple[int, ...]

    @staticmethod
    def whole(shape: Sequence[int]) -> "Box":
        """All elements of a tensor of this shape."""
        return Box((0,) * len(shape), tuple(shape))

    @property
    def numel(self) -> int:
        return torch.Size(self.size).numel()

    def overlap(self, other: "Box") -> "Box | None":
        """The elements that are in both boxes; None if there are none."""
        offset = tuple(map(max, self.offset, other.offset))
        ends = (min(a + n, b + m) for a, n, b, m in zip(self.offset, self.size, other.offset, other.size, strict=True))
        size = tuple(end - start for start, end in zip(offset, ends, strict=True))
        return Box(offset, size) if all(n > 0 for n in size) else None

    def offset_in(self, outer: "Box") -> tuple[int, ...]:
        """The offset relative to a box that contains this one."""
        return tuple(own - start for own, start in zip(self.offset, outer.offset, strict=True))


def problem_of(boxes: Sequence[Box], shape: tuple[int, ...]) -> str | None:
    """Why boxes do not contain each element of a tensor exactly once; None if they do."""
    if not all(
        len(box.offset) == len(box.size) == len(shape)
        and all(a + n <= length for a, n, length in zip(box.offset, box.size, shape, strict=True))
        for box in boxes
    ):
        return "one of its parts lies outside of it"
    # Sorted along the axis that is split, only neighbours have to be compared
    axis = max(range(len(shape)), key=lambda axis: len({box.offset[axis] for box in boxes}), default=None)
    parts = [box for box in boxes if box.numel]
    if axis is not None:
        parts.sort(key=lambda box: box.offset[axis])
    for number, box in enumerate(parts):
        for other in parts[number + 1 :]:
            if axis is not None and other.offset[axis] >= box.offset[axis] + box.size[axis]:
                break
            if box.overlap(other) is not None:
                return "two of its parts overlap"
    found, total = sum(box.numel for box in parts), torch.Size(shape).numel()
    return None if found == total else f"its parts have {found} of its {total} elements"


@dataclass(eq=False)
class Shard:
    """A tensor that several processes write together, each its part.

    Attributes:
        shape: Of the whole tensor.
        dtype: Of its elements.
        offset: Where the part of this process starts, in each dimension.
        part: The part of this process. None: only other processes write this tensor.
        gather: Returns the whole tensor. Collective.
        stride: Of the whole tensor, if it is not contiguous.
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


class Turns:
    """Assigns tensors that can only be gathered whole: each to the process that has the fewest bytes so far.

    Args:
        rank: Of this process.
        num_processes: How many take turns. All must ask for the same tensors in the same order.
    """

    def __init__(self, rank: int, num_processes: int) -> None:
        self._rank, self._bytes = rank, [0] * num_processes

    def shard(self, shape: torch.Size, dtype: torch.dtype, gather: Callable[[bool], Any], *, now: bool = True) -> Shard:
        """The whole tensor on the process whose turn it is, nothing on the others. Collective.

        Args:
            shape: Of the tensor.
            dtype: Of its elements.
            gather: Takes whether to keep the tensor, and then returns it on the host. Collective.
            now: Whether to gather it now, or only by `Shard.gather`.
        """
        turn = self._bytes.index(min(self._bytes))
        self._bytes[turn] += shape.numel() * dtype.itemsize
        part = gather(turn == self._rank) if now else None
        return Shard(tuple(shape), dtype, (0,) * len(shape), part, partial(gather, True))


def box_of(tensor: Any) -> Box:
    """What this process holds of a DTensor, as DTensor tells `torch.distributed.checkpoint`."""
    (chunk,) = tensor.__create_chunk_list__()
    return Box(tuple(chunk.offsets), tuple(chunk.sizes))


def check_has_memory(model: nn.Module) -> None:
    """Check that all parameters of a model have memory, so that they can be saved and loaded.

    Raises:
        ConfigError: Some are on the meta device.
    """
    if bare := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        others = f" and {len(bare) - 1} more are" if bare[1:] else " is"
        raise ConfigError(
            f"`{bare[0]}`{others} on the meta device, without memory: call `model.to_empty(device=run.device)` after "
            "`fully_shard` and before `run.prepare`"
        )


def copied(tensors: Mapping[str, Tensor | Shard]) -> dict[str, Tensor | Shard]:
    """Copies on the host, which later steps do not change; of a shard, this process's part is copied."""
    return {name: _copy(tensor) for name, tensor in tensors.items()}


def _copy(tensor: Any) -> Any:
    if isinstance(tensor, Shard):
        part = None if tensor.part is None else _copy(tensor.part)
        return Shard(tensor.shape, tensor.dtype, tensor.offset, part, tensor.gather, tensor.stride)
    return tensor.to("cpu", copy=True, memory_format=torch.preserve_format)
