"""The average equals the formula, is restored bit for bit, and is swapped in place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support import sharded_ema
from support.together import new_process
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import TensorDataset

from paccel.runtime import Checkpoints, Run
from paccel.runtime.ema import EMA
from paccel.runtime.errors import ConfigError
from paccel.runtime.storage.encoding import decode, encode


def make_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(dtype)


def train(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32).to(parameter.dtype))
        for buffer in model.buffers():
            buffer.add_(1)


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def copied(state: dict[str, Any]) -> dict[str, Any]:
    return {"updates": state["updates"], "averages": {name: value.clone() for name, value in state["averages"].items()}}


def test_it_equals_pytorch_s_average_without_averaging_buffers() -> None:
    model = make_model(torch.float64)
    ema, oracle = EMA(model, 0.9, warmup=False), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    oracle.update_parameters(model)  # its first update is a copy
    for seed in range(5):
        train(model, seed)
        ema.update()
        oracle.update_parameters(model)
    expected = dict(oracle.module.named_parameters()) | dict(model.named_buffers())
    with ema.swapped_in():
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, expected[name].detach(), rtol=1e-14, atol=0)


def test_the_warm_up_forgets_the_first_weights_soon() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    ema = EMA(model, decay=0.5)
    average = model.weight.item()
    for update in range(1, 12):
        train(model, update)
        ema.update()
        decay = min(0.5, (1 + update) / (10 + update))
        average = decay * average + (1 - decay) * model.weight.item()
        assert ema.state_dict()["averages"]["weight"].item() == pytest.approx(average, rel=1e-14)


def test_the_decay_may_be_a_function_of_the_update() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    ema = EMA(model, decay=lambda update: 0.0 if update <= 2 else 1 - 1 / update)
    kept = []
    for update in range(1, 8):
        train(model, update)
        ema.update()
        kept.append(model.weight.item())
    assert ema.state_dict()["averages"]["weight"].item() == pytest.approx(
        kept[1] * 2 / 7 + sum(kept[2:]) / 7, rel=1e-14
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_swapping_in_and_out_restores_every_value(dtype: torch.dtype) -> None:
    model = make_model(dtype)
    ema = EMA(model, 0.5)
    for seed in range(3):
        train(model, seed)
        ema.update()
    identities = [(id(p), p.data_ptr()) for p in model.parameters()]
    before, state = values(model), {k: v.clone() for k, v in ema.state_dict()["averages"].items()}
    for fail in (False, True):
        try:
            with ema.swapped_in():
                for name, parameter in model.named_parameters():
                    assert torch.equal(parameter, state[name].to(dtype))
                    assert not torch.equal(parameter, before[name])
                if fail:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert fail
        assert equal(values(model), before)
        assert equal(ema.state_dict()["averages"], state)
    assert [(id(p), p.data_ptr()) for p in model.parameters()] == identities


def test_small_steps_are_not_rounded_away_in_half_precision() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(model.weight)
    ema = EMA(model, decay=0.999, warmup=False)
    nn.init.constant_(model.weight, 2.0)
    for _ in range(100):
        ema.update()
    assert ema.state_dict()["averages"]["weight"].item() == pytest.approx(2 - 0.999**100, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_restored_average_continues_bit_for_bit(dtype: torch.dtype) -> None:
    straight_model = make_model(dtype)
    straight = EMA(straight_model, 0.9)
    for seed in range(6):
        train(straight_model, seed)
        straight.update()
        if seed == 2:
            weights = values(straight_model)
            saved: Any = decode(*encode(copied(straight.state_dict())))
    model = make_model(dtype)
    model.load_state_dict(weights)
    ema = EMA(model, 0.9)
    ema.load_state_dict(saved)
    for seed in range(3, 6):
        train(model, seed)
        ema.update()
    assert ema.updates == straight.updates == 6
    assert equal(ema.state_dict()["averages"], straight.state_dict()["averages"])


@pytest.mark.slow
def test_names_are_those_of_the_unwrapped_model() -> None:
    model = make_model()
    names = [name for name, _ in model.named_parameters()]
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert list(EMA(wrapped).state_dict()["averages"]) == names


def test_frozen_and_tied_weights_are_averaged_once_and_exactly() -> None:
    model = make_model()
    model[0].weight.requires_grad_(False)
    model[2].bias = nn.Parameter(model[2].bias.detach())
    model.append(model[2])
    ema = EMA(model)
    for _ in range(3):
        ema.update()
    assert len(ema.state_dict()["averages"]) == len(list(model.parameters()))
    assert torch.equal(ema.state_dict()["averages"]["0.weight"], model[0].weight)


def test_state_of_another_model_is_refused_and_nothing_is_changed() -> None:
    ema = EMA(nn.Sequential(nn.Linear(2, 2)))
    before = {name: value.clone() for name, value in ema.state_dict()["averages"].items()}
    with pytest.raises(ValueError, match="fit the model") as caught:
        ema.load_state_dict({"updates": 3, "averages": {"0.weight": torch.zeros(3, 2), "x": torch.zeros(1)}})
    for part in ("missing: `0.bias`", "unexpected: `x`", "`0.weight` is (3, 2), not (2, 2)"):
        assert part in str(caught.value)
    assert ema.updates == 0
    assert equal(ema.state_dict()["averages"], before)


@pytest.mark.parametrize("action", ["update", "state_dict", "swapped_in", "load_state_dict"])
def test_while_swapped_in_it_refuses_everything_else(action: str) -> None:
    ema = EMA(make_model())
    with ema.swapped_in(), pytest.raises(RuntimeError, match="after the `with` block"):
        {
            "update": ema.update,
            "state_dict": ema.state_dict,
            "swapped_in": lambda: ema.swapped_in().__enter__(),
            "load_state_dict": lambda: ema.load_state_dict({}),
        }[action]()


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match="`decay` must be from 0 to below 1"):
        EMA(make_model(), decay)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_sharded_model_is_averaged_and_saved_like_an_unsharded_one(tmp_path: Path) -> None:
    processes = [new_process(sharded_ema.main, rank, tmp_path) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    for process in processes:
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("done-*")) == ["done-0", "done-1"]


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "auto"


def averaged_by_timm(run_dir: Path, steps: int) -> dict[str, torch.Tensor]:
    """Train up to a step in total, resuming where the last call saved. Returns the average."""
    with Run(Config(run_dir)) as run:
        model: Any = make_model()
        optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer = run.prepare(model, optimizer)
        ema = pytest.importorskip("timm.utils").ModelEmaV2(model, decay=0.9)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer, ema=ema)
        checkpoints.restore()
        loader = run.loader(TensorDataset(torch.arange(24.0).reshape(8, 3) / 24), 2, shuffle=True)
        for _ in run.epochs(None, steps):
            for step in run.steps(loader):
                for (inputs,) in step:
                    run.backward(model(inputs).square().sum(), count=step.num_samples)
                optimizer.step()
                optimizer.zero_grad()
                ema.update(model)
        checkpoints.save()
        return values(ema.module)


@pytest.mark.slow
def test_an_average_of_timm_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight = averaged_by_timm(tmp_path / "straight", 6)
    first = averaged_by_timm(tmp_path / "run", 3)
    assert not equal(first, straight)
    assert equal(averaged_by_timm(tmp_path / "run", 6), straight)


def test_added_or_replaced_parameters_are_an_error() -> None:
    for change in (lambda model: model.append(nn.Linear(1, 1)), lambda model: model.__setitem__(0, nn.Linear(2, 1))):
        model = nn.Sequential(nn.Linear(2, 1))
        ema = EMA(model)
        change(model)
        with pytest.raises(ConfigError, match=r"other parameters than when its EMA was created: `[01].bias`"):
            ema.state_dict()
        with pytest.raises(ConfigError, match="Create a new EMA"), ema.swapped_in():
            pass
        with pytest.raises(ConfigError, match="Create a new EMA"):
            ema.update()


def test_parameters_added_during_averaging_are_noticed_within_some_updates() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    ema = EMA(model)
    ema.update()
    model.append(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match=r"`1.bias`, `1.weight`\. Create a new EMA"):
        for _ in range(100):
            ema.update()
