"""Published weights are taken wherever they fit, by torchvision's own calls."""

from paccel.runtime import ConfigError
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from model import make_model

NAME = "lraspp_mobilenet_v3_large"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights for as many classes as the published ones have, where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = get_model(NAME, weights=None, weights_backbone=None).state_dict()
    path = tmp_path / "hub" / "checkpoints" / get_model_weights(NAME).DEFAULT.url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    torch.save(weights, path)
    return weights


def test_all_but_the_layers_that_know_the_classes_are_taken(published):
    ours = make_model(NAME, 3, pretrained=True).get_submodule("network").state_dict()
    others = {key for key, value in ours.items() if not torch.equal(value, published[key])}
    heads = {"classifier.low_classifier", "classifier.high_classifier"}
    assert others == {f"{head}.{name}" for head in heads for name in ("weight", "bias")}


def test_logits_are_as_large_as_the_images():
    model = make_model(NAME, 3).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 40, 56)).shape == (1, 3, 40, 56)


def test_a_model_that_there_is_not_or_for_another_task_is_named():
    for name in ("fcn_nowhere", "resnet18", "fasterrcnn_resnet50_fpn"):
        with pytest.raises(ConfigError, match=f"The model `{name}` cannot be built: .* {NAME}"):
            make_model(name, 3)
