"""Test images, pretrained weights, and settings for small runs."""

from pathlib import Path

from PIL import Image
import pytest
# % if cookiecutter.model == "torchvision"
from safetensors.torch import save_file
# % else
import timm
# % endif
import torch
# % if cookiecutter.model == "torchvision"
from torchvision.models import get_model
# % endif


# % include "images/noise.py"


# % if cookiecutter.model == "timm"
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
# % else
@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small model for five classes, with batch norms, in a file."""
    torch.manual_seed(1)
    save_file(get_model("shufflenet_v2_x0_5", num_classes=5).state_dict(), tmp_path / "pretrained.safetensors")
    return tmp_path / "pretrained.safetensors"


@pytest.fixture
def settings(data_dir: Path, weights: Path) -> dict[str, object]:
    """Settings for a small run."""
    model = {"model": "shufflenet_v2_x0_5", "weights": str(weights), "image_size": 32}
    return {"data_dir": data_dir, **model, "global_batch_size": 16, "num_workers": 0}
# % endif
