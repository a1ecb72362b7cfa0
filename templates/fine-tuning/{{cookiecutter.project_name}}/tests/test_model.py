"""Pretrained weights are loaded, and do not change while they are frozen."""

import pytest
# % if cookiecutter.model == "timm"
from safetensors.torch import load_file, save_file
import timm
# % else
from safetensors.torch import load_file
# % endif
import torch
from torch import nn
# % if cookiecutter.model == "torchvision"
from torchvision.models import get_model, get_model_weights
# % endif

from model import make_model, parts, preprocessing
# % if cookiecutter.data == "digits"
import pretrain
# % endif
import train

# % if cookiecutter.model == "timm"
NAME = "test_resnet"
NAMES = [NAME, "test_vit", "test_convnext", "test_efficientnet"]
# % else
NAME = "shufflenet_v2_x0_5"
NAMES = ["resnet18", "vit_b_16", "convnext_tiny", "mobilenet_v3_small", "swin_t"]
# % endif


# % include "images/published.py"


def compare(one, other):
    """Return the names of equal tensors and of different ones."""
    assert one.keys() == other.keys()
    equal = {name for name in one if one[name].shape == other[name].shape and torch.equal(one[name], other[name])}
    return equal, one.keys() - equal


def test_the_weights_are_those_of_the_file_but_for_a_new_head(weights, settings):
    # % if cookiecutter.model == "timm"
    model = make_model(settings["model"], 2, pretrained=True)
    # % else
    model = make_model(settings["model"], 2, weights=settings["weights"])
    # % endif
    _, new = compare(model.state_dict(), load_file(weights))
    assert new == {"fc.weight", "fc.bias"}
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 2)
    assert preprocessing(settings["model"], settings.get("image_size")).size == 32


def test_pretrained_weights_are_loaded_except_the_head(published):
    # % if cookiecutter.model == "timm"
    model = make_model(NAME, 2, pretrained=True)
    # % else
    model = make_model(NAME, 2, weights="DEFAULT")
    # % endif
    assert compare(model.state_dict(), published)[1] == {"fc.weight", "fc.bias"}


def test_unknown_names_are_named(settings, tmp_path):
    # % if cookiecutter.model == "timm"
    for name in ("resnet1888", "local-dir:nowhere", "hf-hub:no name"):
        with pytest.raises(ValueError, match=f"The model `{name}` cannot be loaded"):
            train.main(train.Config(run_dir=tmp_path / "run", trackers=(), **{**settings, "model": name}))
    # % else
    for wrong, problem in (
        ({"model": "resnet1888"}, "The model `resnet1888` cannot be loaded: torchvision has no classifier"),
        ({"model": "fcn_resnet50"}, "The model `fcn_resnet50` cannot be loaded: torchvision has no classifier"),
        ({"model": "googlenet", "weights": None}, "`googlenet` returns auxiliary logits"),
        ({"weights": "nowhere.safetensors"}, "the weights `nowhere.safetensors` cannot be loaded"),
        ({"weights": "NOBODYS"}, "the weights `NOBODYS` cannot be loaded"),
        ({"model": "mobilenet_v3_small"}, "has no `classifier.3.bias`: its weights belong to a different model than"),
    ):
        with pytest.raises(ValueError, match=problem):
            train.main(train.Config(run_dir=tmp_path / "run", trackers=(), **{**settings, **wrong}))
    # % endif


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
    # % if cookiecutter.model == "timm"
    model = timm.create_model(name, num_classes=7)
    # % else
    with torch.device("meta"):  # shapes without memory
        model = get_model(name, num_classes=7)
    # % endif
    own = list(model.parameters(recurse=False))  # such as a class token; `param_groups` puts it into the first layer
    found = [id(weight) for weight in own] + [id(weight) for part in parts(model) for weight in part.parameters()]
    assert sorted(found) == sorted(id(weight) for weight in model.parameters())
    assert list(parts(model)[-1].parameters())[-1].shape == (7,)
    assert not any(isinstance(part, nn.Sequential | nn.ModuleList) for part in model.children() if part in parts(model))
# % if cookiecutter.data == "digits"


def test_pretraining_writes_weights_that_can_be_started_from_and_leaves_no_trace(tmp_path):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    # % if cookiecutter.model == "timm"
    pretrain.make(tmp_path / "pretrained", steps=4)
    model = f"local-dir:{tmp_path / 'pretrained'}"
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert (preprocessing(model).size, preprocessing(model).mean) == (32, (0.5, 0.5, 0.5))
    make_model(model, 10, pretrained=True)
    # % else
    pretrain.make(tmp_path / "pretrained.safetensors", steps=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    make_model(pretrain.MODEL, 10, weights=str(tmp_path / "pretrained.safetensors"))
    # % endif
# % endif
