"""Published weights are taken wherever they fit, by torchvision's own calls, and batch norms keep what they have."""

from paccel.runtime import ConfigError
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from model import keep_statistics, make_model

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


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
    ours = make_model(NAME, 3, 64, pretrained=True).state_dict()
    others = {key for key, value in ours.items() if not torch.equal(value, published[key])}
    layers = ("cls_score", "bbox_pred")
    assert others == {f"roi_heads.box_predictor.{layer}.{name}" for layer in layers for name in ("weight", "bias")}


def test_batch_norms_keep_their_statistics():
    model = make_model(NAME, 3, 64).train()
    keep_statistics(model)
    before = {name: value.clone() for name, value in model.named_buffers()}
    target = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    assert model([torch.rand(3, 64, 64)], [target])
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_model_that_there_is_not_or_for_another_task_is_named():
    for name in ("fasterrcnn_nowhere", "resnet18", "maskrcnn_resnet50_fpn"):
        with pytest.raises(ConfigError, match=f"The model `{name}` cannot be built: .* {NAME}"):
            make_model(name, 3, 64)
