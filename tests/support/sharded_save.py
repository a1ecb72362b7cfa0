"""One of two processes that write a checkpoint together, and may be killed at a write or find the disk full."""

import errno
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paccel.runtime.hardware.agreement import Agreement
from paccel.runtime.storage import stored
from paccel.runtime.storage.checkpoint import encode_objects, write_sharded
from paccel.runtime.storage.shards import Shard
from support.points import Points


def values(number: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)  # its own, because threads call this
    shapes = {"rows": (301, 70), "columns": (40, 900), "cube": (7, 80, 90)}
    full = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return full | {"cube": full["cube"].bfloat16()}


def part_of(full: Tensor, rank: int, count: int, dimension: int) -> Shard:
    """The chunk of one of `count` processes, as PyTorch splits it: the last may be smaller, or empty."""
    size = -(-full.shape[dimension] // count)
    first = min(rank * size, full.shape[dimension])
    length = min(size, full.shape[dimension] - first)
    offset = [0] * full.dim()
    offset[dimension] = first
    part = full.narrow(dimension, first, length)
    return Shard(tuple(full.shape), full.dtype, tuple(offset), part, lambda: full)


def state_of(number: int, rank: int, count: int) -> dict[str, Any]:
    full = values(number)
    shards = {name: part_of(full[name], rank, count, int(name == "columns")) for name in full}
    return {"model": {**shards, "buffer": torch.full((3,), number)}, "meter": {"count": number}}


def save_as_one(folder: Path, number: int, rank: int, meet: str, fault: tuple[str, int] | None) -> None:
    """Save as one of two processes. Exit code 0: saved, 3: an error was raised, 9: this process was killed."""
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.dup2(os.open(folder / f"{rank}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    torch.set_num_threads(1)
    stored.BLOCK = 5000
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    agreement = Agreement(2, rank)

    def act(point: int) -> None:
        kind, at = fault or ("", 0)
        if point == at and kind == "kill":
            os._exit(9)
        if point == at and kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device")

    points, code = Points(act), 0
    try:
        with points:
            encoded = encode_objects(state_of(number, rank, 2))
            write_sharded(folder / "checkpoints" / f"step-{number}", encoded, {"step": number}, agreement)
    except Exception:
        code = 3
    (folder / f"points-{rank}").write_text(str(points.count))
    os._exit(code)  # immediately: others wait for this process
