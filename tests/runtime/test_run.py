"""A run: its settings, its wrappers, its record."""

import gc
import json
import multiprocessing
import os
import shutil
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.together import together
from torch import nn
from torch.utils.data import IterableDataset, Subset, TensorDataset

from paccel.runtime import Checkpoints, ConfigError, DataError, Meter, Run, Stopped
from paccel.runtime.hardware.processes import skip_search_for_gpus
from paccel.runtime.record import progress


@dataclass
class Config:
    """The settings that a run reads."""

    run_dir: Path | None = None
    precision: str = "auto"
    resume: str = "never"
    trackers: tuple[str, ...] = ()
    compile: bool = False
    time_limit: float | None = None


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def status(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "status.json").read_text())


class TestErrors:
    @pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), 0, "1.0"])
    def test_a_norm_that_nothing_can_be_clipped_to_is_refused(self, norm: Any) -> None:
        with Run(Config(), record=False) as run, pytest.raises(ConfigError, match="`max_grad_norm` must be above 0"):
            run.clip_grad_norm(nn.Linear(1, 1), norm)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"precision": "fp8"}, "Unknown precision `fp8`"),
            ({"precision": "fp16"}, "`fp16` needs an accelerator"),
            ({"trackers": ("nothing",)}, "unknown tracker `nothing`"),
            ({"trackers": ("comet_ml", "aim")}, "tracker `comet_ml` is not installed.*tracker `aim` is not installed"),
        ],
    )
    def test_a_setting_that_cannot_be_used_leaves_no_run_behind(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Run(Config(**settings))
        assert not Path("runs").exists()

    def test_a_run_that_is_still_being_written_is_not_continued(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        alive = {"state": "running", "host": socket.gethostname(), "process": os.getppid()}
        (tmp_path / "run" / "status.json").write_text(json.dumps(alive))
        with pytest.raises(ConfigError, match="which is still running"):
            Run(Config(run_dir=tmp_path / "run", resume="auto"))

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")
    def test_a_run_whose_process_is_gone_and_its_number_given_to_another_is_continued(self, tmp_path: Path) -> None:
        with pytest.raises(Stopped), Run(Config(run_dir=tmp_path / "run")) as run:
            raise run.stopped()
        before = status(tmp_path / "run") | {"state": "running"}
        assert before["process"] == os.getpid()
        began = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
        reused = before | {"process": os.getppid(), "process_began": str(int(began) - 1)}
        (tmp_path / "run" / "status.json").write_text(json.dumps(reused))
        with Run(Config(run_dir=tmp_path / "run", resume="auto")):
            pass
        (tmp_path / "run" / "status.json").write_text(json.dumps(reused | {"process_began": began}))
        with pytest.raises(ConfigError, match="which is still running"):
            Run(Config(run_dir=tmp_path / "run", resume="auto"))

    def test_a_step_that_is_left_in_the_middle_is_named(self) -> None:
        with Run(Config()) as run, pytest.raises(RuntimeError, match="Step 1 was left after 0 of 2 micro-batches"):
            loader = run.loader(TensorDataset(torch.arange(4)), 2)
            for _ in run.epochs(1):
                for _ in run.steps(loader, accumulate=2):
                    pass

    def test_a_loop_without_an_end_is_refused(self) -> None:
        with Run(Config()) as run, pytest.raises(ConfigError, match="would never end"):
            next(run.epochs(None))


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_run_that_was_saved_behind_its_loop_goes_on_in_the_epoch_that_its_steps_ended_in(
    tmp_path: Path, is_stream: bool
) -> None:
    def samples(folder: str, max_steps: int, resume: str = "never") -> list[list[int]]:
        seen = []
        with Run(Config(run_dir=tmp_path / folder, resume=resume)) as run:
            data = Numbers() if is_stream else TensorDataset(torch.arange(10))
            loader = run.loader(data, 2, shuffle=not is_stream)
            checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
            checkpoints.restore()
            for _ in run.epochs(2, max_steps):
                for step in run.steps(loader):
                    for batch in step:
                        seen.append((batch if is_stream else batch[0]).tolist())
            checkpoints.save()
        return seen

    straight = samples("straight", 100)
    assert len(straight) == 10
    for cut in (3, 5, 8):
        folder = f"cut-{cut}"
        assert samples(folder, cut) + samples(folder, 100, "auto") == straight


class Numbers(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


def test_plain_pytorch_objects_stay_plain() -> None:
    with Run(Config()) as run:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        prepared = run.prepare(model, optimizer)
        assert prepared == (model, optimizer)
        assert run.prepare(model) is model


@pytest.mark.parametrize("has_gpu", [False, True])
def test_an_optimizer_does_not_search_for_gpus_in_each_step_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    name, searches = "PYTORCH_NVML_BASED_CUDA_CHECK", []
    monkeypatch.setenv(name, "1")  # as DeepSpeed and Lightning do when they are imported
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: searches.append(1) or 0)
    if has_gpu:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        skip_search_for_gpus()
        assert os.environ[name] == "1"
        return
    with Run(Config(), record=False) as run:
        model, optimizer = run.prepare(model := nn.Linear(2, 1), torch.optim.AdamW(model.parameters()))
        run.backward(model(torch.ones(1, 2)).sum())
        searches.clear()
        optimizer.step()
    assert name not in os.environ
    assert not searches


@pytest.mark.parametrize("factor", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 13, 41, torch.tensor(41.0, dtype=torch.float64), torch.tensor(13)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_loss_and_its_count_give_the_gradients_of_their_quotient_to_the_bit(
    dtype: torch.dtype, count: int | torch.Tensor, factor: int
) -> None:
    with Run(Config(), record=False) as run:
        run.micro_batch.num_processes = factor  # as if a wrapper averaged over this many
        run.micro_batch.is_filler = factor == 0
        inputs = torch.linspace(-1, 1, 31).to(dtype)
        given, divided = (inputs.clone().requires_grad_() for _ in range(2))
        run.backward((given.sin() * 0.3).sum(), count=count)
        ((divided.sin() * 0.3).sum() / count * factor).backward()
    assert torch.equal(given.grad, divided.grad)


def test_a_loss_of_several_numbers_is_refused_as_pytorch_refuses_it() -> None:
    with Run(Config(), record=False) as run, pytest.raises(RuntimeError, match="only for scalar outputs"):
        run.backward(torch.ones(3, requires_grad=True) * 2, count=3)


def test_evaluation_gives_each_module_its_own_mode_back_and_keeps_no_gradients() -> None:
    with Run(Config()) as run:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        model.train()
        model[1].eval()  # frozen on purpose
        with pytest.raises(KeyError), run.evaluating(model) as inner:
            assert not inner.training
            assert not inner(torch.ones(1, 2)).requires_grad
            raise KeyError
        assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_a_run_ends_as_finished_stopped_or_failed_and_says_where(tmp_path: Path) -> None:
    with Run(Config(run_dir=tmp_path / "a")):
        pass
    assert status(tmp_path / "a")["state"] == "finished"
    with pytest.raises(Stopped) as stopped, Run(Config(run_dir=tmp_path / "b")) as run:
        raise run.stopped()
    assert stopped.value.code == 75
    assert status(tmp_path / "b")["state"] == "stopped"
    with pytest.raises(KeyError), Run(Config(run_dir=tmp_path / "c")):
        raise KeyError("the label 7")
    assert status(tmp_path / "c")["reason"] == "step 0: KeyError: 'the label 7'"


def test_an_error_is_not_hidden_by_a_disk_that_cannot_say_so(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="the label 7"), Run(Config(run_dir=tmp_path / "run")):
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").mkdir(mode=0o500)
        (tmp_path / "run" / "status.json").mkdir()  # so that it cannot be replaced
        raise KeyError("the label 7")


def test_auto_continues_the_newest_unfinished_run_and_starts_one_where_there_is_none() -> None:
    with Run(Config(resume="auto")) as first:
        pass
    with pytest.raises(Stopped), Run(Config(resume="auto")) as second:
        raise second.stopped()
    assert second.run_dir != first.run_dir
    with Run(Config(resume="auto")) as third:
        pass
    assert third.run_dir == second.run_dir
    stopped = []
    for _ in range(2):
        with pytest.raises(Stopped), Run(Config()) as run:
            raise run.stopped()
        stopped.append(run.run_dir)
    with Run(Config(resume="auto")) as newest:
        assert newest.run_dir == stopped[1]


def test_two_runs_in_one_process_may_have_different_precision() -> None:
    for precision in ("fp32", "bf16", "fp32"):
        with Run(Config(precision=precision)) as run:
            model = run.prepare(nn.Linear(2, 1))
            assert model(torch.ones(1, 2)).dtype == torch.float32
            assert run.accelerator.mixed_precision == {"fp32": "no"}.get(precision, precision)


def test_without_a_record_nothing_is_written(tmp_path: Path) -> None:
    with Run(Config(), record=False) as run:
        run.log("eval", loss=1.0)
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_json_lines_with_null_for_what_is_no_number(tmp_path: Path) -> None:
    with Run(Config(run_dir=tmp_path / "run")) as run:
        run.log("eval", {"loss": torch.tensor(0.5), "odd": float("inf")}, accuracy=1, nothing=None)
    assert (tmp_path / "run" / "curves.png").exists()
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line.pop("time/seconds") >= 0
    assert line == {"step": 0, "epoch": 0, "eval/loss": 0.5, "eval/odd": None, "eval/accuracy": 1}


def test_max_steps_ends_in_the_middle_of_an_epoch_and_a_due_evaluation_comes_then_too() -> None:
    with Run(Config()) as run:
        loader = run.loader(TensorDataset(torch.arange(10)), 2)
        meter, due, due_every_4 = Meter(run), [], []
        for _ in run.epochs(None, max_steps=7):
            for step in run.steps(loader):
                for (batch,) in step:
                    meter.add(value=batch.sum(), count=len(batch))
                if step.due(None):
                    due.append(step.number)
                if step.due(4):
                    due_every_4.append(step.number)
        assert due == [5, 7]
        assert due_every_4 == [4, 7]
        assert meter.read() == {"value": (45 + 0 + 1 + 2 + 3) / 14}


def test_what_is_logged_behind_the_loop_is_there_once_after_a_run_that_was_killed_there(tmp_path: Path) -> None:
    def start(score: float, fails: bool) -> None:
        with Run(Config(run_dir=tmp_path / "run", resume="auto")) as run:
            loader = run.loader(TensorDataset(torch.ones(4, 1)), 2)
            checkpoints = Checkpoints(run, meter=Meter(run))
            checkpoints.restore()
            for _ in run.epochs(1):
                for step in run.steps(loader):
                    list(step)
                    run.log("eval", loss=1.0)
                    if step.due(None):
                        checkpoints.save()
            run.log("test", accuracy=score)
            run.log("test", accuracy=score)  # twice in one run is twice
            if fails:
                raise KeyError("the lights are out")

    with pytest.raises(KeyError):
        start(0.25, fails=True)
    start(0.5, fails=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [{name: value for name, value in line.items() if "/" in name and "time" not in name} for line in lines]
    assert logged == [{"eval/loss": 1.0}] * 2 + [{"test/accuracy": 0.5}] * 2


@pytest.mark.parametrize(("off", "shown"), [("", True), ("1", False)])
def test_a_bar_is_drawn_at_a_terminal_unless_it_is_turned_off(
    off: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", off)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.bar(2, 0, shown=True, description="training") as bar:
        assert bar.disable is not shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with progress.bar(2, 0, shown=True, description="training") as bar:
        assert bar.disable


def test_finishing_early_ends_both_loops_after_the_step() -> None:
    with Run(Config()) as run:
        loader = run.loader(TensorDataset(torch.arange(10)), 2)
        epochs, steps = [], []
        for epoch in run.epochs(100):
            epochs.append(epoch)
            for step in run.steps(loader):
                list(step)
                steps.append(step.number)
                if step.number == 8:
                    run.finish("enough")
        assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
        assert epochs == [1, 2]
    assert status(run.run_dir)["reason"] == "enough"


def threads_of_groups() -> list[str]:
    """The names of this process's gloo threads."""
    return [name for path in Path("/proc/self/task").glob("*/comm") if "gloo" in (name := path.read_text())]


def leave_a_run() -> tuple[int, int]:
    with Run(Config(), record=False):
        within = len(threads_of_groups())
    return within, len(threads_of_groups())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads by name are Linux's")
def test_no_thread_is_left_behind_that_could_abort_a_process_at_its_end(tmp_path: Path) -> None:
    for within, after in together(leave_a_run, tmp_path):
        assert within > 0
        assert after == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_heartbeat_ends_with_its_run(fails: bool, tmp_path: Path) -> None:
    def hearts() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "paccel-heartbeat"]

    with pytest.raises(ValueError, match="on purpose") if fails else nullcontext(), Run(Config(tmp_path / "run")):
        (heart,) = hearts()
        if fails:
            raise ValueError("on purpose")
    heart.join(10)  # less than it waits between two beats
    assert hearts() == []


def test_a_run_that_has_ended_has_no_workers_and_is_held_by_no_cycle(tmp_path: Path) -> None:
    class Rows(TensorDataset):
        """Another type than `TensorDataset`, so that workers load it."""

    def train(fails: bool) -> list[Any]:
        with Run(Config(tmp_path / str(fails), precision="fp32")) as run:
            data = Rows(torch.ones(8, 2))
            loaders = [run.loader(data, 4, num_workers=1, multiprocessing_context="fork") for _ in range(2)]
            model = nn.Linear(2, 1)
            model, optimizer = run.prepare(model, torch.optim.AdamW(model.parameters()))
            checkpoints = Checkpoints(run, model=model, optimizer=optimizer, meter=Meter(run))
            for _ in run.epochs(1):
                for step in run.steps(loaders[0]):
                    list(run.batches(loaders[1]))
                    for (x,) in step:
                        run.backward(model(x).sum(), step.num_samples)
                    run.clip_grad_norm(model, 1.0)
                    optimizer.step()
                    checkpoints.save()
                    if fails:
                        return [weakref.ref(thing) for thing in (model, optimizer, run, *loaders)]
            return [weakref.ref(thing) for thing in (model, optimizer, run, *loaders)]

    before = len(multiprocessing.active_children())
    gc.disable()
    try:
        for fails in (False, True):
            assert [ref() for ref in train(fails)] == [None] * 5
            assert len(multiprocessing.active_children()) == before
    finally:
        gc.enable()


def test_an_evaluation_does_not_import_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate.utils.other

    monkeypatch.setattr(
        accelerate.utils.other, "is_deepspeed_available", lambda: pytest.fail("DeepSpeed was looked for")
    )
    with Run(Config(), record=False) as run:
        model = run.prepare(nn.Linear(2, 1))
        with run.evaluating(model) as inner:
            assert inner is model
        assert run.prepared.state_of(model).keys() == {"weight", "bias"}


def test_a_rehearsal_evaluates_one_batch_and_names_what_is_missing_before_the_first_step() -> None:
    with Run(Config(), record=False) as run:
        data = TensorDataset(torch.arange(12.0))
        loader, model = run.loader(data, 4), nn.Linear(1, 1)
        checkpoints = Checkpoints(run, best="accuracy", model=model)
        with run.rehearsal():
            assert [batch[0].tolist() for batch in run.batches(loader)] == [[0, 1, 2, 3]]
            checkpoints.check_scores({"accuracy": 0.5})
            with pytest.raises(ConfigError, match="No score `accuracy` to choose the best by: there are loss, f1"):
                checkpoints.check_scores({"loss": 1.0, "f1": 0.5})
            with pytest.raises(DataError, match="`Subset` has no samples to evaluate on"):
                list(run.batches(run.loader(Subset(data, []), 4)))
        assert len(list(run.batches(loader))) == 3
