"""The data that the tests train on, and the settings that make a run small."""

from pathlib import Path

from PIL import Image
import pytest
import torch


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small images of noise, with a bright square of the second class on each, and one corner without a class."""
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


@pytest.fixture
def settings(data_dir: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "data_dir": data_dir,
        "image_size": 32,
        "num_workers": 0,
        "global_batch_size": 8,
    }
