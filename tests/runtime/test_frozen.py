"""Checkpoints without frozen weights: megabytes for an adapter, and never on another base."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from paccel.runtime import CheckpointError, Checkpoints, ConfigError, Run, load_weights


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "auto"


def adapted(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(200, 200), nn.BatchNorm1d(200), nn.Linear(200, 2))
    model[0].requires_grad_(False)
    return model


def step(run: Run, model: nn.Module) -> None:
    run.position.step += 1
    with torch.no_grad():
        model[2].weight.add_(1)


@pytest.mark.parametrize("only", [True, False])
def test_frozen_weights_are_left_out_and_found_again_in_the_base(tmp_path: Path, only: bool) -> None:
    with Run(Config(tmp_path)) as run:
        model = adapted()
        checkpoints = Checkpoints(run, trainable_only=only, model=model)
        checkpoints.restore()
        step(run, model)
        checkpoints.save()
        checkpoints.save_weights("final")
    saved = load_file(tmp_path / "checkpoints" / "step-1" / "model.safetensors")
    assert ("0.weight" in saved) is not only
    assert {"1.running_mean", "1.weight", "2.weight"} <= saved.keys()
    load_weights(tmp_path / "weights" / "final.safetensors", adapted(3))  # all of them, for an evaluation
    with Run(Config(tmp_path)) as run:  # whether or not this one leaves any out
        other = adapted()
        assert Checkpoints(run, model=other).restore() == 1
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


def test_another_base_is_refused_by_name(tmp_path: Path) -> None:
    with Run(Config(tmp_path)) as run:
        model = adapted()
        checkpoints = Checkpoints(run, trainable_only=True, model=model)
        checkpoints.restore()
        step(run, model)
        checkpoints.save()
    for only in (True, False):
        with (
            Run(Config(tmp_path)) as run,
            pytest.raises(CheckpointError, match=r"they differ here: `0\.bias`, `0\.weight`\. Load the weights"),
        ):
            Checkpoints(run, trainable_only=only, model=adapted(1)).restore()


def test_what_is_frozen_later_or_changes_all_the_same_is_saved(tmp_path: Path) -> None:
    with Run(Config(tmp_path)) as run:
        model = adapted()
        checkpoints = Checkpoints(run, trainable_only=True, model=model)
        checkpoints.restore()
        step(run, model)
        model[2].requires_grad_(False)  # it has trained, so no base has it
        with torch.no_grad():
            model[0].bias.mul_(0.5)  # as a teacher's weights are
        checkpoints.save()
    saved = load_file(tmp_path / "checkpoints" / "step-1" / "model.safetensors")
    assert "0.weight" not in saved
    assert {"0.bias", "2.weight"} <= saved.keys()
    with Run(Config(tmp_path)) as run:
        other = adapted()
        checkpoints = Checkpoints(run, trainable_only=True, model=other)
        checkpoints.restore()
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
        step(run, other)
        checkpoints.save()
    saved = load_file(tmp_path / "checkpoints" / "step-2" / "model.safetensors")
    assert "0.bias" in saved  # it is still not the base's


def test_a_model_without_memory_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with Run(Config(tmp_path)) as run:
        Checkpoints(run, model=adapted()).save()
    with Run(Config(tmp_path)) as run:
        with torch.device("meta"):
            model = adapted()
        with pytest.raises(ConfigError, match=r"on the meta device, without memory: call `model\.to_empty\(device"):
            Checkpoints(run, model=model).restore()
        run.position.step = 1
        Checkpoints(run, model=adapted()).save_weights("final")
        with pytest.raises(ConfigError, match=r"on the meta device, without memory"):
            load_weights(tmp_path / "weights" / "final.safetensors", model)


class Base(nn.Module):
    """Frozen weights of many types beside one that trains."""

    def __init__(self) -> None:
        super().__init__()
        kinds = (torch.float8_e4m3fn, torch.bfloat16, torch.float64, torch.complex64, torch.bool, torch.uint8)
        for kind in kinds:
            values = torch.arange(1.0, 25).reshape(4, 6).to(kind).t()
            setattr(self, str(kind).replace("torch.", "of_"), nn.Parameter(values, requires_grad=False))
        self.number = nn.Parameter(torch.tensor(3.0), requires_grad=False)
        self.nothing = nn.Parameter(torch.empty(0, 4), requires_grad=False)
        self.trained = nn.Parameter(torch.ones(3))


def swap(weights: torch.Tensor) -> None:
    weights[[0, 1]] = weights[[1, 0]].clone()


CHANGES = {
    "of_float64": swap,  # the same numbers in another order
    "of_complex64": lambda weights: weights.imag.add_(1),
    "of_float8_e4m3fn": lambda weights: weights.view(torch.uint8)[2, 3].add_(1),
    "of_bool": lambda weights: weights.logical_not_(),
    "of_uint8": swap,
    "number": lambda weights: weights.neg_(),
    "nothing": None,
    "of_bfloat16": None,
}


def test_frozen_weights_of_any_type_are_left_out_and_any_change_to_them_is_saved(tmp_path: Path) -> None:
    with Run(Config(tmp_path)) as run, torch.no_grad():
        model = Base()
        checkpoints = Checkpoints(run, trainable_only=True, model=model)
        checkpoints.restore()
        checkpoints.save()
        for name, change in CHANGES.items():
            if change is not None:
                change(getattr(model, name))
        run.position.step = 1
        checkpoints.save()
    files = [load_file(tmp_path / "checkpoints" / f"step-{number}" / "model.safetensors") for number in (0, 1)]
    changed = {name for name, change in CHANGES.items() if change is not None}
    assert [set(file) for file in files] == [{"trained"}, {"trained", *changed}]
    with Run(Config(tmp_path)) as run:
        other = Base()
        assert Checkpoints(run, trainable_only=True, model=other).restore() == 1
    assert all(value.tolist() == model.state_dict()[name].tolist() for name, value in other.state_dict().items())
