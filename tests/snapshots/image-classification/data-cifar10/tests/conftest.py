"""The data that the tests train on, and the settings that make a run small."""

import hashlib
from pathlib import Path
import pickle

import pytest
import torch
from torchvision.datasets import CIFAR10


@pytest.fixture
def data_dir(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 of noise in the real one's file format, with its own checksums."""
    if request.path.stem in ("test_notebook", "test_search"):
        pytest.skip("it trains in another process, which takes no CIFAR-10 but the real one")
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


@pytest.fixture
def settings(data_dir: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "data_dir": data_dir,
        "global_batch_size": 32,
    }
