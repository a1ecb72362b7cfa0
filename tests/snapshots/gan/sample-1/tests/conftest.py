"""The data that the tests train on, and the settings that make a run small."""

from pathlib import Path

import pytest
import torch


def write_idx(path: Path, array: torch.Tensor) -> None:
    """Write bytes in MNIST's own file format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.dim()]) + shape + array.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A small MNIST of noise, where torchvision looks for the real one."""
    generator = torch.Generator().manual_seed(0)
    for name, size in (("train", 240), ("t10k", 60)):
        images = torch.randint(256, (size, 28, 28), generator=generator)
        write_idx(tmp_path / "MNIST" / "raw" / f"{name}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{name}-labels-idx1-ubyte", torch.arange(size) % 10)
    return tmp_path


@pytest.fixture
def settings(data_dir: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "data_dir": data_dir,
        "global_batch_size": 32,
        "num_generated": 100,
    }
