"""Schedules are functions of the step, and equal PyTorch's if it has the same curve."""

import json
import math
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer
from torch.optim import lr_scheduler as theirs

from paccel.runtime import schedules
from paccel.runtime.errors import ConfigError
from paccel.runtime.schedules import Schedule
from paccel.runtime.storage.encoding import decode, encode

TOTAL = 40


def optimizer(kind: type[Optimizer] = SGD, *peaks: float, **settings: Any) -> Optimizer:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": peak} for peak in peaks or (0.1, 0.03)]
    return kind(groups, **settings)


def curve(
    make: Callable[[Optimizer], Any], steps: int = TOTAL, field: str = "lr", **settings: Any
) -> list[list[float]]:
    """The values that each step uses, one for each group."""
    opt = optimizer(**settings)
    schedule = make(opt)
    values = []
    for _ in range(steps):
        values.append([group["betas"][0] if field == "betas" else group[field] for group in opt.param_groups])
        opt.step()
        schedule.step()
    return values


def factors(make: Callable[[Optimizer], Schedule], steps: int = TOTAL) -> list[float]:
    return [value / 0.1 for value, _ in curve(make, steps)]


def with_warmup(opt: Optimizer, warmup: int, then: theirs.LRScheduler) -> theirs.LRScheduler:
    up = theirs.LinearLR(opt, start_factor=1 / (warmup + 1), total_iters=warmup)
    return theirs.SequentialLR(opt, [up, then], [warmup])


SAME = {
    "cosine": (
        lambda o: schedules.cosine(o, TOTAL),
        lambda o: theirs.CosineAnnealingLR(o, TOTAL),
    ),
    "cosine with warm-up": (
        lambda o: schedules.cosine(o, TOTAL, 7),
        lambda o: with_warmup(o, 7, theirs.CosineAnnealingLR(o, TOTAL - 7)),
    ),
    "linear": (
        lambda o: schedules.linear(o, TOTAL, min_ratio=0.1),
        lambda o: theirs.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=TOTAL),
    ),
    "constant": (
        lambda o: schedules.constant(o, 9),
        lambda o: theirs.LinearLR(o, start_factor=1 / 10, total_iters=9),
    ),
    "multi-step": (
        lambda o: schedules.multi_step(o, [20, 5, 20, 33], gamma=0.3),
        lambda o: theirs.MultiStepLR(o, [5, 20, 20, 33], gamma=0.3),
    ),
    "one cycle": (
        lambda o: schedules.one_cycle(o, TOTAL, momentum=None),
        lambda o: theirs.OneCycleLR(o, [0.1, 0.03], TOTAL, cycle_momentum=False),
    ),
    "one cycle, linear": (
        lambda o: schedules.one_cycle(o, 37, warmup_fraction=0.25, anneal="linear", momentum=None),
        lambda o: theirs.OneCycleLR(o, [0.1, 0.03], 37, pct_start=0.25, anneal_strategy="linear", cycle_momentum=False),
    ),
    "a function": (
        lambda o: schedules.from_function(o, lambda k: 0.95 ** (k - 1)),
        lambda o: theirs.LambdaLR(o, lambda done: 0.95**done),
    ),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # of SequentialLR
def test_curves_equal_those_of_pytorch(name: str) -> None:
    ours, oracle = SAME[name]
    steps = 37 if name == "one cycle, linear" else TOTAL
    for mine, its in zip(curve(ours, steps), curve(oracle, steps), strict=True):
        assert mine == pytest.approx(its, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("kind", "field", "settings"), [(SGD, "momentum", {"momentum": 0.9}), (Adam, "betas", {})])
def test_one_cycle_moves_momentum_as_pytorch_does(kind: type[Optimizer], field: str, settings: dict[str, Any]) -> None:
    ours = curve(lambda o: schedules.one_cycle(o, TOTAL), field=field, kind=kind, **settings)
    oracle = curve(lambda o: theirs.OneCycleLR(o, [0.1, 0.03], TOTAL), field=field, kind=kind, **settings)
    for mine, its in zip(ours, oracle, strict=True):
        assert mine == pytest.approx(its, rel=1e-12)


