"""Tensors that stay on disk until an operation needs them."""

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .shards import Box, box_of

BLOCK = 1 << 24  # bytes of a piece that have their own hash, and are read together
SMALL = 1 << 16  # bytes up to which a tensor is read as soon as its file is opened


@dataclass(frozen=True)
class Piece:
    """A part of a tensor in a file: the bytes of its elements, in blocks of whole rows.

    Attributes:
        file: The file.
        start: Offset of the first byte.
        box: Which part of the tensor.
        rows: How many rows of the first dimension make a block.
        hashes: The SHA-256 of each block; empty if the file has one hash for everything.
    """

    file: Path
    start: int
    box: Box
    rows: int
    hashes: Sequence[str] = ()

    @torch.no_grad()
    def read_into(self, target: Tensor, wanted: Box) -> int:
        """Copy the overlap of this piece and `wanted` into `target`. Returns how many elements were copied.

        Args:
            target: A contiguous tensor on the host, with the size of `wanted`.
            wanted: The part of the tensor to read.

        Raises:
            CheckpointError: The file is missing, cut short or damaged.
        """
        overlap = self.box.overlap(wanted)
        if overlap is None:
            return 0
        source, goal = overlap.offset_in(self.box), overlap.offset_in(wanted)
        size, shape = overlap.size, self.box.size
        if not size:  # a scalar
            source, goal, size, shape, target = (0,), (0,), (1,), (1,), target.reshape(1)
        inner_source = tuple(slice(a, a + n) for a, n in zip(source[1:], size[1:], strict=True))
        inner_goal = tuple(slice(a, a + n) for a, n in zip(goal[1:], size[1:], strict=True))
        has_whole_rows = tuple(size[1:]) == tuple(shape[1:]) == tuple(target.shape[1:])
        row_bytes = torch.Size(shape[1:]).numel() * target.element_size()
        try:
            with self.file.open("rb") as file:
                for block in range(source[0] // self.rows, -(-(source[0] + size[0]) // self.rows)):
                    first, last = block * self.rows, min((block + 1) * self.rows, shape[0])  # rows of the block
                    begin, end = max(first, source[0]), min(last, source[0] + size[0])  # wanted rows of it
                    rows = slice(goal[0] + begin - source[0], goal[0] + end - source[0])  # where they go
                    if has_whole_rows and (first, last) == (begin, end):
                        self._read(file, block, first * row_bytes, target[rows])
                    else:
                        content = torch.empty((last - first, *shape[1:]), dtype=target.dtype)
                        self._read(file, block, first * row_bytes, content)
                        target[(rows, *inner_goal)] = content[(slice(begin - first, end - first), *inner_source)]
        except OSError as error:
            raise CheckpointError(f"`{self.file}` cannot be read: {error}") from error
        return overlap.numel

    def _read(self, file: io.BufferedReader, block: int, offset: int, rows: Tensor) -> None:
        content = as_bytes(rows)
        file.seek(self.start + offset)
        if file.readinto(content) != len(content):
            raise CheckpointError(f"`{self.file}` is cut short")
        if self.hashes and hashlib.sha256(content).hexdigest() != self.hashes[block]:
            raise CheckpointError(f"`{self.file}` has the right size and the wrong content")


def as_bytes(rows: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the host that has elements."""
    content: memoryview = rows.reshape(-1).view(torch.uint8).numpy().data
    return content


def rows_of_a_block(shape: Sequence[int], itemsize: int) -> int:
    """How many rows of the first dimension make a block; at least one."""
    return max(1, BLOCK // max(1, torch.Size(shape[1:]).numel() * itemsize))


class Stored(Tensor):
    """A tensor in files, read only as far as an operation needs it.

    `parameter.copy_(stored)` reads the part that this process holds of the parameter, a DTensor or not. Shape, type and
    strides are known without reading. Any other operation reads the whole tensor and works on that.
    """

    pieces: Sequence[Piece]

    @staticmethod
    def of(pieces: Sequence[Piece], form: Tensor) -> "Stored":
        """A stored tensor with the shape, type and strides of `form`, a tensor on the meta device."""
        made = form.as_subclass(Stored)
        made.pieces = pieces
        return made

    def strided(self, stride: Sequence[int]) -> "Stored":
        """The same tensor with other strides."""
        return Stored.of(self.pieces, torch.empty_strided(self.shape, tuple(stride), dtype=self.dtype, device="meta"))

    def whole(self) -> Tensor:
        """The whole tensor, in memory.

        Raises:
            CheckpointError: A file is missing, cut short or damaged.
        """
        found = self.part(Box.whole(self.shape))
        if found.stride() != self.stride():
            return torch.empty_strided(self.shape, self.stride(), dtype=self.dtype).copy_(found)
        return found

    def part(self, wanted: Box) -> Tensor:
        """A part of the tensor, in memory.

        Raises:
            CheckpointError: A file is missing, cut short or damaged.
        """
        return self._read_into(torch.empty(wanted.size, dtype=self.dtype), wanted)

    def _read_into(self, target: Tensor, wanted: Box) -> Tensor:
        if sum(piece.read_into(target, wanted) for piece in self.pieces) != wanted.numel:
            names = ", ".join(sorted({piece.file.name for piece in self.pieces}))
            raise CheckpointError(f"a tensor is not whole in {names}")
        return target

    @torch.no_grad()
    def copy_to(self, target: Any) -> None:
        """Fill `target` with its part of this tensor; straight from the file if `target` is on the host."""
        is_sharded = hasattr(target, "to_local")
        wanted = box_of(target) if is_sharded else Box.whole(self.shape)
        own = target.detach().to_local() if is_sharded else target.detach()
        plain = own.device.type == "cpu" and own.dtype == self.dtype and own.is_contiguous()
        if plain and type(own) is Tensor and tuple(own.shape) == wanted.size:
            self._read_into(own, wanted)
        else:
            own.copy_(self.part(wanted))

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.copy_ and isinstance(args[1], Stored) and not isinstance(args[0], Stored):
            args[1].copy_to(args[0])
            return args[0]
        if func in _NEEDS_NO_VALUES or getattr(func, "__name__", "") in ("__get__", "__set__"):
            found = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
            if not isinstance(found, Tensor):
                return found
        return func(*in_memory(tuple(args)), **in_memory(dict(kwargs)))


_NEEDS_NO_VALUES: set[Callable[..., Any]] = {
    Tensor.as_subclass,
    Tensor.dim,
    Tensor.element_size,
    Tensor.is_complex,
    Tensor.is_contiguous,
    Tensor.is_floating_point,
    Tensor.numel,
    Tensor.size,
    Tensor.stride,
}


def in_memory(value: Any) -> Any:
    """A value with every stored tensor read, also in dicts, lists and tuples."""
    if isinstance(value, Stored):
        return value.whole()
    if type(value) is dict:
        return {key: in_memory(item) for key, item in value.items()}
    return type(value)(map(in_memory, value)) if type(value) in (list, tuple) else value


def stored(pieces: Sequence[Piece], shape: Sequence[int], dtype: torch.dtype, *, at_once: int = SMALL) -> Tensor:
    """A tensor in files; one of at most `at_once` bytes is read now."""
    found = Stored.of(pieces, torch.empty(tuple(shape), dtype=dtype, device="meta"))
    return found if found.numel() * found.element_size() > at_once else found.whole()
