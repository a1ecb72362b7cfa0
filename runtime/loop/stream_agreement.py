"""What processes exchange about a stream: that all read the same samples, or how many each has of a step."""

from collections.abc import Callable, Generator, Iterator

import torch
import torch.distributed as dist

from ..data.order import Portion
from ..errors import DataError
from ..hardware.agreement import Agreement


def same_on_all(agreement: Agreement, stream: str, portions: Iterator[Portion]) -> Generator[Portion]:
    """Yield the portions of a stream, and compare them between processes. Collective.

    The first samples of a pass are compared before its first step. The number of samples of a step, and whether it is the
    last one, are compared while it is trained on: the result is there by the next step, so nothing waits for it.

    Args:
        agreement: The processes.
        stream: The name of the stream, for errors.
        portions: The portions of this process.

    Raises:
        DataError: A process reads other samples, or more of them. Raised on all processes.
    """
    pending: dist.Work | None = None
    number, ends = 0, torch.zeros(2, dtype=torch.int64)
    portion = next(portions, None)
    if len(set(agreement.gather(None if portion is None else portion.digest))) > 1:
        raise DataError(
            f"`{stream}` yields other samples on each process: it shards itself by rank, or shuffles or augments with its "
            "own generator. Let every process read the whole stream, because paccel splits it (no "
            "`split_dataset_by_node`, `split_by_node`, `rank`), and draw random numbers from the global generators or "
            "one that `set_sample_seed` seeds"
        )
    while True:
        if pending is not None:
            pending.wait()
            most, least = ends.tolist()
            if most != -least:
                raise DataError(
                    f"`{stream}` ends at another sample on some processes, in step {number} of this pass: every process "
                    "must read the same samples, because paccel splits them"
                )
        if portion is None:
            return
        number += 1
        size = 2 * portion.num_samples + portion.is_last
        ends[0], ends[1] = size, -size
        pending = dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=agreement.group, async_op=True)
        yield portion
        portion = next(portions, None)


def summed(agreement: Agreement, number: int) -> Callable[[], int]:
    """Start a sum over all processes. Returns a function that waits for the sum and returns it. Collective."""
    total = torch.tensor([number])
    work = dist.all_reduce(total, group=agreement.group, async_op=True)

    def wait() -> int:
        work.wait()
        return int(total)

    return wait