@pytest.mark.parametrize("k_decay", [1.0, 1.7])
@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_with_warm_up_k_decay_and_minimum_equals_timm(warmup: int, k_decay: float) -> None:
    scheduler = pytest.importorskip("timm.scheduler")
    opt = optimizer(SGD, 0.1)
    timm = scheduler.CosineLRScheduler(
        opt,
        TOTAL - warmup,
        lr_min=0.02,
        warmup_t=warmup,
        warmup_lr_init=0.1 / (warmup + 1),
        warmup_prefix=True,
        t_in_epochs=False,
        k_decay=k_decay,
    )
    theirs = []
    for done in range(1, TOTAL + 6):
        theirs.append(opt.param_groups[0]["lr"])
        timm.step_update(done)
    ours = factors(lambda o: schedules.cosine(o, TOTAL, warmup, min_ratio=0.2, k_decay=k_decay), TOTAL + 5)
    assert [0.1 * factor for factor in ours] == pytest.approx(theirs, rel=1e-12)


def test_warm_up_and_decay_waste_neither_the_first_nor_the_last_step() -> None:
    values = factors(lambda o: schedules.cosine(o, 10, 3), 12)
    assert values[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert 0 < values[9] < values[8] < 1.0
    assert values[10:] == [0.0, 0.0]


def test_cool_down_stays_at_the_minimum() -> None:
    values = factors(lambda o: schedules.cosine(o, 20, 4, 6, min_ratio=0.2), 25)
    assert values[13] > 0.2
    assert values[14:] == pytest.approx([0.2] * 11)


def test_k_decay_stays_higher_for_longer_and_ends_alike() -> None:
    plain, slow = (factors(lambda o, k=k: schedules.cosine(o, 20, k_decay=k), 21) for k in (1.0, 2.0))
    assert all(a > b for a, b in zip(slow[1:20], plain[1:20], strict=True))
    assert slow[0] == plain[0]
    assert slow[20] == plain[20] == 0.0
    assert slow[10] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.25)))


