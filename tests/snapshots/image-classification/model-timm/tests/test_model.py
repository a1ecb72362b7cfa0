"""Published weights are taken by timm's own calls, and what there is not is named."""

from paccel.runtime import ConfigError
import pytest
from safetensors.torch import save_file
import timm
import torch

from model import make_model, make_optimizer

NAME = "test_resnet"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights for ImageNet's classes, where timm looks before it downloads."""
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


def test_published_weights_are_taken_but_for_a_new_head(published):
    ours = make_model(NAME, 3, 10, pretrained=True).state_dict()
    assert {key for key, value in ours.items() if not torch.equal(value, published[key])} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_number_of_channels_are_classified(channels):
    assert make_model(NAME, channels, 10).eval()(torch.zeros(2, channels, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["resnet1888", "resnet18.nobodys", "hf-hub:no name"])
def test_a_model_that_there_is_not_is_named(name):
    with pytest.raises(ConfigError, match=f"The model `{name}` cannot be loaded: .*list_models"):
        make_model(name, 3, 10)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("adamm", "cannot be made: .*; timm has adabelief, .*adamw, "), ("adahessian", "needs second derivatives")],
)
def test_an_optimizer_that_there_is_not_or_that_needs_another_loop_is_named(name, problem):
    with pytest.raises(ConfigError, match=f"The optimizer `{name}` {problem}"):
        make_optimizer(torch.nn.Linear(2, 2), name, 0.1, 0.01)
