"""Published weights are taken by torchvision's own calls, and what there is not is named."""

from paccel.runtime import ConfigError
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from model import make_model

NAME = "shufflenet_v2_x0_5"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights for as many classes as the published ones have, where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = get_model(NAME, weights=None).state_dict()
    path = tmp_path / "hub" / "checkpoints" / get_model_weights(NAME).DEFAULT.url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    torch.save(weights, path)
    return weights


def test_published_weights_are_taken_but_for_a_new_head(published):
    ours = make_model(NAME, 3, 10, pretrained=True).state_dict()
    assert {key for key, value in ours.items() if not torch.equal(value, published[key])} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_number_of_channels_are_classified(channels):
    assert make_model(NAME, channels, 10).eval()(torch.zeros(2, channels, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["resnet1888", "fasterrcnn_resnet50_fpn"])
def test_a_model_that_there_is_not_or_for_another_task_is_named(name):
    with pytest.raises(ConfigError, match=f"The model `{name}` cannot be loaded: .*list_models"):
        make_model(name, 3, 10)


def test_a_model_that_returns_more_than_logits_in_training_is_named():
    with pytest.raises(ConfigError, match="`googlenet` returns logits of three heads"):
        make_model("googlenet", 3, 10)


def test_a_model_that_ends_otherwise_is_named():
    with pytest.raises(ValueError, match="`squeezenet1_1` has no linear layer at its end"):
        make_model("squeezenet1_1", 3, 10)
