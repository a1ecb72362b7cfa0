"""What processes tell each other about a stream: that all read the same one, or how many samples each has of a step."""

from collections.abc import Callable, Generator, Iterator

import torch
import torch.distributed as dist

from ..data.order import Portion
from ..errors import DataError
from ..hardware.agreement import Agreement


def same_on_all(agreement: Agreement, stream: str, portions: Iterator[Portion]) -> Generator[Portion]:
    """The portions of a stream, compared with those of the other processes. Collective.

    The samples that a pass begins with are compared before its first step, and how many samples a step has, and whether
    it is the last one, while it is trained on: the answer is there by the next step, so nothing waits for it.

    Args:
        agreement: With the other processes.
        stream: Its name, for errors.
        portions: Of this process.

    Raises:
        DataError: A process reads other samples, or more of them; raised on all processes.
    """
    pending: dist.Work | None = None
    number, ends = 0, torch.zeros(2, dtype=torch.int64)
    portion = next(portions, None)
    if len(set(agreement.gather(None if portion is None else portion.digest))) > 1:
        raise DataError(
            f"`{stream}` yields other samples on each process: it shards itself by rank, or draws an order or noise of its "
            "own. Let every process read all of it, as paccel divides it (no `split_dataset_by_node`, "
            "`split_by_node`, `rank`), and seed what it draws, by `set_sample_seed` or the global generators"
        )
    while True:
        if pending is not None:
            pending.wait()
            most, least = ends.tolist()
            if most != -least:
                raise DataError(
                    f"`{stream}` ends at another sample on some processes, in step {number} of this pass: every process "
                    "must read the same samples, as paccel divides them"
                )
        if portion is None:
            return
        number += 1
        size = 2 * portion.num_samples + portion.is_last
        ends[0], ends[1] = size, -size
        pending = dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=agreement.group, async_op=True)
        yield portion
        portion = next(portions, None)


def added_up(agreement: Agreement, number: int) -> Callable[[], int]:
    """Start a sum over all processes; what is returned waits for it. Collective."""
    total = torch.tensor([number])
    work = dist.all_reduce(total, group=agreement.group, async_op=True)

    def wait() -> int:
        work.wait()
        return int(total)

    return wait
