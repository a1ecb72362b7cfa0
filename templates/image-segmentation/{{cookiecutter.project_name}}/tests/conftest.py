"""Test data, and settings for small runs."""

# % if cookiecutter.data == "folder"
from pathlib import Path

from PIL import Image
import pytest
import torch


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small noise images, each with a bright square of the second class and an unlabelled corner."""
    generator = torch.Generator().manual_seed(0)
    folder = tmp_path / "scenes"
    for split, size in (("train", 80), ("test", 4)):
        for index in range(size):
            pixels = torch.randint(100, (48, 64, 3), dtype=torch.uint8, generator=generator)
            mask = torch.zeros(48, 64, dtype=torch.uint8)
            left = index % 40
            pixels[10:30, left : left + 20] = 255
            mask[10:30, left : left + 20] = 1
            mask[:4, :4] = 255
            for name, picture in (("images", pixels), ("masks", mask)):
                (folder / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture.numpy()).save(folder / split / name / f"{index}.png")
    (folder / "classes.txt").write_text("ground\nsquare\n")
    return folder
# % else
import pytest

import data
# % endif


@pytest.fixture
# % if cookiecutter.data == "folder"
def settings(data_dir: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {
        "data_dir": data_dir,
        "image_size": 32,
        "num_workers": 0,
        "global_batch_size": 8,
    }
# % else
def settings(monkeypatch) -> dict[str, object]:
    """Settings for a small run."""
    monkeypatch.setattr(data, "SIZES", {"train": 64, "eval": 8, "test": 8})
    return {"global_batch_size": 8}
# % endif
