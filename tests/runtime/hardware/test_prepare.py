"""Preparing models and optimizers; loss scaling and DeepSpeed's configuration, tested on the CPU."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.scaling import loss_scaler
from torch import nn

from paccel.runtime import Run, schedules
from paccel.runtime.errors import ConfigError
from paccel.runtime.hardware.deepspeed import configure


@dataclass
class Config:
    seed: int = 0


def train(fused: bool, overflow_at: int = 2, given: Any = None) -> tuple[list[float], list[float], torch.Tensor, Any]:
    """Train four steps with a loss scaler. Returns the scale and learning rate after each, the weights, and what was prepared."""
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
    again = train(fused, given=first)  # prepared by an earlier run
    assert again[0] == scales
    assert again[1][1] == again[1][0]


class TestDeepSpeed:
    @staticmethod
    def configured(settings: dict[str, Any], precision: str) -> list[str]:
        plugin = SimpleNamespace(deepspeed_config=settings)
        accelerator: Any = SimpleNamespace(mixed_precision=precision, state=SimpleNamespace(deepspeed_plugin=plugin))
        said: list[str] = []
        configure(accelerator, said.append)
        return said

    def test_settings_that_the_loop_controls_are_ignored_with_a_line(self) -> None:
        settings = {"gradient_clipping": 0.3, "gradient_accumulation_steps": 4, "bf16": {"enabled": True}}
        said = self.configured(settings, "bf16")
        assert [line.split("`")[1] for line in said] == ["gradient_accumulation_steps", "gradient_clipping"]
        assert (settings["gradient_clipping"], settings["gradient_accumulation_steps"]) == (0.0, 1)
        assert settings["bf16"] == {"enabled": False}
        assert settings["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}

    @pytest.mark.parametrize(
        ("offload", "message"),
        [({"device": "nvme"}, "`offload_optimizer` to `nvme`"), ({"device": "cpu", "ratio": 0.5}, "`ratio` below 1")],
    )
    def test_offloading_that_checkpoints_cannot_read_is_refused(self, offload: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            self.configured({"zero_optimization": {"offload_optimizer": offload}}, "no")

    def test_fp16_is_refused_as_its_loss_scale_cannot_be_resumed(self) -> None:
        with pytest.raises(ConfigError, match="fp16 is not supported under DeepSpeed"):
            self.configured({}, "fp16")


@pytest.mark.parametrize("thing", [[nn.Linear(1, 1)], (nn.Linear(1, 1),), {"model": nn.Linear(1, 1)}, None, 3])
def test_what_would_be_handed_back_unprepared_is_refused(thing: Any) -> None:
    with Run(Config(), record=False) as run, pytest.raises(ConfigError, match="takes models and optimizers, not a `"):
        run.prepare(nn.Linear(1, 1), thing)


def test_states_of_an_optimizer_keep_their_type_when_they_are_loaded() -> None:
    """PyTorch casts them to bfloat16, the dtype of their parameter."""

    def make() -> torch.optim.Optimizer:
        parameter = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        parameter.grad = torch.ones_like(parameter)
        return torch.optim.NAdam([parameter])

    first, second = make(), make()
    first.step()
    product = first.state_dict()["state"][0]["mu_product"]
    with Run(Config(), record=False) as run:
        run.prepared.load(second, first.state_dict())
    restored = second.state_dict()["state"][0]["mu_product"]
    assert product.dtype == restored.dtype == torch.float32
    assert torch.equal(product, restored)
    assert product.bfloat16().float() != product  # it would have been rounded
