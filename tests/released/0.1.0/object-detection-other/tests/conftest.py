"""The data that the tests train on, and the settings that make a run small."""

import json
from pathlib import Path

from PIL import Image
import pytest
import torch


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small images of noise, with a bright square on each but the first."""
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


@pytest.fixture
def settings(data_dir: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "data_dir": data_dir,
        "image_size": 64,
        "num_workers": 0,
        "global_batch_size": 4,
    }
