"""The images and the boxes in them: a folder of your own, in COCO's format."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from paccel.runtime import DataError
from PIL import Image
import torch
from torch.utils.data import Dataset, Subset
from torchvision.transforms.functional import to_tensor

Target = dict[str, torch.Tensor]  # boxes (objects, 4) float32: left, top, right, bottom in pixels; labels (objects,)
Batch = tuple[list[torch.Tensor], list[Target]]


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]  # of the labels 1, 2, …; 0 is the background


def collate(samples: list[tuple[torch.Tensor, Target]]) -> Batch:
    """Images differ in size and in the number of their objects, so a batch is lists, not tensors."""
    return [image for image, _ in samples], [target for _, target in samples]


class CocoFolder(Dataset[tuple[torch.Tensor, Target]]):
    """A folder of images with `annotations.json` beside them.

    Args:
        folder: The folder.
        flip: Mirror one image in two from left to right, at random.

    Raises:
        DataError: The annotations cannot be trained on; lists what is wrong with them.
    """

    def __init__(self, folder: Path, flip: bool) -> None:
        self.folder, self.flip = folder, flip
        path = folder / "annotations.json"
        try:
            content = json.loads(path.read_text())
            images = {image["id"]: image["file_name"] for image in content["images"]}
            names = {category["id"]: category["name"] for category in content["categories"]}
            boxes = [(each["image_id"], each["category_id"], each["bbox"]) for each in content["annotations"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"`{path}` cannot be read as COCO annotations: {type(error).__name__}: {error}") from None
        self.classes = [names[number] for number in sorted(names)]
        labels = {number: label for label, number in enumerate(sorted(names), start=1)}
        problems = [f"no image `{name}`" for name in images.values() if not (folder / name).is_file()]
        problems += [f"a box of the unknown image {i}" for i, _, _ in boxes if i not in images]
        problems += [f"a box of the unknown category {c}" for _, c, _ in boxes if c not in names]
        problems += [f"a box without extent on image {i}: {box}" for i, _, box in boxes if min(box[2:]) <= 0]
        if not boxes:
            problems.append("there are no boxes")
        for name in images.values():
            try:
                Image.open(folder / name).verify()
            except FileNotFoundError:
                pass  # is among the problems
            except (OSError, SyntaxError) as error:
                problems.append(f"`{name}` is no sound image ({error})")
        if problems:
            more = f", and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise DataError(f"`{path}` cannot be trained on: {'; '.join(problems[:10])}{more}")
        self.files = list(images.values())
        self.boxes = {number: [(labels[c], box) for i, c, box in boxes if i == number] for number in images}
        self.numbers = list(images)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        image = to_tensor(Image.open(self.folder / self.files[index]).convert("RGB"))
        objects = self.boxes[self.numbers[index]]
        boxes = torch.tensor([box for _, box in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # COCO has left, top, width and height
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
            boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
        return image, {"boxes": boxes, "labels": torch.tensor([label for label, _ in objects], dtype=torch.int64)}


def make_splits(data_dir: Path) -> Splits:
    """Images (3, H, W) float32 with pixels from 0 to 1, each of its own size, and a target for each.

    Reads `data_dir/train` and `data_dir/test`, images with `annotations.json` beside them; 1 in 10 of train is eval.
    """
    train, unflipped = CocoFolder(data_dir / "train", flip=True), CocoFolder(data_dir / "train", flip=False)
    test = CocoFolder(data_dir / "test", flip=False)
    if train.classes != test.classes:
        raise DataError(f"`{data_dir}` has other classes in train, {train.classes}, than in test, {test.classes}")
    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
    order = torch.randperm(len(train), generator=fixed).tolist()
    held_out = max(1, len(train) // 10)
    return Splits(Subset(train, order[held_out:]), Subset(unflipped, order[:held_out]), test, train.classes)