@pytest.mark.parametrize(
    ("decay", "half"),
    [
        ("sqrt", 0.1 + 0.9 * (1 - math.sqrt(0.5))),
        ("linear", 0.55),
        ("cosine", 0.55),
        ("exponential", math.sqrt(0.1)),
        ("inverse", 1 / (0.5 + 0.5 / 0.1)),
    ],
)
def test_warm_up_stable_decay_has_its_three_parts(decay: Any, half: float) -> None:
    values = factors(lambda o: schedules.wsd(o, 20, 4, 8, decay=decay, min_ratio=0.1), 23)
    assert values[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert values[4:13] == pytest.approx([1.0] * 9)
    assert values[16] == pytest.approx(half)
    assert all(a > b for a, b in pairwise(values[12:21]))
    assert values[20:] == pytest.approx([0.1] * 3)


def test_a_stable_part_can_be_continued_with_a_later_end() -> None:
    short, long = (factors(lambda o, t=t: schedules.wsd(o, t, 4, 8), 12) for t in (20, 40))
    assert short == long


ALL: dict[str, Callable[[Optimizer], Schedule]] = {name: pair[0] for name, pair in SAME.items()} | {
    "wsd": lambda o: schedules.wsd(o, TOTAL, 5, 10),
    "k-decay": lambda o: schedules.cosine(o, TOTAL, 5, 5, k_decay=1.7, min_ratio=0.01),
    "one cycle with momentum": lambda o: schedules.one_cycle(o, TOTAL),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_a_resumed_schedule_continues_bit_for_bit(name: str, optimizer_first: bool) -> None:
    def new() -> tuple[Optimizer, Schedule]:
        opt = optimizer(momentum=0.9)
        return opt, ALL[name](opt)

    opt, schedule = new()
    straight, saved = [], []
    for _ in range(TOTAL):
        straight.append([(group["lr"], group["momentum"]) for group in opt.param_groups])
        saved.append((pickle.dumps(opt.state_dict()), json.dumps(schedule.state_dict())))
        schedule.step()
    for at in (0, 1, 13, TOTAL - 1):
        opt, schedule = new()
        parts = [lambda: opt.load_state_dict(pickle.loads(saved[at][0]))]  # noqa: B023
        parts.insert(optimizer_first, lambda: schedule.load_state_dict(json.loads(saved[at][1])))  # noqa: B023
        for load in parts:
            load()
        for expected in straight[at:]:
            assert [(group["lr"], group["momentum"]) for group in opt.param_groups] == expected
            schedule.step()


OF_PYTORCH: dict[str, Callable[[Optimizer], Any]] = {
    "StepLR": lambda o: theirs.StepLR(o, 7),
    "MultiStepLR": lambda o: theirs.MultiStepLR(o, [5, 9]),
    "ExponentialLR": lambda o: theirs.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: theirs.LambdaLR(o, lambda done: 1 / (1 + done)),
    "CosineAnnealingLR": lambda o: theirs.CosineAnnealingLR(o, TOTAL),
    "CosineAnnealingWarmRestarts": lambda o: theirs.CosineAnnealingWarmRestarts(o, 6, 2),
    "PolynomialLR": lambda o: theirs.PolynomialLR(o, TOTAL, 2.0),
    "OneCycleLR": lambda o: theirs.OneCycleLR(o, 0.1, TOTAL),
    "CyclicLR": lambda o: theirs.CyclicLR(o, 0.01, 0.1, 5, mode="exp_range", gamma=0.9),
    "SequentialLR": lambda o: with_warmup(o, 7, theirs.ExponentialLR(o, 0.9)),
    "ChainedScheduler": lambda o: theirs.ChainedScheduler([theirs.ConstantLR(o), theirs.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("name", OF_PYTORCH)
@pytest.mark.filterwarnings("ignore")  # of PyTorch, where a scheduler is loaded after its optimizer
def test_a_scheduler_of_pytorch_resumes_to_the_bit_from_a_checkpoint(name: str) -> None:
    def new() -> tuple[Optimizer, Any]:
        opt = optimizer(momentum=0.9)
        return opt, OF_PYTORCH[name](opt)

    opt, schedule = new()
    straight = []
    for done in range(TOTAL):
        if done == 13:
            saved = [encode(thing.state_dict()) for thing in (opt, schedule)]
        straight.append([(group["lr"], group["momentum"]) for group in opt.param_groups])
        opt.step()
        schedule.step()
    opt, schedule = new()
    for thing, (tree, tensors) in zip((opt, schedule), saved, strict=True):
        thing.load_state_dict(decode(json.loads(json.dumps(tree)), tensors))
    for expected in straight[13:]:
        assert [(group["lr"], group["momentum"]) for group in opt.param_groups] == expected
        opt.step()
        schedule.step()


OF_TIMM: dict[str, dict[str, Any]] = {
    "CosineLRScheduler": {"t_initial": 30, "warmup_t": 5, "cycle_limit": 2},
    "MultiStepLRScheduler": {"decay_t": [5, 20]},
    "PolyLRScheduler": {"t_initial": 30},
    "StepLRScheduler": {"decay_t": 6},
    "TanhLRScheduler": {"t_initial": 30, "noise_range_t": (2, 25)},
}


@pytest.mark.parametrize("name", OF_TIMM)
def test_a_scheduler_of_timm_resumes_to_the_bit_from_a_checkpoint(name: str) -> None:
    scheduler = pytest.importorskip("timm.scheduler")

    def new() -> tuple[Optimizer, Any]:
        opt = optimizer()
        return opt, getattr(scheduler, name)(opt, t_in_epochs=False, **OF_TIMM[name])

    opt, schedule = new()
    straight = []
    for done in range(TOTAL):
        if done == 13:
            saved = [encode(thing.state_dict()) for thing in (opt, schedule)]
        straight.append([group["lr"] for group in opt.param_groups])
        schedule.step_update(done + 1)
    opt, schedule = new()
    for thing, (tree, tensors) in zip((opt, schedule), saved, strict=True):
        thing.load_state_dict(decode(json.loads(json.dumps(tree)), tensors))
    for done in range(13, TOTAL):
        assert [group["lr"] for group in opt.param_groups] == straight[done]
        schedule.step_update(done + 1)


def test_any_field_can_be_scheduled_and_several_at_once() -> None:
    opt = optimizer(Adam, weight_decay=0.5)
    decay = schedules.linear(opt, 10, field="weight_decay")
    rate = schedules.constant(opt)
    for _ in range(5):
        decay.step()
        rate.step()
    assert [group["weight_decay"] for group in opt.param_groups] == pytest.approx([0.25, 0.25])
    assert decay.get_last_lr() == pytest.approx([0.25, 0.25])
    assert rate.get_last_lr() == [0.1, 0.03]


def test_a_field_that_no_group_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="have no `momentun` to schedule: they have `lr`"):
        schedules.constant(optimizer(), field="momentun")


def test_a_group_that_is_added_later_has_its_own_peak() -> None:
    opt = optimizer(SGD, 0.1)
    schedule = schedules.linear(opt, 10)
    for _ in range(4):
        schedule.step()
    opt.add_param_group({"params": [torch.zeros(1)], "lr": 0.5})
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.05, 0.25])
    state = schedule.state_dict()

    again = optimizer(SGD, 0.1)
    again.add_param_group({"params": [torch.zeros(1)], "lr": 0.5})
    other = schedules.linear(again, 10)
    other.load_state_dict(state)
    assert other.get_last_lr() == schedule.get_last_lr()


def test_a_state_that_does_not_fit_is_refused() -> None:
    state = schedules.constant(optimizer(SGD, 0.1, 0.2, 0.3)).state_dict()
    with pytest.raises(ValueError, match="lr"):
        schedules.constant(optimizer(), field="weight_decay").load_state_dict(state)


def test_an_update_that_was_skipped_is_not_counted() -> None:
    class Wrapper:
        def __init__(self, inner: Optimizer) -> None:
            self.param_groups = inner.param_groups
            self.step_was_skipped = False

    opt = Wrapper(optimizer())
    schedule = schedules.linear(opt, 10)
    schedule.step()
    opt.step_was_skipped = True
    schedule.step()
    opt.step_was_skipped = False
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.08, 0.024])


