"""What accelerate and DeepSpeed leave undone for optimizers in fp16, shown on the CPU with the classes that a GPU has."""

import importlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.scaling import loss_scaler
from torch import nn

from paccel.runtime import Run, schedules
from paccel.runtime.hardware.deepspeed import LossScale, configure


@dataclass
class Config:
    seed: int = 0


def train(fused: bool, overflow_at: int = 2, given: Any = None) -> tuple[list[float], list[float], torch.Tensor, Any]:
    """Four steps with a loss scaler: the scale and the learning rate behind each, the weights, the optimizer."""
    with loss_scaler(), Run(Config(), record=False) as run:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        if given is not None:
            model, optimizer = given
        model, optimizer = run.prepare(model, optimizer)
        schedule = schedules.linear(optimizer, 4)
        scales, rates = [], []
        for step in range(1, 5):
            loss = model(torch.ones(2, 3)).square().sum()
            run.backward(loss * (1e38 if step == overflow_at else 1.0))
            run.clip_grad_norm(model, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            scales.append(run.accelerator.scaler.get_scale())
            rates.append(optimizer.param_groups[0]["lr"])
        return scales, rates, model.weight.detach().clone(), (model, optimizer)


@pytest.mark.parametrize("fused", [False, True])
def test_a_schedule_does_not_go_on_where_the_loss_scaler_skips_the_update(fused: bool) -> None:
    scales, rates, _, _ = train(fused)
    assert scales == [2.0**16, 2.0**15, 2.0**15, 2.0**15]
    assert rates[1] == rates[0]
    assert rates[0] > rates[2] > rates[3]


@pytest.mark.parametrize("fused", [False, True])
def test_a_second_run_in_a_process_scales_by_a_scaler_of_its_own(fused: bool) -> None:
    scales, _, weights, first = train(fused)
    second = train(fused)
    assert second[0] == scales
    assert torch.equal(second[2], weights)
    again = train(fused, given=first)  # as prepared by a run that is over
    assert again[0] == scales
    assert again[1][1] == again[1][0]


class TestDeepSpeed:
    @pytest.fixture
    def scaler(self, monkeypatch: pytest.MonkeyPatch) -> LossScale:
        pytest.importorskip("deepspeed")
        module = importlib.import_module("deepspeed.runtime.fp16.loss_scaler")
        monkeypatch.setattr(module, "dist", SimpleNamespace(get_rank=lambda: 1))
        return LossScale(SimpleNamespace())

    def test_its_loss_scale_falls_grows_and_comes_back(self, scaler: LossScale) -> None:
        def steps(scale: LossScale, overflows: list[bool]) -> list[float]:
            found = []
            for overflow in overflows:
                scale.scaler.update_scale(overflow)
                found.append(scale.get_scale())
            return found

        assert steps(scaler, [True, False, True]) == [2.0**15, 2.0**15, 2.0**14]
        steps(scaler, [False] * 1990)
        saved = scaler.state_dict()
        assert set(saved) == set(torch.amp.GradScaler("cpu").state_dict())
        later = [False] * 2100
        straight = steps(scaler, later)
        assert straight[8:10] == [2.0**14, 2.0**15]  # in the 2000th sound step, as PyTorch's does
        resumed = LossScale(SimpleNamespace())
        resumed.load_state_dict(saved)
        assert steps(resumed, later) == straight

    def test_pytorchs_scaler_is_replaced_where_it_never_falls(self, scaler: LossScale) -> None:
        optimizer = SimpleNamespace(torch_autocast_gradscaler=torch.amp.GradScaler("cpu"))
        scaled = LossScale(optimizer)
        assert optimizer.torch_autocast_gradscaler is None
        assert optimizer.loss_scaler is scaled.scaler
        assert optimizer.dynamic_loss_scale

    def test_what_the_loop_decides_is_said_and_nvme_is_refused(self) -> None:
        settings: dict[str, Any] = {
            "gradient_clipping": 0.3,
            "gradient_accumulation_steps": 4,
            "fp16": {"enabled": True},
        }
        plugin = SimpleNamespace(deepspeed_config=settings)
        accelerator: Any = SimpleNamespace(mixed_precision="fp16", state=SimpleNamespace(deepspeed_plugin=plugin))
        said: list[str] = []
        configure(accelerator, said.append)
        assert [line.split("`")[1] for line in said] == ["gradient_accumulation_steps", "gradient_clipping"]
        assert (settings["gradient_clipping"], settings["gradient_accumulation_steps"]) == (0.0, 1)
        assert settings["fp16"] == {"enabled": False}
        assert settings["torch_autocast"] == {"enabled": True, "dtype": "float16"}
        settings["zero_optimization"] = {"offload_param": {"device": "nvme"}}
        with pytest.raises(ValueError, match="`offload_param` to `nvme`"):
            configure(accelerator, said.append)
