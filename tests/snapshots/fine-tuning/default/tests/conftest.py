"""Test images, pretrained weights, and settings for small runs."""

from pathlib import Path

from PIL import Image
import pytest
import timm
import torch


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small noise images of two classes."""
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 80), ("test", 8)):
        for index in range(size):
            path = tmp_path / "images" / split / ("cats", "dogs")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(256, (48, 40, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(path)
    return tmp_path / "images"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small model for five classes, with batch norms, in a folder in timm's format."""
    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay={"input_size": (3, 32, 32)})
    timm.models.save_for_hf(model, str(tmp_path / "pretrained"), safe_serialization=True)
    return tmp_path / "pretrained" / "model.safetensors"


@pytest.fixture
def settings(data_dir: Path, weights: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {"data_dir": data_dir, "model": f"local-dir:{weights.parent}", "global_batch_size": 16, "num_workers": 0}