def test_a_learning_rate_in_a_tensor_stays_in_it() -> None:
    rate = torch.tensor(0.5)
    opt = Adam([torch.zeros(1, requires_grad=True)], lr=rate, capturable=False, foreach=False)
    schedule = schedules.linear(opt, 10)
    schedule.step()
    assert opt.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.45)
    assert schedule.get_last_lr() == pytest.approx([0.45])


@pytest.mark.parametrize(
    ("make", "messages"),
    [
        (lambda o: schedules.cosine(o, 0), ["`total_steps` must be at least 1: 0"]),
        (
            lambda o: schedules.cosine(o, 5, -1, min_ratio=2),
            ["`warmup_steps` must be 0 or more", "`min_ratio` must be"],
        ),
        (lambda o: schedules.linear(o, 5, 3, 3), ["`warmup_steps` 3 and `cooldown_steps` 3 do not fit"]),
        (lambda o: schedules.cosine(o, 5, k_decay=0), ["`k_decay` must be positive"]),
        (lambda o: schedules.wsd(o, 5, 1, 1, decay="inverse"), ["never reaches 0"]),
        (lambda o: schedules.wsd(o, 5, 1, 9, decay="root"), ["must be one of `sqrt`", "do not fit"]),
        (lambda o: schedules.one_cycle(o, 5, warmup_fraction=2, anneal="x"), ["`warmup_fraction`", "`anneal` must be"]),
        (lambda o: schedules.constant(o, -1), ["`warmup_steps` must be 0 or more: -1"]),
        (lambda o: schedules.multi_step(o, [1], warmup_steps=-1), ["`warmup_steps` must be 0 or more: -1"]),
    ],
)
def test_arguments_that_do_not_fit_are_all_named(make: Any, messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(optimizer())
    assert all(message in str(caught.value) for message in messages)


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("name", ["cosine", "linear", "one_cycle"])
def test_the_shortest_runs_have_a_finite_positive_rate(name: str, total: int) -> None:
    values = factors(lambda o: getattr(schedules, name)(o, total), total)
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_in_a_chain_each_part_counts_its_own_steps_and_the_last_one_continues() -> None:
    def chained(opt: Optimizer) -> Schedule:
        parts = (5, schedules.constant), (10, lambda o: schedules.cosine(o, 10)), (3, lambda o: schedules.linear(o, 9))
        return schedules.chain(opt, *parts)

    constant, cosine = curve(schedules.constant, 5), curve(lambda o: schedules.cosine(o, 10), 10)
    linear = curve(lambda o: schedules.linear(o, 9), 9)
    assert curve(chained, 24) == constant + cosine + linear
    schedule = chained(optimizer())
    assert [schedule.values_at(step) for step in range(1, 25)] == constant + cosine + linear
    assert schedule.get_last_lr() == constant[0]  # reading other values does not move it
    assert schedule.state_dict()["total_steps"] == 18


def test_a_chain_resumes_bit_for_bit_in_the_middle_of_a_part() -> None:
    def chained(opt: Optimizer) -> Schedule:
        return schedules.chain(opt, (4, schedules.constant), (6, lambda o: schedules.cosine(o, 6)))

    first = chained(optimizer())
    for _ in range(7):
        first.optimizer.step()
        first.step()
    second = chained(optimizer())
    second.load_state_dict(first.state_dict())
    assert [group["lr"] for group in second.optimizer.param_groups] == curve(chained, 8)[7]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "there is none"),
        ([(0, schedules.constant)], "at least 1 step: 0"),
        ([(3, schedules.constant), (3, lambda o: schedules.one_cycle(o, 9))], "the same fields"),
    ],
)
def test_invalid_chains_are_refused(parts: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedules.chain(optimizer(SGD, momentum=0.9), *parts)
