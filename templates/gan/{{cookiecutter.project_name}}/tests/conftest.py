"""Test data, and settings for small runs."""

# % if cookiecutter.data != "digits"
from pathlib import Path

# % endif
# % if cookiecutter.data == "folder"
from PIL import Image
# % endif
import pytest
# % if cookiecutter.data != "digits"
import torch
# % endif

import judge


# % if cookiecutter.data == "mnist"
def write_idx(path: Path, array: torch.Tensor) -> None:
    """Write a tensor in MNIST's file format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.dim()]) + shape + array.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A small MNIST of noise, where torchvision looks for MNIST."""
    generator = torch.Generator().manual_seed(0)
    for name, size in (("train", 240), ("t10k", 60)):
        images = torch.randint(256, (size, 28, 28), generator=generator)
        write_idx(tmp_path / "MNIST" / "raw" / f"{name}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{name}-labels-idx1-ubyte", torch.arange(size) % 10)
    return tmp_path
# % elif cookiecutter.data == "folder"
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
# % endif


@pytest.fixture
# % if cookiecutter.data == "digits"
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
# % else
def settings(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
# % endif
    """Settings for a small run, with a judge that trains for a few steps."""
    monkeypatch.setattr(judge, "STEPS", 5)
    return {
        # % if cookiecutter.data != "digits"
        "data_dir": data_dir,
        # % endif
        # % if cookiecutter.data == "folder"
        "image_size": 16,
        # % endif
        "global_batch_size": 32,
        "num_generated": 100,
    }
