"""A new run from a checkpoint, or an edited script: hyperparameters of the script win, training state is restored."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import over_three_days
from support.saved import write_objects
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import lr_scheduler as theirs
from torch.utils.data import TensorDataset

from paccel.runtime import EMA, CheckpointError, Checkpoints, Meter, Run, finetuning, schedules
from paccel.runtime.checkpointing.hyperparameters import load_scheduler
from paccel.runtime.record.reporting import Reporter
from paccel.runtime.storage.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reporter, "draw", lambda *_, **__: None)


@dataclass
class Config:
    """What a run reads, and one custom setting."""

    run_dir: Path
    resume: str = "never"
    width: int = 3


@dataclass
class Trained:
    """The result of some steps: their learning rates, and the final objects."""

    optimizer: Optimizer
    schedule: Any
    model: nn.Module
    rates: list[list[float]] = field(default_factory=list)


def train(
    config: Config,
    steps: int,
    make: Callable[[nn.Module], Optimizer],
    schedule: Callable[[Any], Any],
    step: Callable[[Any], None] = lambda schedule: schedule.step(),
    **more: Any,
) -> Trained:
    """Resume as `config` says and train up to `steps` steps, with a checkpoint of the last one."""
    with Run(config) as run:
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
        model, optimizer = run.prepare(model, make(model))
        found = Trained(optimizer, schedule(optimizer), model)
        extra = {name: thing(model) for name, thing in more.items()}
        checkpoints = Checkpoints(run, schedule=found.schedule, model=model, optimizer=optimizer, **extra)
        for number in range(checkpoints.restore() + 1, steps + 1):
            run.position.step = number
            model(torch.full((4, 3), float(number))).sum().backward()
            found.rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            step(found.schedule)
            optimizer.zero_grad()
            for thing in extra.values():
                thing.update()
        run.position.epoch = 1
        checkpoints.save()
    return found


def adamw(**settings: Any) -> Callable[[nn.Module], Optimizer]:
    return lambda model: AdamW(model.parameters(), **settings)


def fork(of: Path, step: int, run_dir: Path) -> Config:
    return Config(run_dir, resume=str(of / "checkpoints" / f"step-{step}"))


def test_a_new_run_trains_with_its_own_rate_decay_and_betas_and_the_moments_of_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = lambda optimizer: schedules.cosine(optimizer, 20)  # noqa: E731
    first = train(Config(tmp_path / "a"), 5, adamw(lr=1e-3, weight_decay=0.05), cosine)
    saved = {n: value.clone() for n, value in first.optimizer.state[first.model[0].weight].items()}
    capsys.readouterr()
    given = {"lr": 1e-6, "weight_decay": 0.9, "betas": (0.8, 0.99), "eps": 1e-4, "amsgrad": False}
    second = train(fork(tmp_path / "a", 5, tmp_path / "b"), 5, adamw(**given), cosine)
    (group,) = second.optimizer.param_groups
    assert {name: group[name] for name in given} == given | {
        "lr": schedules.cosine(SGD([torch.ones(1)], lr=1e-6), 20).values_at(6)[0]
    }
    again = second.optimizer.state[second.model[0].weight]
    assert all(torch.equal(again[name], saved[name]) for name in saved)
    said = capsys.readouterr().out
    assert "`optimizer` resumes with other settings than in the checkpoint: lr from 0.000854 to 8.54e-07" in said
    assert "betas from (0.9, 0.999) to (0.8, 0.99)" in said
    assert "weight_decay from 0.05 to 0.9" in said


def test_a_resumed_run_with_an_edited_script_uses_the_edit_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = lambda optimizer: schedules.constant(optimizer)  # noqa: E731
    train(Config(tmp_path / "a"), 2, lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9), constant)
    found = train(Config(tmp_path / "a", "auto"), 4, lambda m: SGD(m.parameters(), lr=0.2, momentum=0.5), constant)
    assert found.rates == [[0.2], [0.2]]
    assert found.optimizer.param_groups[0]["momentum"] == 0.5
    assert "lr from 0.1 to 0.2, momentum from 0.9 to 0.5" in capsys.readouterr().out


def test_a_hyperparameter_that_only_training_changed_is_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def halve(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] /= 2
            group["seen"] = group.get("seen", 0) + 1

    own = {"make": adamw(lr=0.8), "schedule": lambda optimizer: optimizer, "step": halve}
    train(Config(tmp_path / "a"), 3, **own)
    capsys.readouterr()
    for config in (Config(tmp_path / "a", "auto"), fork(tmp_path / "a", 3, tmp_path / "b")):
        found = train(config, 3, **own)
        assert (found.optimizer.param_groups[0]["lr"], found.optimizer.param_groups[0]["seen"]) == (0.1, 3)
    assert "resumes with other settings" not in capsys.readouterr().out


OF_PYTORCH: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "CosineAnnealingLR": (theirs.CosineAnnealingLR, {"T_max": 10}, {"T_max": 30}),
    "StepLR": (theirs.StepLR, {"step_size": 2, "gamma": 0.5}, {"step_size": 3, "gamma": 0.9}),
    "MultiStepLR": (theirs.MultiStepLR, {"milestones": [2, 8]}, {"milestones": [4]}),
    "ExponentialLR": (theirs.ExponentialLR, {"gamma": 0.9}, {"gamma": 0.8}),
    "LinearLR": (theirs.LinearLR, {"total_iters": 9}, {"total_iters": 20}),
    "OneCycleLR": (theirs.OneCycleLR, {"max_lr": 0.1, "total_steps": 9}, {"max_lr": 0.2, "total_steps": 30}),
    "CosineAnnealingWarmRestarts": (theirs.CosineAnnealingWarmRestarts, {"T_0": 3}, {"T_0": 4}),
    "LambdaLR": (
        theirs.LambdaLR,
        {"lr_lambda": lambda done: 1 / (1 + done)},
        {"lr_lambda": lambda done: 1 / (1 + done / 2)},
    ),
}


@pytest.mark.parametrize("name", over_three_days(OF_PYTORCH))
@pytest.mark.parametrize("lr", [0.1, 0.03])
def test_a_scheduler_of_pytorch_is_where_it_would_be_had_it_had_the_new_settings_from_the_start(
    tmp_path: Path, name: str, lr: float
) -> None:
    kind, before, now = OF_PYTORCH[name]
    old, new = (lambda o: kind(o, **before)), (lambda o: kind(o, **now))
    train(Config(tmp_path / "a"), 5, adamw(lr=0.1), old)
    for number, config in enumerate((fork(tmp_path / "a", 5, tmp_path / "b"), Config(tmp_path / "a", "auto"))):
        found = train(config, 8, adamw(lr=lr), new)
        straight = train(Config(tmp_path / f"straight-{number}"), 8, adamw(lr=lr), new)
        assert found.rates == straight.rates[5:]
        assert found.optimizer.param_groups[0]["betas"] == straight.optimizer.param_groups[0]["betas"]


def test_schedulers_in_a_sequence_or_a_chain_follow_too(tmp_path: Path) -> None:
    def sequence(gamma: float) -> Callable[[Any], Any]:
        def make(optimizer: Any) -> Any:
            parts = [theirs.ConstantLR(optimizer, 0.5, 3), theirs.ExponentialLR(optimizer, gamma)]
            return theirs.SequentialLR(optimizer, parts, [3])

        return make

    def chained(gamma: float) -> Callable[[Any], Any]:
        return lambda o: theirs.ChainedScheduler([theirs.ConstantLR(o, 0.5, 3), theirs.ExponentialLR(o, gamma)])

    for name, make in (("sequence", sequence), ("chained", chained)):
        folder = tmp_path / name
        train(Config(folder / "a"), 5, adamw(lr=0.1), make(0.9))
        found = train(fork(folder / "a", 5, folder / "b"), 8, adamw(lr=0.2), make(0.7))
        assert found.rates == train(Config(folder / "straight"), 8, adamw(lr=0.2), make(0.7)).rates[5:]


def test_a_plateau_keeps_its_scores_and_takes_a_new_patience_and_rate(tmp_path: Path) -> None:
    def plateau(patience: int) -> Callable[[Any], Any]:
        return lambda optimizer: theirs.ReduceLROnPlateau(optimizer, patience=patience, factor=0.5)

    worse = lambda schedule: schedule.step(1.0 + schedule.last_epoch)  # noqa: E731
    train(Config(tmp_path / "a"), 3, adamw(lr=0.8), plateau(5), worse)
    same = train(fork(tmp_path / "a", 3, tmp_path / "b"), 3, adamw(lr=0.8), plateau(5), worse)
    assert (same.schedule.best, same.schedule.num_bad_epochs) == (1.0, 2)
    other = train(fork(tmp_path / "a", 3, tmp_path / "c"), 4, adamw(lr=0.4), plateau(2), worse)
    assert other.schedule.best == 1.0
    assert other.rates == [[0.4]]
    assert other.optimizer.param_groups[0]["lr"] == 0.2


def test_a_scheduler_of_timm_follows_too(tmp_path: Path) -> None:
    scheduler = pytest.importorskip("timm.scheduler")

    def tanh(steps: int) -> Callable[[Any], Any]:
        return lambda optimizer: scheduler.TanhLRScheduler(optimizer, steps, t_in_epochs=False)

    def run(config: Config, steps: int, lr: float, length: int) -> Trained:
        number = [5 if config.resume != "never" else 0]

        def step(schedule: Any) -> None:
            number[0] += 1
            schedule.step_update(number[0])

        return train(config, steps, adamw(lr=lr), tanh(length), step)

    run(Config(tmp_path / "a"), 5, 0.1, 10)
    found = run(fork(tmp_path / "a", 5, tmp_path / "b"), 8, 0.2, 30)
    assert found.rates == run(Config(tmp_path / "straight"), 8, 0.2, 30).rates[5:]


@pytest.mark.parametrize(("steps", "how"), [(152, "stretched"), (70, "shortened")])
def test_a_schedule_of_another_length_says_what_its_rate_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int, how: str
) -> None:
    train(Config(tmp_path / "a"), 76, adamw(lr=2e-3), lambda o: schedules.cosine(o, 76))
    capsys.readouterr()
    train(Config(tmp_path / "a", "auto"), 76, adamw(lr=2e-3), lambda o: schedules.cosine(o, steps))
    said = capsys.readouterr().out
    assert f"cosine is {how} from 76 to {steps} steps" in said
    assert ("its rate goes from 0 to 1.0e-03" in said) == (how == "stretched")
    assert "`optimizer` resumes with other" not in said


def test_without_changes_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for resume in ("never", "auto"):
        train(Config(tmp_path / "a", resume), 3, adamw(lr=2e-3), lambda o: schedules.one_cycle(o, 9))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "goes" in line or "stretched" in line or "was" in line] == []


def test_in_other_param_groups_each_parameter_keeps_its_moments(tmp_path: Path) -> None:
    def cut(model: nn.Module) -> Optimizer:
        return AdamW(finetuning.param_groups(model, lr=0.02, weight_decay=0.3, layers=[model[0], model[1]]))

    constant = lambda optimizer: schedules.constant(optimizer)  # noqa: E731
    first = train(Config(tmp_path / "a"), 3, adamw(lr=0.1), constant)
    found = train(fork(tmp_path / "a", 3, tmp_path / "b"), 3, cut, constant)
    for (_, theirs_), (_, ours) in zip(first.model.named_parameters(), found.model.named_parameters(), strict=True):
        assert torch.equal(first.optimizer.state[theirs_]["exp_avg"], found.optimizer.state[ours]["exp_avg"])
    assert [group["lr"] for group in found.optimizer.param_groups] == [0.015, 0.015, 0.02, 0.02]
    assert [group["weight_decay"] for group in found.optimizer.param_groups] == [0.3, 0.0, 0.3, 0.0]
    back = train(fork(tmp_path / "b", 3, tmp_path / "c"), 4, adamw(lr=0.1), constant)
    assert back.rates == [[0.1]]


def test_a_part_that_is_no_longer_trained_is_dropped_in_a_new_run_and_an_error_in_a_resumed_one(tmp_path: Path) -> None:
    head = lambda model: SGD(model[1].parameters(), lr=0.1, momentum=0.9)  # noqa: E731
    constant = lambda optimizer: schedules.constant(optimizer)  # noqa: E731
    train(Config(tmp_path / "a"), 2, lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9), constant)
    assert len(train(fork(tmp_path / "a", 2, tmp_path / "b"), 2, head, constant).optimizer.state) == 2
    with pytest.raises(
        CheckpointError,
        match=r"has `model\.0\.bias`, `model\.0\.weight` in its parameter groups, which .* `checkpoints\.step`",
    ):
        train(Config(tmp_path / "a", "auto"), 3, head, constant)


def test_a_new_average_starts_from_the_restored_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    constant = lambda optimizer: schedules.constant(optimizer)  # noqa: E731
    first = train(Config(tmp_path / "a"), 3, adamw(lr=0.1), constant)
    with Run(fork(tmp_path / "a", 3, tmp_path / "b")) as run:
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
        ema, meter = EMA(model, decay=0.9), Meter(run)
        checkpoints = Checkpoints(run, model=model, ema=ema, meter=meter)
        checkpoints.restore()
        assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), model.parameters(), strict=True))
        averages = ema.state_dict()["averages"]
        assert all(torch.equal(averages[name], value) for name, value in first.model.named_parameters())
        assert ema.updates == 0
    said = capsys.readouterr().out
    assert "the checkpoint has `optimizer`, `schedule`, not passed to `Checkpoints`" in said
    assert "`ema` is not in the checkpoint: it starts from the restored weights" in said
    assert "`meter` is not in the checkpoint: it starts fresh" in said
    with (
        Run(Config(tmp_path / "a", "auto")) as run,
        pytest.raises(CheckpointError, match=r"has no `ema`.*A new run from it may differ"),
    ):
        Checkpoints(run, model=model, ema=ema).restore()


def test_param_groups_added_during_training_can_be_added_before_restore_by_the_step(tmp_path: Path) -> None:
    def run_to(config: Config, last: int, *, asks: bool = True) -> Optimizer:
        with Run(config) as run:
            model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
            optimizer = Adam(model[1].parameters(), lr=0.1)
            schedule = schedules.linear(optimizer, 9)
            checkpoints = Checkpoints(run, model=model, optimizer=optimizer, schedule=schedule)
            thaw = lambda: optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.01})  # noqa: E731
            if asks and checkpoints.step > 2:
                thaw()
            for step in range(checkpoints.restore() + 1, last + 1):
                run.position.step = step
                if step == 3:
                    thaw()
                model(torch.ones(1, 3)).sum().backward()
                optimizer.step()
                schedule.step()
                model.zero_grad()  # also of layers that are not trained yet
                checkpoints.save()
                assert checkpoints.step == step
        return optimizer

    straight = run_to(Config(tmp_path / "straight"), 6)
    for at in (1, 2, 3, 5):
        run_to(Config(tmp_path / f"run-{at}"), at)
        found = run_to(Config(tmp_path / f"run-{at}", "auto"), 6)
        assert [g["lr"] for g in found.param_groups] == [g["lr"] for g in straight.param_groups]
        for ours, its in zip(found.param_groups, straight.param_groups, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours["params"], its["params"], strict=True))
    with pytest.raises(CheckpointError, match=r"`checkpoints\.step` is the step it resumes from"):
        run_to(Config(tmp_path / "run-5", "auto"), 7, asks=False)


def test_a_checkpoint_of_a_run_with_other_settings_is_refused_and_may_be_forked(tmp_path: Path) -> None:
    for name, width in (("a", 3), ("b", 4)):
        train(Config(tmp_path / name, width=width), 2, adamw(lr=0.1), lambda o: schedules.constant(o))
    (tmp_path / "b" / "checkpoints" / "step-2").rename(tmp_path / "a" / "checkpoints" / "step-9")
    found = train(Config(tmp_path / "a", "auto"), 2, adamw(lr=0.1), lambda o: schedules.constant(o))
    assert found.rates == []  # its manifest says step 2, so it is skipped
    (tmp_path / "a" / "checkpoints" / "step-9").rename(tmp_path / "a" / "checkpoints" / "other")
    (tmp_path / "a" / "checkpoints" / "step-2").rename(tmp_path / "step-2")
    (tmp_path / "a" / "checkpoints" / "other").rename(tmp_path / "a" / "checkpoints" / "step-2")
    with pytest.raises(CheckpointError, match=r"saved with other settings:\n  width was 4, is 3\n.*`--resume"):
        train(Config(tmp_path / "a", "auto"), 3, adamw(lr=0.1), lambda o: schedules.constant(o))


@pytest.mark.parametrize("step", [None, "3", -1, 1e300, [3]])
def test_an_invalid_step_is_an_error_that_names_the_checkpoint(tmp_path: Path, step: Any) -> None:
    own = {"make": adamw(lr=0.1), "schedule": lambda optimizer: schedules.cosine(optimizer, 9)}
    train(Config(tmp_path / "a"), 3, **own)
    path = tmp_path / "a" / "checkpoints" / "step-3"
    objects, metadata = read_checkpoint(path)
    objects["run"]["position"]["step"] = step
    write_objects(path, objects, metadata)
    with pytest.raises(CheckpointError, match=r"`run` in .* does not fit"):
        train(Config(tmp_path / "a", "auto"), 4, **own)


def test_an_invalid_schedule_length_is_printed_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"make": adamw(lr=0.1), "schedule": lambda optimizer: schedules.cosine(optimizer, 9)}
    train(Config(tmp_path / "a"), 3, **own)
    path = tmp_path / "a" / "checkpoints" / "step-3"
    objects, metadata = read_checkpoint(path)
    objects["schedule"]["total_steps"] = "x"
    write_objects(path, objects, metadata)
    train(Config(tmp_path / "a", "auto"), 4, **own)
    assert "the schedule was cosine over x steps and is cosine over 9 steps" in capsys.readouterr().out


def make_optimizer(kind: str, model: nn.Module) -> torch.optim.Optimizer:
    return {"Adam": torch.optim.Adam, "SGD": torch.optim.SGD}[kind](model.parameters(), lr=0.1)


def two_steps(run_dir: Path, kind: str, resume: str = "never", epochs: int = 1, batch_size: int = 4) -> Any:
    """One epoch of 8 samples, saved after the first step."""
    with Run(Config(run_dir=run_dir, resume=resume)) as run:
        loader = run.loader(TensorDataset(torch.ones(8, 1)), batch_size, shuffle=True)
        model = nn.Linear(1, 1)
        model, optimizer = run.prepare(model, make_optimizer(kind, model))
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        checkpoints.restore()
        for _ in run.epochs(epochs):
            for step in run.steps(loader):
                for (x,) in step:
                    run.backward(model(x).sum(), step.num_samples)
                optimizer.step()
                optimizer.zero_grad()
                if step.number == 1:
                    checkpoints.save()
        return optimizer.state_dict()["state"].get(0, {}), run.position.step


@pytest.mark.parametrize(("before", "now"), [("Adam", "SGD"), ("SGD", "Adam")])
def test_another_optimizer_starts_fresh_in_a_new_run_and_is_refused_in_the_same(
    before: str, now: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_steps(tmp_path / "run", before)
    state, _ = two_steps(tmp_path / "fork", now, str(tmp_path / "run" / "checkpoints" / "step-1"))
    assert f"`optimizer` was `{before}`, and starts fresh as `{now}`" in capsys.readouterr().out
    assert (state["step"].item() == 1) if now == "Adam" else ("exp_avg" not in state)
    with pytest.raises(CheckpointError, match=f"it is the state of `{before}`, and the optimizer is `{now}`"):
        two_steps(tmp_path / "run", now, "auto")


def test_a_new_run_with_another_batch_size_says_where_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_steps(tmp_path / "run", "SGD")
    checkpoint = str(tmp_path / "run" / "checkpoints" / "step-1")
    _, last = two_steps(tmp_path / "fork", "SGD", checkpoint, epochs=3, batch_size=8)
    assert last == 1 + 1 + 2
    assert capsys.readouterr().out.count("this run ends at step 4, not at 3") == 1
    two_steps(tmp_path / "same", "SGD", checkpoint, epochs=3)
    assert "this run ends" not in capsys.readouterr().out


def test_a_schedule_of_pytorch_that_replaces_ours_starts_at_the_step_of_the_checkpoint() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = theirs.ExponentialLR(optimizer, 0.5)
    groups = [{"lr": 1.0, "initial_lr": 1.0}]
    load_scheduler(scheduler, {"steps": 3}, None, None, groups, is_new_run=False, step=3, epoch=1)
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == (3, [0.125])
