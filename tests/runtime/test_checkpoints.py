"""Checkpoints of a run: sharded or whole, in the foreground or background, the last and the best."""

import contextlib
import io
import json
import os
import threading
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.sampled import every_third_day
from support.saved import write_objects
from support.together import free_ports, together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import (
    EMA,
    AgreementError,
    CheckpointError,
    Checkpoints,
    ConfigError,
    EarlyStopping,
    Run,
    schedules,
)
from paccel.runtime.record.record import Record
from paccel.runtime.record.reporting import Reporter
from paccel.runtime.storage.background import Background, on_host
from paccel.runtime.storage.checkpoint import read_checkpoint, write_checkpoint

# Imported only by the tests that use it: the import takes seconds, and each worker collects all files
torchmetrics = partial(import_module, "torchmetrics")


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


def status(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "status.json").read_text())


def contents(run_dir: Path) -> dict[str, bytes]:
    paths = [*(run_dir / "weights").rglob("*"), *(run_dir / "checkpoints").rglob("*")]
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.slow
class TestInTheBackground:
    def test_it_writes_the_same_bytes_as_in_the_foreground(self, start, metrics, tmp_path: Path) -> None:
        settings = {"data": "augmented", "keep_last": 9, "eval_every": 3}
        assert start(tmp_path / "straight", **settings).returncode == 0
        done = start(tmp_path / "run", **settings, save_in_background=True)
        assert done.returncode == 0, done.stderr
        ours, theirs = contents(tmp_path / "run"), contents(tmp_path / "straight")
        assert sorted(ours) == sorted(theirs)
        assert [name for name in theirs if ours[name] != theirs[name]] == []

    @pytest.mark.parametrize("kind", ["ENOSPC", "EROFS"])
    def test_an_error_fails_the_run_and_keeps_the_last_valid_checkpoint(self, start, tmp_path: Path, kind: str) -> None:
        run_dir = tmp_path / "run"
        done = start(
            run_dir, save_in_background=True, fault=f"{kind}@write:20", log_every=None, eval_every=None, processes=2
        )
        assert done.returncode == 1
        assert {"ENOSPC": "No space left", "EROFS": "Read-only file system"}[kind] in done.stderr
        resumed = start(run_dir, eval_every=None, resume="auto")
        assert resumed.returncode == 0, resumed.stderr
        assert "resuming at step" in resumed.stdout

    def test_killed_while_the_thread_writes_it_resumes_from_the_previous_checkpoint(
        self, start, metrics, tmp_path: Path
    ) -> None:
        settings = {"data": "augmented", "save_in_background": True, "max_steps": 8}
        assert start(tmp_path / "straight", **settings).returncode == 0
        for write in (22, 28, 34):
            run_dir = tmp_path / f"run-{write}"
            assert start(run_dir, **settings, fault=f"exit@write:{write}").returncode == 9
            resumed = start(run_dir, **settings, resume="auto")
            assert resumed.returncode == 0, resumed.stderr
            assert metrics(run_dir) == metrics(tmp_path / "straight")
            ours, theirs = contents(run_dir), contents(tmp_path / "straight")
            assert {n: ours[n] for n in theirs} == theirs

    def test_one_job_of_each_kind_runs_at_a_time_and_all_run_in_order(self) -> None:
        background, gate, done = Background(), threading.Event(), []
        background.submit("a", lambda: (gate.wait(10), done.append(1)))
        background.submit("b", lambda: done.append(2))
        second = threading.Thread(target=background.submit, args=("a", lambda: done.append(3)))
        second.start()
        second.join(0.1)
        assert second.is_alive()
        assert done == []
        gate.set()
        second.join(10)
        background.wait()
        assert done == [1, 2, 3]

    def test_an_error_drops_the_following_jobs_and_is_raised_once(self) -> None:
        background, gate, done = Background(), threading.Event(), []

        def fail() -> None:
            gate.wait(10)
            raise OSError("full")

        background.submit("weights", fail)
        background.submit("checkpoint", lambda: done.append("recorded a best that is not there"))
        gate.set()
        with pytest.raises(OSError, match="full"):
            background.wait()
        background.submit("weights", lambda: done.append("later"))
        background.wait()
        assert done == ["later"]

    def test_a_copy_has_the_same_ties_and_is_not_changed_by_a_later_step(self) -> None:
        weight = torch.randn(3, 4).T
        copy = on_host({"a": weight, "b": [weight, (1, None)], "c": weight.clone()})
        weight.zero_()
        assert copy["a"] is copy["b"][0]
        assert copy["a"] is not copy["c"]
        assert torch.equal(copy["a"], copy["c"])
        assert copy["a"].stride() == weight.stride()


