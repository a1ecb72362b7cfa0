"""Freezing, staged unfreezing and param groups: exact on any number of processes and after a resume."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.sampled import sampled
from support.together import together
from torch import nn
from torch.utils.data import TensorDataset

from paccel.runtime import Checkpoints, ConfigError, Run, finetuning, schedules


class Net(nn.Module):
    """A body with a batch norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.head = nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)))


@dataclass
class Config:
    """What the run reads."""

    run_dir: Path | None = None
    resume: str = "never"
    seed: int = 1


def net() -> Net:
    torch.manual_seed(0)
    return Net().double()


def data() -> TensorDataset:
    inputs = torch.randn(22, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return TensorDataset(inputs, inputs.sum(-1, keepdim=True))


def train(run_dir: Path, resume: str = "never", until: int = 100, accumulate: int = 1) -> list[dict[str, bool]]:
    """Train 3 epochs of 3 steps: the head, from step 4 on the body, from step 6 on all. Returns what each step changed."""
    changed = []
    with Run(Config(run_dir, resume)) as run:
        loader = run.loader(data(), 8, shuffle=True)
        model = net()
        groups = finetuning.param_groups(
            model, lr=0.01, weight_decay=0.1, layers=[model.stem, model.body, model.head], layer_decay=0.5
        )
        unfreezing = finetuning.Unfreezing(run, model, {1: [model.head], 4: [model.body], 6: [model]})
        inner = model
        model, optimizer = run.prepare(model, torch.optim.AdamW(groups))
        schedule = schedules.cosine(optimizer, 9)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer, schedule=schedule)
        checkpoints.restore()
        for _ in run.epochs(3):
            model.train()
            for step in run.steps(loader, accumulate=accumulate):
                unfreezing.apply(step.number)
                before = {name: p.detach().clone() for name, p in inner.named_parameters()}
                for x, y in step:
                    run.backward(((model(x) - y) ** 2).sum() / step.num_samples)
                run.clip_grad_norm(model, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                changed.append({name: not torch.equal(before[name], p) for name, p in inner.named_parameters()})
                if step.number == until:
                    checkpoints.save()
                    raise run.stopped()
        checkpoints.save_weights("final")
    return changed


def train_and_stop(run_dir: Path, until: int) -> None:
    with pytest.raises(SystemExit):
        train(run_dir, until=until)


def final(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "weights" / "final.safetensors")


def test_a_part_is_trained_from_its_step_on_and_does_not_change_before(tmp_path: Path) -> None:
    changed = train(tmp_path / "run")
    assert [step["head.weight"] for step in changed] == [True] * 9
    assert [step["body.0.weight"] for step in changed] == [False] * 3 + [True] * 6
    assert [step["stem.bias"] for step in changed] == [False] * 5 + [True] * 4


@pytest.mark.slow
def test_two_processes_unfreeze_like_one(tmp_path: Path) -> None:
    train(tmp_path / "one")
    for accumulate in (1, 2):
        folder = tmp_path / str(accumulate)
        folder.mkdir()
        assert len(together(train, folder, folder / "run", "never", 100, accumulate)) == 2
        for name, weight in final(folder / "run").items():
            torch.testing.assert_close(weight, final(tmp_path / "one")[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("until", sampled(range(1, 9), 2))
def test_resumed_in_any_stage_it_ends_like_an_uninterrupted_run(tmp_path: Path, until: int) -> None:
    train(tmp_path / "straight")
    train_and_stop(tmp_path / "run", until)
    train(tmp_path / "run", resume="auto")
    straight = final(tmp_path / "straight")
    assert all(torch.equal(weight, straight[name]) for name, weight in final(tmp_path / "run").items())


class TestFreezing:
    def test_frozen_batch_norms_stay_in_evaluation_mode_until_they_are_unfrozen(self) -> None:
        model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1))
        with Run(Config(), record=False) as run:
            unfreezing = finetuning.Unfreezing(run, model, {1: [model[3]], 3: [model[2]]})
            modes = []
            for step in range(1, 5):
                model.train()
                unfreezing.apply(step)
                modes.append((model[0].training, model[1].training, model[2].training))
        assert modes == [(False, True, False)] * 2 + [(False, True, True)] * 2

    @pytest.mark.parametrize("eval_frozen", [False, True])
    def test_dropout_of_a_frozen_part_can_be_off_until_it_is_unfrozen(self, eval_frozen: bool) -> None:
        def block() -> nn.Sequential:
            return nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Dropout())

        model = nn.Sequential(block(), block(), block())
        with Run(Config(), record=False) as run:
            stages = {1: [model[2]], 3: [model[1]], 4: [model]}
            unfreezing = finetuning.Unfreezing(run, model, stages, train_norms=True, eval_frozen=eval_frozen)
            modes = []
            for step in range(1, 5):
                model.train()
                unfreezing.apply(step)
                modes.append([module.training for part in model for module in (part, part[2])] + [model.training])
        still = [False, False] if eval_frozen else [True, True]
        assert modes == [[*still, *still, True, True, True]] * 2 + [[*still] + [True] * 5, [True] * 7]

    def test_the_norms_can_be_trained_from_the_start(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LayerNorm(2), nn.Linear(2, 1))
        with Run(Config(), record=False) as run:
            finetuning.Unfreezing(run, model, {1: [model[3]]}, train_norms=True).apply(1)
        assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True, True, True]
        assert model[1].training

    def test_parameters_frozen_before_stay_frozen_and_a_shared_weight_follows_the_earliest_stage(self) -> None:
        model = net()
        model.stem.bias.requires_grad_(False)
        model.body[0].weight = model.head.weight = nn.Parameter(torch.ones(1, 6))
        with Run(Config(), record=False) as run:
            unfreezing = finetuning.Unfreezing(run, model, {1: [model.head], 2: [model.stem], 3: [model.body]})
            unfreezing.apply(1)
            assert model.body[0].weight.requires_grad
            unfreezing.apply(3)
        assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"stem.bias"}

    def test_all_problems_are_named(self) -> None:
        model = net()
        with Run(Config(), record=False) as run:
            with pytest.raises(ConfigError, match=r"(?s)stage 0.*stage 2: a `ReLU` that is not in the model"):
                finetuning.Unfreezing(run, model, {0: [model.head], 2: [nn.ReLU()]})
            with pytest.raises(ConfigError, match="Nothing is trained in step 1: the first stage is at step 5"):
                finetuning.Unfreezing(run, model, {5: [model]})


