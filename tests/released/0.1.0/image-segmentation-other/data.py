"""The images and their masks: a folder of your own.

data/classes.txt                the name of a class on each line: the first is that of the pixels that are 0
data/train/images/NAME.jpg      or another format
data/train/masks/NAME.png       as large as its image: for each pixel the number of its class, or 255 for none
data/test/images/, data/test/masks/
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from paccel.runtime import DataError
from PIL import Image
import torch
from torch.utils.data import Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

IGNORE = 255  # what a mask holds where a pixel has no class: it counts neither in the loss nor in the scores


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]  # by their numbers in the masks


def read_classes(path: Path) -> list[str]:
    """The names of the classes, a line for each.

    Raises:
        DataError: The file is not there, or has fewer than two different names, or more than there are numbers for.
    """
    if not path.is_file():
        raise DataError(f"`{path}` is not there: write the names of the classes into it, a line for each")
    classes = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not 2 <= len(set(classes)) == len(classes) <= IGNORE:
        raise DataError(f"`{path}` needs 2 to {IGNORE} different names, a line for each, and has {classes}")
    return classes


def pair_files(folder: Path) -> list[tuple[Path, Path]]:
    """Each image of a folder with its mask, by their names.

    Raises:
        DataError: There are no images, or some have no mask, or masks no image; names the first of them.
    """

    def files(name: str, endings: tuple[str, ...]) -> dict[str, Path]:
        if not (folder / name).is_dir():
            raise DataError(f"`{folder / name}` is no folder: put {name} there, or name a place by `--data-dir`")
        return {path.stem: path for path in sorted((folder / name).iterdir()) if path.suffix.lower() in endings}

    images, masks = files("images", IMG_EXTENSIONS), files("masks", (".png",))  # JPEG would change a mask's numbers
    if not images:
        raise DataError(f"`{folder / 'images'}` has no images")
    problems = [
        f"`{images[name]}` has no mask `{folder / 'masks' / name}.png`" for name in sorted(images.keys() - masks)
    ]
    problems += [f"`{masks[name]}` has no image of that name" for name in sorted(masks.keys() - images)]
    if problems:
        raise DataError("\n".join([f"{len(problems)} files in `{folder}` have no partner:", *problems[:10]]))
    return [(image, masks[name]) for name, image in images.items()]


def read_mask(path: Path) -> np.ndarray:
    """The numbers of the classes, (H, W) int64.

    Raises:
        DataError: The file has colours, not one number for each pixel.
    """
    with Image.open(path) as image:
        if len(image.getbands()) > 1:
            raise DataError(f"it has {image.mode} colours where a mask has one number for each pixel")
        return np.array(image, dtype=np.int64)  # of an image with a palette, the numbers and not the colours


def check_files(data_dir: Path, num_classes: int, part: int, parts: int) -> list[int]:
    """Decode every image and mask once, or one in `parts` of them: better now than in the third epoch.

    Returns:
        The numbers of the classes that occur in these masks.

    Raises:
        DataError: Some cannot be read or do not fit together; names the first of them.
    """

    def look(pair: tuple[Path, Path]) -> tuple[set[int], str | None]:
        path, mask_path = pair
        try:
            with Image.open(path) as image:
                image.load()
            path = mask_path
            mask = read_mask(mask_path)
        except (OSError, SyntaxError, ValueError) as error:
            return set(), f"`{path}` cannot be read: {error}"
        if image.size != mask.shape[::-1]:
            sizes = f"{mask.shape[1]} by {mask.shape[0]} pixels and its image {image.size[0]} by {image.size[1]}"
            return set(), f"`{mask_path}` has {sizes}"
        found = set(np.unique(mask).tolist()) - {IGNORE}
        wrong = sorted(number for number in found if not 0 <= number < num_classes)
        if wrong:
            return set(), f"`{mask_path}` has {wrong[:5]}, none of 0 to {num_classes - 1} nor {IGNORE}"
        return found, None

    pairs = [pair for split in ("train", "test") for pair in pair_files(data_dir / split)]
    with ThreadPoolExecutor() as pool:  # decoding does not hold Python's lock
        seen = list(pool.map(look, pairs[part::parts]))
    problems = [problem for _, problem in seen if problem]
    if problems:
        raise DataError("\n".join([f"{len(problems)} files cannot be trained on:", *problems[:10]]))
    return sorted(set().union(*(found for found, _ in seen)))


def check_classes(found: set[int]) -> None:
    """Raise DataError where all masks together hold one class, or none."""
    if len(found) < 2:
        held = f"nothing but class {found.pop()}" if found else "no class"
        raise DataError(f"The masks hold {held} (and {IGNORE} for pixels without one): there is nothing to tell apart")


class MaskedImages(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images with their masks, transformed together."""

    def __init__(self, pairs: list[tuple[Path, Path]], transform: v2.Transform) -> None:
        self.pairs, self.transform = pairs, transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, mask_path = self.pairs[index]
        with Image.open(path) as image:
            return self.transform(tv_tensors.Image(image.convert("RGB")), tv_tensors.Mask(read_mask(mask_path)))


def make_splits(data_dir: Path, image_size: int) -> Splits:
    """Images (3, image_size, image_size) float32 with pixels from 0 to 1, masks (image_size, image_size) int64.

    Of the training images, 1 in 10 is for eval. All are brought to one size, and scored at that size.
    """
    to_tensors = [v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True), v2.ToPureTensor()]
    crop = v2.RandomResizedCrop(image_size, scale=(0.5, 1.0))
    augmented = v2.Compose([crop, v2.RandomHorizontalFlip(), *to_tensors])
    plain = v2.Compose([v2.Resize((image_size, image_size)), *to_tensors])

    classes = read_classes(data_dir / "classes.txt")
    known, test = pair_files(data_dir / "train"), pair_files(data_dir / "test")
    if len(known) < 2:
        raise DataError(f"`{data_dir / 'train' / 'images'}` has 1 image: two are needed, one of them for eval")
    fixed = torch.Generator().manual_seed(0)  # the split does not follow the run's seed: scores stay comparable
    order = torch.randperm(len(known), generator=fixed).tolist()
    held_out = max(1, len(known) // 10)
    return Splits(
        Subset(MaskedImages(known, augmented), order[held_out:]),
        Subset(MaskedImages(known, plain), order[:held_out]),
        MaskedImages(test, plain),
        classes,
    )