class TestTheBest:
    @pytest.fixture
    def make(self, tmp_path: Path) -> Any:
        def make(run: Run, **options: Any) -> tuple[Checkpoints, nn.Module]:
            model = nn.Linear(1, 1)
            return Checkpoints(run, best="score", model=model, **options), model

        return make

    def feed(self, run: Run, checkpoints: Checkpoints, model: nn.Module, scores: dict[int, float]) -> list[int]:
        better = []
        for step, score in scores.items():
            run.position.step = step
            nn.init.constant_(model.weight, step)
            if checkpoints.keep_best({"score": score}):
                better.append(step)
            checkpoints.save()
        return better

    def kept(self, run: Run) -> dict[str, float]:
        return {path.stem: load_file(path)["weight"].item() for path in sorted((run.run_dir / "weights").iterdir())}

    @pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
    def test_so_many_stay_whether_more_or_less_is_better(self, tmp_path: Path, make, mode: str, sign: int) -> None:
        with Run(Config(tmp_path / "run")) as run:
            checkpoints, model = make(run, keep_best=3, mode=mode)
            scores = {1: 0.1, 2: 0.5, 3: 0.3, 4: 0.2, 5: float("nan"), 6: 0.5, 7: 0.4}
            better = self.feed(run, checkpoints, model, {step: sign * score for step, score in scores.items()})
            assert better == [1, 2, 6]  # of equal scores the later one, never NaN
            assert self.kept(run) == {"best": 6.0, "best-2": 2.0, "best-6": 6.0, "best-7": 7.0}

    def test_a_resumed_run_knows_its_best_scores(self, tmp_path: Path, make) -> None:
        config = Config(tmp_path / "run")
        with pytest.raises(SystemExit), Run(config) as run:
            checkpoints, model = make(run, keep_best=2, mode="max")
            self.feed(run, checkpoints, model, {1: 0.1, 2: 0.5, 3: 0.3})
            raise run.stopped()
        with Run(Config(tmp_path / "run", resume="auto")) as run:
            checkpoints, model = make(run, keep_best=2, mode="max")
            assert checkpoints.restore() == 3
            assert self.feed(run, checkpoints, model, {4: 0.4}) == []
            assert self.kept(run) == {"best": 2.0, "best-2": 2.0, "best-4": 4.0}

    def test_nan_is_never_the_best_even_if_it_is_first(
        self, tmp_path: Path, make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Run(Config(tmp_path / "run")) as run:
            checkpoints, model = make(run)
            assert self.feed(run, checkpoints, model, {1: float("nan"), 2: 0.5, 3: float("nan"), 4: 0.4}) == [2, 4]
        said = capsys.readouterr().err
        assert [step for step in range(1, 5) if f"`score` is nan: the weights of step {step} are not" in said] == [1, 3]

    def test_weights_outside_the_best_are_not_written(self, tmp_path: Path, make) -> None:
        with Run(Config(tmp_path / "run")) as run:
            checkpoints, _ = make(run, keep_best=2)
            for step, score in enumerate((0.1, 0.2, 0.3), start=1):
                run.position.step = step
                checkpoints.keep_best({"score": score})
            assert {path.stem for path in (run.run_dir / "weights").iterdir()} == {"best", "best-1", "best-2"}

    def test_in_the_background_the_best_weights_of_a_checkpoint_stay_until_the_next_is_written(
        self, tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate, found = threading.Event(), {}

        def write(path: Path, *args: Any) -> None:
            assert gate.wait(10)
            write_checkpoint(path, *args)

        def note(record: Record, _state: str, step: int, *_: Any) -> None:  # what follows the pruning
            found[step] = {path.stem for path in (record.run_dir / "weights").glob("best-*")}

        with Run(Config(tmp_path / "run")) as run:
            monkeypatch.setattr("paccel.runtime.checkpointing.writer.write_checkpoint", write)
            monkeypatch.setattr(Record, "write_status", note)
            checkpoints, model = make(run, keep_best=1 + 1, background=True, mode="max")
            self.feed(run, checkpoints, model, {1: 0.1})
            gate.set()
            checkpoints._writer._background.wait()
            gate.clear()
            run.position.step = 2
            checkpoints.keep_best({"score": 0.2})
            checkpoints.save()
            run.position.step = 3
            checkpoints._best.ranking = [(0.3, 3), (0.2, 2)]  # as `keep_best` leaves them while step 2 is being written
            gate.set()
            checkpoints._writer._background.wait()
            assert found[2] == {"best-1", "best-2"}

    def test_a_missing_score_is_an_error_that_lists_the_others(self, tmp_path: Path, make) -> None:
        with (
            Run(Config(tmp_path / "run")) as run,
            pytest.raises(ConfigError, match="No score `score` to choose the best by: there are loss, f1"),
        ):
            make(run)[0].keep_best({"loss": 1.0, "f1": 0.5})

    def test_keep_best_below_one_is_refused(self, tmp_path: Path, make) -> None:
        with (
            Run(Config(tmp_path / "run")) as run,
            pytest.raises(ConfigError, match="`keep_best` must be at least 1, not 0"),
        ):
            make(run, keep_best=0)


def train_with_a_decay(run_dir: Path, total_steps: int, resume: str = "never") -> dict[str, torch.Tensor]:
    """Warm-up, stable, decay over 2 steps; saves each step, keeps the newest and the one before the decay."""
    with Run(Config(run_dir, resume)) as run:
        model = nn.Linear(3, 1).double()
        model, optimizer = run.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.1))
        schedule = schedules.wsd(optimizer, total_steps, warmup_steps=2, decay_steps=2)
        loader = run.loader(TensorDataset(torch.randn(9, 3, dtype=torch.float64)), 4, shuffle=True)
        tracked = {"model": model, "optimizer": optimizer, "schedule": schedule}
        checkpoints = Checkpoints(run, keep_last=1, keep=(total_steps - 2,), **tracked)
        checkpoints.restore()
        for _ in run.epochs(None, total_steps):
            for step in run.steps(loader):
                for (inputs,) in step:
                    run.backward(model(inputs).square().sum() / step.num_samples)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                checkpoints.save()
        return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_checkpoint_before_a_decay_is_kept_and_continues_as_if_the_run_had_been_longer(tmp_path: Path) -> None:
    train_with_a_decay(tmp_path / "short", 6)
    kept = tmp_path / "short" / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == ["step-4", "step-6"]
    longer = train_with_a_decay(tmp_path / "longer", 10, resume=str(kept / "step-4"))
    straight = train_with_a_decay(tmp_path / "straight", 10)
    assert all(torch.equal(longer[name], straight[name]) for name in straight)


