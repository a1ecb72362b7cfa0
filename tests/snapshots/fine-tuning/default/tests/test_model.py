"""Pretrained weights are loaded, and do not change while they are frozen."""

import pytest
from safetensors.torch import load_file, save_file
import timm
import torch
from torch import nn

from model import make_model, parts, preprocessing
import pretrain
import train

NAME = "test_resnet"
NAMES = [NAME, "test_vit", "test_convnext", "test_efficientnet"]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """ImageNet weights in the cache where timm looks before it downloads."""
    weights = timm.create_model(NAME).state_dict()
    published_as = timm.get_pretrained_cfg(NAME)
    assert published_as is not None
    folder = tmp_path / f"models--{str(published_as.hf_hub_id).replace('/', '--')}"
    for path in (folder / "refs", folder / "snapshots" / "main"):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text("main")
    save_file(weights, folder / "snapshots" / "main" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return weights


def compare(one, other):
    """Return the names of equal tensors and of different ones."""
    assert one.keys() == other.keys()
    equal = {name for name in one if one[name].shape == other[name].shape and torch.equal(one[name], other[name])}
    return equal, one.keys() - equal


def test_the_weights_are_those_of_the_file_but_for_a_new_head(weights, settings):
    model = make_model(settings["model"], 2, pretrained=True)
    _, new = compare(model.state_dict(), load_file(weights))
    assert new == {"fc.weight", "fc.bias"}
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 2)
    assert preprocessing(settings["model"], settings.get("image_size")).size == 32


def test_pretrained_weights_are_loaded_except_the_head(published):
    model = make_model(NAME, 2, pretrained=True)
    assert compare(model.state_dict(), published)[1] == {"fc.weight", "fc.bias"}


def test_unknown_names_are_named(settings, tmp_path):
    for name in ("resnet1888", "local-dir:nowhere", "hf-hub:no name"):
        with pytest.raises(ValueError, match=f"The model `{name}` cannot be loaded"):
            train.main(train.Config(run_dir=tmp_path / "run", trackers=(), **{**settings, "model": name}))


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
    model = timm.create_model(name, num_classes=7)
    own = list(model.parameters(recurse=False))  # such as a class token; `param_groups` puts it into the first layer
    found = [id(weight) for weight in own] + [id(weight) for part in parts(model) for weight in part.parameters()]
    assert sorted(found) == sorted(id(weight) for weight in model.parameters())
    assert list(parts(model)[-1].parameters())[-1].shape == (7,)
    assert not any(isinstance(part, nn.Sequential | nn.ModuleList) for part in model.children() if part in parts(model))


def test_pretraining_writes_weights_that_can_be_started_from_and_leaves_no_trace(tmp_path):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    pretrain.make(tmp_path / "pretrained", steps=4)
    model = f"local-dir:{tmp_path / 'pretrained'}"
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert (preprocessing(model).size, preprocessing(model).mean) == (32, (0.5, 0.5, 0.5))
    make_model(model, 10, pretrained=True)
