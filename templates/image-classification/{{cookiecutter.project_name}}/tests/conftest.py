"""Test data, and settings for small runs."""

# % if cookiecutter.data == "cifar10"
import hashlib
# % endif
# % if cookiecutter.data != "digits"
from pathlib import Path
# % endif
# % if cookiecutter.data == "cifar10"
import pickle
# % endif

# % if cookiecutter.data == "folder"
from PIL import Image
# % endif
import pytest
# % if cookiecutter.data != "digits"
import torch
# % endif
# % if cookiecutter.data == "cifar10"
from torchvision.datasets import CIFAR10
# % endif


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
# % elif cookiecutter.data == "cifar10"
@pytest.fixture
def data_dir(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 of noise in CIFAR-10's file format, with its own checksums."""
    if request.path.stem in ("test_notebook", "test_search"):
        pytest.skip("trains in another process, which checks the checksums of CIFAR-10")
    generator = torch.Generator().manual_seed(0)

    def write(name: str, content: object) -> str:
        path = tmp_path / CIFAR10.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return hashlib.md5(path.read_bytes()).hexdigest()

    for split, size in (("train", 240), ("test", 60)):
        pixels = torch.randint(256, (size, 3 * 32 * 32), dtype=torch.uint8, generator=generator)
        checksum = write(split, {"data": pixels.numpy(), "labels": [index % 10 for index in range(size)]})
        monkeypatch.setattr(CIFAR10, f"{split}_list", [(split, checksum)])
    names = {"label_names": list("0123456789")}
    meta = {"filename": "meta", "key": "label_names", "md5": write("meta", names)}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return tmp_path
# % elif cookiecutter.data == "folder"
# % include "images/noise.py"
# % endif


@pytest.fixture
# % if cookiecutter.data == "digits"
def settings() -> dict[str, object]:
# % else
def settings(data_dir: Path) -> dict[str, object]:
# % endif
    """Settings for a small run."""
    return {
        # % if cookiecutter.data != "digits"
        "data_dir": data_dir,
        # % endif
        # % if cookiecutter.data == "folder"
        "image_size": 32,
        "num_workers": 0,
        # % endif
        "global_batch_size": 32,
    }