class TestGroups:
    def rates(self, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float, int]]:
        return {group["name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in groups}

    def test_norms_biases_and_parameters_that_the_model_lists_have_no_weight_decay(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(5, 3))
        groups = finetuning.param_groups(model, lr=0.1, weight_decay=0.2)
        assert self.rates(groups) == {"all": (0.1, 0.2, 2), "no decay": (0.1, 0.0, 3)}
        model.no_weight_decay = lambda: {"2.weight"}
        assert self.rates(finetuning.param_groups(model, lr=0.1, weight_decay=0.2))["no decay"][2] == 4

    def test_learning_rates_fall_from_the_last_layer_to_the_first(self) -> None:
        model = net()
        layers = [[model.stem, model.body[1]], model.body, model.head]
        groups = finetuning.param_groups(model, lr=1.0, weight_decay=0.1, layers=layers, layer_decay=0.5)
        assert self.rates(groups) == {
            "layer 1": (0.25, 0.1, 1),
            "layer 1, no decay": (0.25, 0.0, 1),
            "layer 2": (0.5, 0.1, 1),
            "layer 2, no decay": (0.5, 0.0, 1),
            "layer 3": (1.0, 0.1, 1),
            "layer 3, no decay": (1.0, 0.0, 1),
        }

    @pytest.mark.slow
    def test_timm_s_groups_without_decay_are_the_same(self) -> None:
        timm = pytest.importorskip("timm")
        from timm.optim import param_groups_weight_decay

        model = timm.create_model("resnet18", num_classes=3)
        ours = finetuning.param_groups(model, lr=0.1, weight_decay=0.2)
        theirs = {group["weight_decay"]: group["params"] for group in param_groups_weight_decay(model, 0.2)}
        assert all({id(p) for p in g["params"]} == {id(p) for p in theirs[g["weight_decay"]]} for g in ours)

    @pytest.mark.slow
    def test_parameters_of_a_vision_transformer_itself_are_in_the_first_layer_as_in_timm(self) -> None:
        timm = pytest.importorskip("timm")
        from timm.optim import param_groups_layer_decay

        model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=2, img_size=32)
        assert {name for name, _ in model.named_parameters(recurse=False)} == {"cls_token", "pos_embed"}
        layers = [model.patch_embed, model.blocks[0], [model.blocks[1], model.norm], model.head]
        ours = finetuning.param_groups(model, lr=0.1, weight_decay=0.2, layers=layers, layer_decay=0.5)
        theirs = param_groups_layer_decay(model, weight_decay=0.2, no_weight_decay_list=(), layer_decay=0.5)
        exempt = {id(model.cls_token), id(model.pos_embed)}  # by `no_weight_decay`, which timm takes as a list
        expected = {
            id(p): (pytest.approx(0.1 * group["lr_scale"]), 0.0 if id(p) in exempt else group["weight_decay"])
            for group in theirs
            for p in group["params"]
        }
        found = {id(p): (group["lr"], group["weight_decay"]) for group in ours for p in group["params"]}
        assert found == expected

    def test_a_parameter_in_no_layer_is_named_and_a_frozen_one_is_in_no_group(self) -> None:
        model = net()
        with pytest.raises(ConfigError, match=r"In none of the 1 layers: `stem.weight`, `stem.bias`, `body.0.weight`"):
            finetuning.param_groups(model, lr=1.0, weight_decay=0.0, layers=[model.head])
        model.stem.requires_grad_(False)
        model.body.requires_grad_(False)
        groups = finetuning.param_groups(model, lr=1.0, weight_decay=0.0, layers=[model.head])
        assert sum(len(group["params"]) for group in groups) == 2


def test_a_model_is_described_part_by_part() -> None:
    model = net()
    model.body.requires_grad_(False)
    assert finetuning.describe(model).splitlines() == [
        "stem  Linear      30  30 trained",
        "body  Sequential  42   0 trained",
        "head  Linear       7   7 trained",
    ]
