# % if cookiecutter.data == "scenes"
"""The data: scenes composed of scikit-learn's handwritten digits, with boxes; see `scenes.py`."""
# % else
"""The data: your own images with annotations in COCO format."""
# % endif

# % if cookiecutter.data == "coco"
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
import json
import math
from pathlib import Path
# % endif
from typing import Any, NamedTuple
# % if cookiecutter.data == "coco"
from zlib import crc32
# % endif

# % if cookiecutter.data == "coco"
from paccel.runtime import DataError
from PIL import Image
# % endif
import torch
# % if cookiecutter.data == "scenes"
from torch.utils.data import Dataset

from scenes import make_scene, split_digits

SIZES = {"train": 1500, "eval": 200, "test": 200}  # scenes in each split
# % else
from torch.utils.data import Dataset, Subset
from torchvision.transforms.functional import to_tensor
# % endif

Target = dict[str, torch.Tensor]  # boxes (objects, 4) float32: left, top, right, bottom in pixels; labels (objects,)
Batch = tuple[list[torch.Tensor], list[Target]]
# % if cookiecutter.data == "coco"
Objects = list[tuple[int, list[float]]]  # label, and left, top, width and height in pixels
# % endif


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]  # for labels 1, 2, …; 0 is the background
    # % if cookiecutter.data == "coco"
    annotated: list[tuple[Path, Objects]]  # files and their objects
    # % endif


def collate(samples: list[tuple[torch.Tensor, Target]]) -> Batch:
    """Batch as lists, not tensors: images differ in size and in the number of objects."""
    return [image for image, _ in samples], [target for _, target in samples]


# % if cookiecutter.data == "scenes"
class Scenes(Dataset[tuple[torch.Tensor, Target]]):
    """Composed scenes, the same each time."""

    def __init__(self, digits: tuple[torch.Tensor, torch.Tensor], first_seed: int, size: int) -> None:
        self.scenes = [make_scene(*digits, seed=first_seed + index) for index in range(size)]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        scene = self.scenes[index]
        return scene.image, {"boxes": scene.boxes, "labels": scene.digits + 1}


def make_splits() -> Splits:
    """Images (3, 64, 64) float32 with pixels in [0, 1], each with the boxes and labels of its digits."""
    digits = split_digits()
    train, eval, test = (
        Scenes(digits[name], number * 1_000_000, size) for number, (name, size) in enumerate(SIZES.items())
    )
    return Splits(train, eval, test, classes=[str(digit) for digit in range(10)])
# % else
class Annotations(NamedTuple):
    """The images of a folder and their annotations."""

    files: list[Path]
    objects: list[Objects]  # per image
    classes: list[str]  # for labels 1, 2, …


def complain(what: str, problems: list[str]) -> None:
    """Raise DataError with the first ten problems, if any."""
    if problems:
        raise DataError("\n".join([f"{what}; {len(problems)} problems:", *problems[:10]]))


def read_annotations(folder: Path) -> Annotations:
    """Read `annotations.json` of a folder of images, without crowd regions.

    Raises:
        DataError: It cannot be read or trained on.
    """
    path = folder / "annotations.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {image["id"]: folder / image["file_name"] for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        boxes = [
            (each["image_id"], each["category_id"], [float(number) for number in each["bbox"]])
            for each in content["annotations"]
            if not each.get("iscrowd")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"`{path}` cannot be read as COCO annotations: {type(error).__name__}: {error}") from None
    labels = {number: label for label, number in enumerate(sorted(names), start=1)}
    objects: dict[Any, Objects] = {number: [] for number in files}
    problems = [] if boxes else ["there are no boxes"]
    for image, category, box in boxes:
        if image not in files:
            problems.append(f"a box belongs to the unknown image {image}")
        elif category not in labels:
            problems.append(f"a box of image {image} has the unknown category {category}")
        elif len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
            problems.append(f"a box of image {image} is not left, top, width and height with positive size: {box}")
        else:
            objects[image].append((labels[category], box))
    complain(f"`{path}` cannot be trained on", problems)
    return Annotations(list(files.values()), list(objects.values()), [names[number] for number in sorted(names)])


# % include "images/checked.py"


def check_images(data_dir: Path, splits: Splits, part: int, parts: int) -> None:
    """Decode each new image once, to find bad ones before training; each process checks its part.

    Good images are remembered in `data_dir/.checked` and decoded again only when they or their boxes change.

    Raises:
        DataError: Some are missing or damaged, or have boxes outside; the first ten are listed.
    """

    def problem(annotated: tuple[Path, Objects]) -> str | None:
        path, objects = annotated
        try:
            with Image.open(path) as image:
                image.load()
        except FileNotFoundError:
            return f"`{path}` does not exist"
        except (OSError, SyntaxError, ValueError) as error:
            return f"`{path}` cannot be read: {error}"
        for _, (left, top, width, height) in objects:
            if min(left, top) < -1 or left + width > image.width + 1 or top + height > image.height + 1:  # rounding
                box = [left, top, width, height]
                return f"`{path}` has {image.width} by {image.height} pixels, but the box {box} lies outside"
        return None

    known, new = recall(data_dir), {}
    for path, objects in splits.annotated[part::parts]:
        line = f"{crc32(repr(objects).encode())} {stamp(path, data_dir)}"
        if line not in known:
            new[line] = (path, objects)
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        found = dict(zip(new, pool.map(problem, new.values()), strict=True))
    remember(data_dir, part, [line for line, text in found.items() if text is None])
    complain("These images cannot be trained on", [text for text in found.values() if text is not None])


class CocoImages(Dataset[tuple[torch.Tensor, Target]]):
    """Images and their targets; with `flip`, half of them are mirrored horizontally at random."""

    def __init__(self, annotations: Annotations, flip: bool) -> None:
        self.annotations, self.flip = annotations, flip

    def __len__(self) -> int:
        return len(self.annotations.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        with Image.open(self.annotations.files[index]) as opened:
            image = to_tensor(opened.convert("RGB"))
        objects = self.annotations.objects[index]
        boxes = torch.tensor([box for _, box in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # COCO boxes are left, top, width, height
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
            boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
        return image, {"boxes": boxes, "labels": torch.tensor([label for label, _ in objects], dtype=torch.int64)}


def make_splits(data_dir: Path) -> Splits:
    """Images (3, H, W) float32 with pixels in [0, 1], of any size, each with a target.

    Reads `data_dir/train` and `data_dir/test`, each with images and `annotations.json`. 1 in 10 of train is for eval.
    """
    train, test = read_annotations(data_dir / "train"), read_annotations(data_dir / "test")
    if train.classes != test.classes:
        raise DataError(f"`{data_dir}` has different classes in train, {train.classes}, and test, {test.classes}")
    if len(train.files) < 2:
        raise DataError(f"`{data_dir / 'train'}` has 1 image in annotations.json; at least two are needed, one of them for eval")
    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    order = torch.randperm(len(train.files), generator=fixed).tolist()
    held_out = max(1, len(train.files) // 10)
    return Splits(
        Subset(CocoImages(train, flip=True), order[held_out:]),
        Subset(CocoImages(train, flip=False), order[:held_out]),
        CocoImages(test, flip=False),
        train.classes,
        annotated=[pair for each in (train, test) for pair in zip(each.files, each.objects, strict=True)],
    )
# % endif
