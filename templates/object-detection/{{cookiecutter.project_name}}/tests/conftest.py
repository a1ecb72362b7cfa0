"""Test data, and settings for small runs."""

# % if cookiecutter.data == "coco"
import json
from pathlib import Path

from PIL import Image
import pytest
import torch


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small noise images, all but the first with a bright square."""
    generator = torch.Generator().manual_seed(0)
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    for split, size in (("train", 40), ("test", 4)):
        folder = tmp_path / "scenes" / split
        folder.mkdir(parents=True)
        images, annotations = [], []
        for index in range(size):
            pixels = torch.randint(100, (48, 64, 3), dtype=torch.uint8, generator=generator)
            if index:
                pixels[10:30, index : index + 20] = 255
                annotations.append({"image_id": index, "category_id": (3, 7)[index % 2], "bbox": [index, 10, 20, 20]})
            Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
            images.append({"id": index, "file_name": f"{index}.png"})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations.json").write_text(json.dumps(content))
    return tmp_path / "scenes"
# % else
import pytest

import data
# % endif


@pytest.fixture
# % if cookiecutter.data == "coco"
def settings(data_dir: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {
        "data_dir": data_dir,
        "image_size": 64,
        "num_workers": 0,
        "global_batch_size": 4,
    }
# % else
def settings(monkeypatch) -> dict[str, object]:
    """Settings for a small run."""
    monkeypatch.setattr(data, "SIZES", {"train": 64, "eval": 8, "test": 8})
    return {"global_batch_size": 4}
# % endif
