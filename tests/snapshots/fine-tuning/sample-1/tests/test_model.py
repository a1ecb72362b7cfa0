"""The weights come from where they are said to come from, and stay as they are while they are frozen."""

import pytest
from safetensors.torch import load_file
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from model import make_model, parts, preprocessing
import train

NAME = "shufflenet_v2_x0_5"
NAMES = ["resnet18", "vit_b_16", "convnext_tiny", "mobilenet_v3_small", "swin_t"]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights for as many classes as the published ones have, where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = get_model(NAME, weights=None).state_dict()
    path = tmp_path / "hub" / "checkpoints" / get_model_weights(NAME).DEFAULT.url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    torch.save(weights, path)
    return weights


def compare(one, other):
    """The names of the tensors that are equal, and of those that are not."""
    assert one.keys() == other.keys()
    equal = {name for name in one if one[name].shape == other[name].shape and torch.equal(one[name], other[name])}
    return equal, one.keys() - equal


def test_the_weights_are_those_of_the_file_but_for_a_new_head(weights, settings):
    model = make_model(settings["model"], 2, weights=settings["weights"])
    _, new = compare(model.state_dict(), load_file(weights))
    assert new == {"fc.weight", "fc.bias"}
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 2)
    assert preprocessing(settings["model"], settings.get("image_size")).size == 32


def test_published_weights_are_taken_but_for_a_new_head(published):
    model = make_model(NAME, 2, weights="DEFAULT")
    assert compare(model.state_dict(), published)[1] == {"fc.weight", "fc.bias"}


def test_what_there_is_not_is_named(settings, tmp_path):
    for wrong, problem in (
        ({"model": "resnet1888"}, "The model `resnet1888` cannot be loaded: torchvision has no classifier"),
        ({"model": "fcn_resnet50"}, "The model `fcn_resnet50` cannot be loaded: torchvision has no classifier"),
        ({"model": "googlenet", "weights": None}, "`googlenet` returns logits of three heads"),
        ({"weights": "nowhere.safetensors"}, "the weights `nowhere.safetensors` cannot be loaded"),
        ({"weights": "NOBODYS"}, "the weights `NOBODYS` cannot be loaded"),
        ({"model": "mobilenet_v3_small"}, "has no `classifier.3.bias`: its weights are of another model than"),
    ):
        with pytest.raises(ValueError, match=problem):
            train.main(train.Config(run_dir=tmp_path / "run", trackers=(), **{**settings, **wrong}))


def test_what_is_frozen_stays_as_it_was_pretrained_with_its_batch_norms(weights, settings, tmp_path):
    for name, shares in (("head", (1.0, 1.0)), ("upper", (0.0, 1.0)), ("all", (0.0, 0.5))):
        config = train.Config(run_dir=tmp_path / name, max_steps=2, trackers=(), **settings)
        config.unfreeze_upper, config.unfreeze_all = shares
        train.main(config)
    pretrained = load_file(weights)
    ends = {name: load_file(tmp_path / name / "weights" / "final.safetensors") for name in ("head", "upper", "all")}

    changed = {name: compare(end, pretrained)[1] for name, end in ends.items()}
    assert changed["head"] == {"fc.weight", "fc.bias"}
    assert changed["head"] < changed["upper"] < changed["all"]
    assert {name for name in pretrained if "running_mean" in name} <= changed["all"]


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_model_hold_all_of_its_weights_and_the_last_is_its_head(name):
    with torch.device("meta"):  # shapes without memory
        model = get_model(name, num_classes=7)
    own = list(model.parameters(recurse=False))  # such as a class token: of the first part, for `param_groups`
    found = [id(weight) for weight in own] + [id(weight) for part in parts(model) for weight in part.parameters()]
    assert sorted(found) == sorted(id(weight) for weight in model.parameters())
    assert list(parts(model)[-1].parameters())[-1].shape == (7,)
    assert not any(isinstance(part, nn.Sequential | nn.ModuleList) for part in model.children() if part in parts(model))
