"""The images that the tests train on, the weights that they start from, and the settings that make a run small."""

from pathlib import Path

from PIL import Image
import pytest
from safetensors.torch import save_file
import torch
from torchvision.models import get_model


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small images of noise in two classes."""
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
    """A small network for five classes, with its batch norms, in a file."""
    torch.manual_seed(1)
    save_file(get_model("shufflenet_v2_x0_5", num_classes=5).state_dict(), tmp_path / "pretrained.safetensors")
    return tmp_path / "pretrained.safetensors"


@pytest.fixture
def settings(data_dir: Path, weights: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    model = {"model": "shufflenet_v2_x0_5", "weights": str(weights), "image_size": 32}
    return {"data_dir": data_dir, **model, "global_batch_size": 16, "num_workers": 0}
