"""Which samples make which step: the same for any number of processes, accumulation and workers."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.loading import Augmented, Squares, batches, indices_of_steps, make
from support.sampled import over_three_days
from torch.utils.data import RandomSampler, TensorDataset

from paccel.runtime import ConfigError
from paccel.runtime.data.order import INDEX_MASK, share


def twice_the_rare(epoch: int) -> list[int]:
    """The samples 0 to 30, and every fifth of all 43 once more, in another order in each epoch."""
    indices = [*range(31), *range(0, 43, 5)]
    return indices[epoch:] + indices[:epoch]


class TestErrors:
    def test_a_dataset_that_can_neither_be_indexed_nor_iterated_is_named(self) -> None:
        class Nothing:
            pass

        with pytest.raises(ConfigError, match="`Nothing` has no length or no index, and cannot be iterated"):
            make(Nothing())

    def test_a_batch_size_below_one_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="`batch_size` must be at least 1, not 0"):
            make(Squares(), batch_size=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"shuffle": RandomSampler(range(3))},
                "not a `RandomSampler`: instead of a sampler, pass `shuffle=lambda epoch",
            ),
            ({"shuffle": [2, 0, 1]}, "`shuffle` must be True, False, or a function .* not a `list`"),
            ({"collate_fn": 3}, "`collate_fn` must be a function, not 3"),
            ({"batch_size": 2.5}, "`batch_size` must be a whole number, not 2.5"),
            ({"batch_size": "8"}, "`batch_size` must be at least 1, not '8'"),
        ],
    )
    def test_arguments_of_the_wrong_type_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make(Squares(3), **options)

    @pytest.mark.parametrize("use", [iter, list, lambda loader: zip(loader, loader, strict=True), itertools.cycle])
    def test_iterating_a_loader_directly_says_what_to_use(self, use: Callable[[Any], Any]) -> None:
        with pytest.raises(ConfigError, match=r"run.steps\(loader\).*run.batches\(loader\)"):
            next(use(make(Squares(3))))

    def test_an_epoch_without_a_step_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="No step in an epoch: 5 samples, batch size 8"):
            make(Squares(5), drop_last=True).total_steps(3)

    def test_a_run_without_an_end_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="would never end"):
            make(Squares()).total_steps(None)


def test_shares_cover_everything_and_differ_by_at_most_one() -> None:
    for size in range(20):
        for parts in range(1, 8):
            slices = [share(size, parts, part) for part in range(parts)]
            assert [i for start, stop in slices for i in range(start, stop)] == list(range(size))
            sizes = [stop - start for start, stop in slices]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_steps_hold_the_same_samples_in_the_same_order_on_any_hardware(num_processes: int, accumulate: int) -> None:
    single = indices_of_steps([make(Squares())], 3, 1)
    loaders = [make(Squares(), rank=rank, num_processes=num_processes) for rank in range(num_processes)]
    assert indices_of_steps(loaders, 3, accumulate) == single
    assert sorted(i for step in single for i in step) == list(range(43))


def test_all_processes_run_the_same_number_of_micro_batches_with_fillers_for_missing_samples() -> None:
    parts = [list(make(Squares(9), rank=r, num_processes=2).training_parts(1, 0, 2)) for r in range(2)]
    assert len(parts[0]) == len(parts[1]) == 4
    tail = [part for process in parts for part in process[2:]]
    assert sorted(part.counted for part in tail) == [0, 0, 0, 1]
    assert all(len(part.indices) == 1 for part in tail)


def test_each_epoch_has_its_own_order_and_each_seed_too() -> None:
    first, second = (indices_of_steps([make(Squares())], epoch, 1) for epoch in (1, 2))
    other = indices_of_steps([make(Squares(), seed=8)], 1, 1)
    assert first != second
    assert first != other


def test_an_epoch_entered_at_a_step_has_the_same_steps_from_there() -> None:
    assert indices_of_steps([make(Squares())], 2, 1, first_step=3) == indices_of_steps([make(Squares())], 2, 1)[3:]


def test_drop_last_and_limit_shorten_the_epoch() -> None:
    assert make(Squares()).steps_per_epoch == 6
    assert make(Squares(), drop_last=True).steps_per_epoch == 5
    limited = make(Squares(), limit=2)
    assert (limited.steps_per_epoch, limited.num_samples) == (2, 16)
    assert limited.total_steps(3) == 6
    assert limited.total_steps(3, max_steps=4) == 4


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_the_process_group_does_not_kill_the_workers(name: str) -> None:
    loader = make(Squares(), num_workers=2)
    source = batches(loader)
    begun = [next(source), next(source)]  # one of each worker
    for worker in loader._workers._running[0]._workers:
        os.kill(worker.pid, signal.Signals[name])
    assert [*begun, *source] == list(batches(make(Squares())))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_process_that_ends_with_a_loader_in_use_ends_its_workers() -> None:
    def leave_in_the_middle() -> None:
        kept.append(make(Squares(), num_workers=2))
        kept.append(batches(kept[0]))
        next(kept[1])

    kept: list = []
    process = multiprocessing.get_context("fork").Process(target=leave_in_the_middle)
    process.start()
    process.join(30)
    hangs = process.is_alive()
    process.kill()
    assert not hangs
    assert process.exitcode == 0


class TestCustomOrder:
    """Weights, curricula, buckets: a function from the epoch to indices."""

    def test_it_is_dealt_the_same_on_any_hardware_and_wherever_an_epoch_is_entered(self) -> None:
        for dataset in (Squares(), TensorDataset(torch.arange(43))):
            expected = [twice_the_rare(3)[start : start + 8] for start in range(0, 40, 8)]
            for num_processes, accumulate in itertools.product((1, 2, 3), (1, 2)):
                loaders = [
                    make(dataset, shuffle=twice_the_rare, rank=r, num_processes=num_processes)
                    for r in range(num_processes)
                ]
                seen = [[i & INDEX_MASK for i in step] for step in indices_of_steps(loaders, 3, accumulate, 2)]
                assert [sorted(step) for step in seen] == [sorted(step) for step in expected[2:]]
            assert [loaders[0].indices_of_step(3, step) for step in range(5)] == expected
            one = make(dataset, shuffle=twice_the_rare)
            assert [batch[0].tolist() for batch, _ in one.training_batches(3, 2, 1)] == expected[2:]
            in_halves = [index for batch, _ in one.training_batches(3, 2, 2) for index in batch[0].tolist()]
            assert in_halves == [index for step in expected[2:] for index in step]

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_repeated_sample_is_augmented_differently_and_reproducibly(self, num_workers: int) -> None:
        drawn = list(batches(make(Augmented(), shuffle=twice_the_rare, num_workers=num_workers), epoch=2))
        assert drawn == list(batches(make(Augmented(), shuffle=twice_the_rare), epoch=2))
        of_five = [draw for *fields, _ in drawn for index, *draw in zip(*fields, strict=True) if index == 5]
        assert len(of_five) == 2
        assert of_five[0] != of_five[1]
        plain = [
            draw
            for *fields, _ in batches(make(Augmented()), epoch=2)
            for index, *draw in zip(*fields, strict=True)
            if index == 5
        ]
        assert of_five[0] == plain[0], "its first occurrence is augmented as in any order"

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            (lambda epoch: range(10 * epoch), r"epoch 2 must be 10 whole numbers.*torch.int64 of shape \(20,\)"),
            (lambda epoch: [1.5] * 10, "must be 10 whole numbers.*float"),
            (lambda epoch: [0, 43 if epoch == 2 else 42], "epoch 2 has the index 43, but there are 43 samples"),
            (lambda epoch: [0, -1], "the index -1"),
        ],
    )
    def test_an_invalid_order_is_named(self, order: Callable[[int], list[int]], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            list(batches(make(Squares(), shuffle=order), epoch=2))

    def test_an_evaluation_refuses_it(self) -> None:
        with pytest.raises(ConfigError, match="Custom orders are for training only"):
            list(make(Squares(), shuffle=twice_the_rare).evaluation_batches(filler=False))


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_evaluation_sees_each_sample_once(size: int, num_processes: int, batch_size: int) -> None:
    parts = [
        list(make(Squares(size), batch_size, rank=r, num_processes=num_processes).evaluation_parts(filler=False))
        for r in range(num_processes)
    ]
    seen = [i for process in parts for part in process for i in part.indices.tolist()]
    assert sorted(seen) == list(range(size))
    with_fillers = [
        list(make(Squares(size), batch_size, rank=r, num_processes=num_processes).evaluation_parts(filler=True))
        for r in range(num_processes)
    ]
    assert len({len(process) for process in with_fillers}) == 1
    if min(size, batch_size) >= num_processes:  # a small tail is joined to the batch before it
        assert all(part.counted for process in with_fillers for part in process)


class Large(Squares):
    """Samples that workers send in shared memory, each with its own file descriptor."""

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, torch.full((1 << 16,), index)


class TestWorkers:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_passes_that_overlap_give_the_same_data(self, num_workers: int) -> None:
        loader = make(Augmented(17), num_workers=num_workers)
        alone = [list(batches(make(Augmented(17)), epoch)) for epoch in (1, 2)]
        first = batches(loader, 1)
        begun = [next(first)]
        assert list(batches(loader, 2)) == alone[1]
        second = batches(loader, 2)
        assert [next(second) for _ in range(2)] == alone[1][:2]
        assert [*begun, *first] == alone[0]
        second.close()
        assert list(batches(loader, 1)) == alone[0]
        loader.close()
        assert not multiprocessing.active_children()
        assert list(batches(loader, 1)) == alone[0], "a closed loader starts again"
        loader.close()

    @pytest.mark.slow
    @pytest.mark.parametrize("method", over_three_days(["spawn", "forkserver"]))
    def test_any_start_method_works(self, method: str) -> None:
        loader = make(Augmented(9), num_workers=2, worker_options={"multiprocessing_context": method})
        assert list(batches(loader)) == list(batches(make(Augmented(9))))
        loader.close()

    def test_options_of_a_data_loader_are_passed_on_and_ignored_without_workers(self) -> None:
        options = {"prefetch_factor": 3, "timeout": 30, "persistent_workers": False, "worker_init_fn": mark}
        assert list(batches(make(Marked(9), worker_options=options))) == [[[0] * 8, 8], [[0], 1]]
        loader = make(Marked(9), num_workers=1, worker_options=options)
        source = batches(loader)
        assert next(source) == [[1] * 8, 8]
        assert loader._workers._running[0]._prefetch_factor == 3
        assert list(source) == [[[1], 1]]
        assert not multiprocessing.active_children(), "they end with the pass"

    def test_a_batch_that_cannot_be_pickled_is_an_error_and_does_not_hang(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        loader = make(Squares(9), num_workers=1, collate_fn=lambda rows: lambda: rows)
        with pytest.raises(RuntimeError, match="exited unexpectedly"):
            next(loader.fetch(loader.training_parts(1, 0, 1)))
        assert "a data worker cannot send its batch" in capfd.readouterr().err
        loader.close()

    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="limits are set as on Linux")
    @pytest.mark.parametrize("dataset", [Squares(9), Large(9)], ids=["sent as bytes", "in shared memory"])
    @pytest.mark.parametrize("more", [3, 6, 9])
    def test_too_few_file_descriptors_are_an_error_and_do_not_hang(self, more: int, dataset: Squares) -> None:
        whole = str(list(batches(make(dataset))))  # what arrives where there are just enough of them

        def fetch() -> None:
            import resource

            limit = len(os.listdir("/proc/self/fd")) + more
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            try:
                loader = make(dataset, num_workers=2, worker_options={"multiprocessing_context": "fork"})
                found = list(batches(loader))
            except (ConfigError, RuntimeError) as error:
                os._exit(0 if "Too many open files" in str(error) or "exited unexpectedly" in str(error) else 2)
            os._exit(0 if more > 3 and str(found) == whole else 3)

        process = multiprocessing.get_context("fork").Process(target=fetch)
        process.start()
        process.join(60)
        code = process.exitcode
        process.kill()
        assert code == 0


_marks = 0


def mark(_worker: int) -> None:
    global _marks
    _marks += 1


class Marked(Squares):
    """A sample is how often `mark` was called in the process that fetches it."""

    def __getitem__(self, index: int) -> tuple[int]:  # type: ignore[override]
        return (_marks,)


def test_custom_loops_draw_other_numbers_in_each_micro_batch_and_the_same_when_repeated() -> None:
    def drawn(first_step: int) -> list[float]:
        return [torch.rand(()).item() for _ in make(Squares()).training_batches(1, first_step, 2)]

    assert len(set(drawn(0))) == 12
    assert drawn(2) == drawn(0)[4:]