def train_sharded(sharded: bool, run_dir: str, resume: str, until: int, background: bool) -> dict[str, torch.Tensor]:
    """Train up to a step, with FSDP2's shards or whole, and return the whole weights."""
    from torch.distributed import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with Run(Config(Path(run_dir), resume)) as run:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()  # 5 rows and 1 row cannot be halved
        if sharded:
            fully_shard(model, mesh=init_device_mesh("cpu", (run.accelerator.num_processes,)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model, optimizer = run.prepare(model, optimizer)
        inputs = torch.randn(21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        loader = run.loader(TensorDataset(inputs), 4, shuffle=True)
        ema = EMA(model, decay=0.5)
        checkpoints = Checkpoints(run, background=background, model=model, optimizer=optimizer, ema=ema)
        checkpoints.restore()
        for _ in run.epochs(None, max_steps=until):
            for step in run.steps(loader, accumulate=2):
                for (batch,) in step:
                    run.backward((model(batch) - batch.sin().sum(-1, keepdim=True)).square().sum() / step.num_samples)
                norm = run.clip_grad_norm(model, 0.3)
                assert type(norm) is torch.Tensor
                optimizer.step()
                optimizer.zero_grad()
                ema.update()
                if step.due(3):
                    checkpoints.save()
        checkpoints.save_weights("final")
        with ema.swapped_in():
            averages = {
                f"ema.{n}": (p.full_tensor() if sharded else p).detach().clone() for n, p in model.named_parameters()
            }
        return averages | {n: (p.full_tensor() if sharded else p).detach() for n, p in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.timeout(150)
@every_third_day(2)
def test_a_run_with_shards_goes_on_with_other_shards_or_none_as_if_it_had_never_had_any(tmp_path: Path) -> None:
    (straight,) = together(train_sharded, tmp_path, False, "straight", "never", 9, False, processes=1)
    for background in (False, True):
        run_dir = f"shards-{background}"
        together(train_sharded, tmp_path, True, run_dir, "never", 4, background)
        again = together(
            train_sharded, tmp_path, True, run_dir, "auto", 7, background
        )  # in 2 shards, and then unsharded
        assert all(torch.equal(again[0][name], again[1][name]) for name in straight)
        (whole,) = together(train_sharded, tmp_path, False, run_dir, "auto", 9, background, processes=1)
        assert list(whole) == list(straight)
        for name in straight:
            torch.testing.assert_close(whole[name], straight[name], rtol=0, atol=1e-12)
    saved = load_file(tmp_path / "shards-True" / "weights" / "final.safetensors")
    assert {n: v.shape for n, v in saved.items()} == {n: v.shape for n, v in straight.items() if "ema" not in n}
    together(train_sharded, tmp_path, False, "other-way", "never", 4, False, processes=1)
    ours, _ = together(train_sharded, tmp_path, True, "other-way", "auto", 9, False)
    for name in straight:
        torch.testing.assert_close(ours[name], straight[name], rtol=0, atol=1e-12)


def test_fsdp_version_1_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    with Run(Config(tmp_path / "run")) as run:
        monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
        version_1 = SimpleNamespace(fsdp_version=1)
        monkeypatch.setattr(type(run.accelerator.state), "fsdp_plugin", version_1, raising=False)
        with pytest.raises(ConfigError, match="set `fsdp_version: 2`"):
            Checkpoints(run, model=nn.Linear(1, 1))
        monkeypatch.undo()


def test_objects_named_run_or_without_state_are_refused(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run"), record=False) as run:
        with pytest.raises(ConfigError, match="`run` is the name of the run's own state in a checkpoint"):
            Checkpoints(run, run=nn.Linear(1, 1))
        with pytest.raises(ConfigError, match="No state to track in `score`, `text`"):
            Checkpoints(run, score=1.0, text="", model=nn.Linear(1, 1))


def test_the_state_of_a_run_keeps_the_names_of_0_1_0(tmp_path: Path) -> None:
    """Names may be added, but these are always read: checkpoints of every version load."""
    place = {"step": 5, "epoch": 2, "step_in_epoch": 1, "epoch_is_over": False, "epoch_is_cut": False}
    place |= {"finished": None, "stream": None, "stream_is_over": False}
    added = {"samples_in_epoch": None, "pass_in_epoch": 0, "beside": {}, "data": {}, "order": 1}  # since then
    state = {
        "position": place,
        "logged_step": 4,
        "guard": {"last_bad": 3, "in_a_row": 1, "skipped": 1, "bad_losses": 0},
        "bests": [[0.25, 4]],
        "scaler": None,
    }
    model = nn.Linear(1, 1)
    objects = {"model": model.state_dict(), "run": state}
    with Run(Config(tmp_path / "run")) as run:
        write_objects(tmp_path / "run" / "checkpoints" / "step-5", objects, {"step": 5, "num_processes": 1})
        checkpoints = Checkpoints(run, best="score", model=model)
        assert checkpoints.restore() == 5
        assert not checkpoints.keep_best({"score": 0.5})
        assert run.state_dict() == {n: v for n, v in state.items() if n != "bests"} | {"position": place | added}
        run.position.step = 6
        checkpoints.save()
    saved, _ = read_checkpoint(tmp_path / "run" / "checkpoints" / "step-6")
    own = {"evaluation_is_due": False, "given": {}}
    assert saved["run"] == state | {"position": place | added | {"step": 6}} | own


# Decisions of all processes


DECIDE: dict[str, tuple[float, float]] = {
    "the first's is better": (1.0, 5.0),
    "the first's is worse": (9.0, 0.5),
    "none on the first": (float("nan"), 0.5),
    "none on the second": (1.0, float("nan")),
}


def decide_by_scores_of_each(ports: list[int]) -> list[Any]:
    """The decisions of each process; in the second evaluation each process has a different score."""
    rank, found = int(os.environ["RANK"]), []
    for name, scores in DECIDE.items():
        os.environ["MASTER_PORT"] = str(ports.pop())
        with Run(Config(Path(name.replace(" ", "-")))) as run:
            model, stopping = run.prepare(nn.Linear(1, 1)), EarlyStopping(1)
            checkpoints = Checkpoints(run, best="loss", model=model, stopping=stopping)
            for step, score in enumerate((2.0, scores[rank]), 1):
                run.position.step = step
                decided = checkpoints.keep_best({"loss": score}), stopping.should_stop(score)
            checkpoints.save()
            run.finish(f"process {rank}'s reason")
            found.append((*decided, stopping.best, run.position.finished))
    return found


@pytest.mark.slow
def test_with_different_scores_all_processes_decide_the_same_and_a_warning_says_so(tmp_path: Path) -> None:
    first, second = together(decide_by_scores_of_each, tmp_path, free_ports(len(DECIDE)), timeout=120)
    reason = "process 0's reason"
    better, worse = (True, False, 1.0, reason), (False, True, 2.0, reason)
    assert first == second == [better, worse, worse, better]
    said = (tmp_path / "0.err").read_text()
    assert "the processes have different scores `loss` (9, 0.5): that of process 0 counts" in said
    assert said.count("different scores") == len(DECIDE)


def reduce_on_one() -> str:
    """A ReduceLROnPlateau that gets a different score on each process."""
    with Run(Config(Path("run"))) as run:
        model = nn.Linear(1, 1)
        model, optimizer = run.prepare(model, torch.optim.SGD(model.parameters(), lr=0.5))
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer, plateau=plateau)
        for score in (1.0, (0.5, 1.5)[run.agreement.rank]):  # better on one, worse on the other
            plateau.step(score)
        run.position.step = 1
        try:
            checkpoints.save()
        except AgreementError as error:
            return str(error)
    return ""


@pytest.mark.slow
def test_different_rates_after_a_plateau_are_an_error_on_all_processes_before_saving(tmp_path: Path) -> None:
    first, second = together(reduce_on_one, tmp_path)
    assert first == second
    assert "The processes differ in lr of `optimizer`" in first
    assert not list(tmp_path.glob("run/checkpoints/step-*"))


class TestWeightsFiles:
    def written(self, run_dir: Path) -> dict[str, float]:
        found = {path.stem: load_file(path) for path in sorted((run_dir / "weights").iterdir())}
        return {name: weights["weight"].mean().item() for name, weights in found.items()}

    @pytest.fixture
    def networks(self) -> list[nn.Module]:
        """Two networks with weights of 0."""
        networks = [nn.Linear(1, 1, bias=False) for _ in range(2)]
        for network in networks:
            nn.init.zeros_(network.weight)
        return networks

    def averaged(self, network: nn.Module, decay: float) -> EMA:
        nn.init.zeros_(network.weight)
        ema = EMA(network, decay, warmup=False)
        nn.init.ones_(network.weight)
        ema.update()
        return ema

    def test_each_of_two_networks_has_its_own_average(self, tmp_path: Path, networks: list[nn.Module]) -> None:
        left, right = networks
        averages = {"left_ema": self.averaged(left, 0.5), "right_ema": self.averaged(right, 0.75)}
        with Run(Config(tmp_path / "run")) as run:
            Checkpoints(run, left=left, right=right, **averages).save_weights("final")
        assert self.written(tmp_path / "run") == {"final-left": 0.5, "final-right": 0.25}

    def test_with_two_averages_of_one_network_the_script_must_choose(
        self, tmp_path: Path, networks: list[nn.Module]
    ) -> None:
        model = networks[0]
        slow, fast = self.averaged(model, 0.75), self.averaged(model, 0.5)
        with Run(Config(tmp_path / "run")) as run:
            with pytest.raises(ConfigError, match=r"`slow` and `fast` average `model`.*`weights=\{\"model\": slow\}`"):
                Checkpoints(run, model=model, slow=slow, fast=fast)
            tracked = {"model": model, "slow": slow, "fast": fast}
            Checkpoints(run, weights={"model": fast}, **tracked).save_weights("one")
            Checkpoints(run, weights={"slow": slow, "fast": fast}, **tracked).save_weights("each")
        assert self.written(tmp_path / "run") == {"each-fast": 0.5, "each-slow": 0.25, "one": 0.5}

    def test_a_second_module_does_not_rename_the_model_s(self, tmp_path: Path, networks: list[nn.Module]) -> None:
        model, teacher = networks
        no_weights = nn.Module()  # as a metric is
        with Run(Config(tmp_path / "run")) as run:
            Checkpoints(run, model=model, center=teacher, metric=no_weights).save_weights("a")
            Checkpoints(run, net=model, metric=no_weights).save_weights("b")
            Checkpoints(run, weights={"net": model}, net=model, center=teacher).save_weights("c")
            Checkpoints(run, critic=teacher, generator=model).save_weights("d")
        names = {path.stem for path in (tmp_path / "run" / "weights").iterdir()}
        assert names == {"a", "a-center", "b", "c", "d-critic", "d-generator"}

    def test_a_warning_says_that_there_are_none(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with Run(Config(tmp_path / "run")) as run:
            Checkpoints(run, best="score", optimizer=torch.optim.SGD([torch.ones(1)], lr=1))
            assert "no weights will be written: no model is tracked" in capsys.readouterr().err
            Checkpoints(run).save_weights("final")
            assert "no weights `final` are written" in capsys.readouterr().err
        with Run(Config(tmp_path / "other")) as run, pytest.raises(ConfigError, match="`model` is a `dict`"):
            Checkpoints(run, weights={"model": {}})  # type: ignore[dict-item]


class Odd:
    """Has a state that a checkpoint cannot store."""

    def state_dict(self) -> dict[str, Any]:
        return {"window": [len]}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_what_cannot_be_saved_is_found_before_the_first_step(tmp_path: Path) -> None:
    with (
        Run(Config(tmp_path / "run")) as run,
        pytest.raises(CheckpointError, match=r"`odd` cannot be saved: `window\.0`"),
    ):
        Checkpoints(run, model=nn.Linear(1, 1), odd=Odd()).restore()
    with Run(Config(tmp_path / "other")) as run, pytest.raises(CheckpointError, match="cannot be a file name"):
        Checkpoints(run, **{"the model": nn.Linear(1, 1)}).restore()


def test_a_lazy_module_is_saved_once_it_has_a_shape_and_restored(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        model = nn.LazyLinear(2)
        checkpoints = Checkpoints(run, model=model)
        assert checkpoints.restore() == 0
        model(torch.ones(1, 3))
        run.position.step = 1
        checkpoints.save()
    with Run(Config(tmp_path / "run", "auto")) as run:
        again = nn.LazyLinear(2)
        Checkpoints(run, model=again).restore()
    assert torch.equal(again.weight, model.weight)


def test_scores_without_a_usable_one_are_an_error(tmp_path: Path) -> None:
    with Run(Config(tmp_path / "run")) as run:
        checkpoints = Checkpoints(run, best="score", model=nn.Linear(1, 1))
        with pytest.raises(ConfigError, match=r"there are none, as the evaluation saw no sample"):
            checkpoints.keep_best({})
        with pytest.raises(ConfigError, match="`score` to choose the best by is no number: 'good'"):
            checkpoints.keep_best({"score": "good"})  # type: ignore[dict-item]


def evaluate_after_saving(run_dir: Path, resume: str = "never", killed_at: str = "") -> None:
    """Save and evaluate at every second step, with a better score each time."""
    with Run(Config(run_dir, resume)) as run:
        model = nn.Linear(1, 1)
        early_stopping = EarlyStopping(9)
        checkpoints = Checkpoints(run, best="score", model=model, early_stopping=early_stopping)

        def evaluate() -> None:
            if killed_at == f"evaluation {run.position.step}":
                raise KeyboardInterrupt
            run.log("eval", score=1 / run.position.step)
            checkpoints.keep_best({"score": 1 / run.position.step})
            early_stopping.should_stop(1 / run.position.step)

        checkpoints.restore()
        if checkpoints.evaluation_is_due:
            evaluate()
        for step in range(run.position.step + 1, 7):
            run.position.step = step
            nn.init.constant_(model.weight, step)
            if step % 2 == 0:
                checkpoints.save(then_evaluate=True)
                evaluate()
            if killed_at == f"step {step}":
                raise KeyboardInterrupt
        checkpoints.save_weights("final")


@pytest.mark.parametrize("killed_at", ["evaluation 2", "step 2", "step 3", "evaluation 4", "evaluation 6", "step 6"])
def test_a_run_saved_before_an_evaluation_repeats_it_on_resume_and_ends_the_same(
    tmp_path: Path, metrics: Any, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reporter, "draw", lambda *_, **__: None)
    evaluate_after_saving(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        evaluate_after_saving(tmp_path / "run", killed_at=killed_at)
    assert (tmp_path / "run" / "checkpoints").exists()  # saved before the evaluation
    evaluate_after_saving(tmp_path / "run", "auto")
    assert contents(tmp_path / "run") == contents(tmp_path / "straight")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")


class Queue(nn.Module):
    """A model with state that no checkpoint has: a queue and a metric."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.accuracy = nn.Linear(1, 1), torchmetrics().MeanSquaredError()
        self.register_buffer("queue", torch.zeros(2), persistent=False)


@pytest.mark.slow
def test_buffers_and_metrics_that_no_checkpoint_has_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run(Config(tmp_path / "run")) as run:
        model = Queue()
        checkpoints = Checkpoints(run, model=model)
        checkpoints.restore()
        for step in run.updates(2):
            model.queue.add_(1)
            if step.due(1):
                checkpoints.save()
    said = capsys.readouterr()
    assert (said.out + said.err).count("training changes `model.queue`") == 1
    assert "no checkpoint holds what `model.accuracy` accumulates" in said.out + said.err


@pytest.mark.slow
def test_a_metric_goes_on_in_a_resumed_run_and_becomes_no_weights(tmp_path: Path) -> None:
    def train(resume: str, until: int) -> float:
        metric = torchmetrics().MeanSquaredError()
        with Run(Config(tmp_path / "run", resume)) as run:
            checkpoints = Checkpoints(run, model=nn.Linear(1, 1), error=metric)
            checkpoints.restore()
            for step in run.updates(4):
                metric.update(torch.tensor([float(step.number)]), torch.zeros(1))
                if step.number == until:
                    checkpoints.save()
                    break
            checkpoints.save_weights("final")
        return metric.compute().item()

    train("never", 2)
    assert train("auto", 0) == (1 + 4 + 9 + 16) / 4
    assert [path.name for path in (tmp_path / "run" / "weights").iterdir()] == ["final.safetensors"]


def train_without_prepare() -> str:
    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output), Run(Config(Path("run"))) as run:
        model = nn.Linear(1, 1)
        nn.init.ones_(model.weight)
        checkpoints = Checkpoints(run, model=model)
        for _ in run.updates(2):
            model.weight.data += run.accelerator.process_index
            checkpoints.save()
    return output.getvalue()


@pytest.mark.slow
def test_a_model_that_each_process_trains_separately_is_named(tmp_path: Path) -> None:
    said = together(train_without_prepare, tmp_path)
    assert said[0].count("the weights of `model` differ between process 0 and 1") == 1
