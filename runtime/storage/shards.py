"""The part of a tensor that one process writes or holds: a box of its elements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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


def problem_of(boxes: Sequence[Box], shape: tuple[int, ...]) -> str | None:
    """Why boxes are not the parts of a tensor, with each of its elements in one of them; None if they are."""
    if not all(
        len(box.offset) == len(box.size) == len(shape)
        and all(a + n <= length for a, n, length in zip(box.offset, box.size, shape, strict=True))
        for box in boxes
    ):
        return "one of its parts lies outside of it"
    # Along the axis that is split, only neighbours have to be compared
    axis = max(range(len(shape)), key=lambda axis: len({box.offset[axis] for box in boxes}), default=None)
    parts = [box for box in boxes if box.numel]
    if axis is not None:
        parts.sort(key=lambda box: box.offset[axis])
    for number, box in enumerate(parts):
        for other in parts[number + 1 :]:
            if axis is not None and other.offset[axis] >= box.offset[axis] + box.size[axis]:
                break
            lows = map(max, box.offset, other.offset)
            ends = (
                min(a + n, b + m) for a, n, b, m in zip(box.offset, box.size, other.offset, other.size, strict=True)
            )
            if all(low < end for low, end in zip(lows, ends, strict=True)):
                return "two of its parts overlap"
    found, total = sum(box.numel for box in parts), torch.Size(shape).numel()
    return None if found == total else f"its parts have {found} of its {total} elements"


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


class Turns:
    """Which process holds and writes a tensor that only comes as a whole: the one that has the fewest bytes so far.

    Args:
        rank: Of this process.
        num_processes: How many take turns, in the same order of tensors.
    """

    def __init__(self, rank: int, num_processes: int) -> None:
        self._rank, self._bytes = rank, [0] * num_processes

    def shard(self, shape: torch.Size, dtype: torch.dtype, gather: Callable[[bool], Any], *, now: bool = True) -> Shard:
        """The whole tensor for the process whose turn it is, nothing for the others. Collective.

        Args:
            shape: Of the tensor.
            dtype: Of its elements.
            gather: Returns it on the host, if it is told to keep it. Collective.
            now: Whether to gather it, or only when the shard is asked to.
        """
        turn = self._bytes.index(min(self._bytes))
        self._bytes[turn] += shape.numel() * dtype.itemsize
        part = gather(turn == self._rank) if now else None
        return Shard(tuple(shape), dtype, (0,) * len(shape), part, partial(gather, True))


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
