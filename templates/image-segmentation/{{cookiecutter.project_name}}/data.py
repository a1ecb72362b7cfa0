# % if cookiecutter.data == "scenes"
"""The data: scenes composed of scikit-learn's handwritten digits, with masks; see `scenes.py`."""
# % else
"""The data: your own images and masks.

    data/classes.txt                one class name per line; the first is class 0
    data/train/images/NAME.jpg      or another image format
    data/train/masks/NAME.png       same size as the image; each pixel is a class index, or 255 for unlabelled
    data/test/images/, data/test/masks/
"""
# % endif

# % if cookiecutter.data == "folder"
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
# % endif
from typing import Any, NamedTuple

# % if cookiecutter.data == "folder"
import numpy as np
# % if cookiecutter.model == "small"
from paccel.runtime import ConfigError, DataError
# % else
from paccel.runtime import DataError
# % endif
from PIL import Image
# % endif
import torch
# % if cookiecutter.data == "scenes"
from torch.utils.data import Dataset, TensorDataset

from scenes import make_scene, split_digits
# % else
from torch.utils.data import Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2
# % endif

IGNORE = 255  # mask value of unlabelled pixels, which count neither in the loss nor in the scores
# % if cookiecutter.data == "scenes"
SIZES = {"train": 1500, "eval": 200, "test": 200}  # scenes in each split
# % endif


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]  # by class index


# % if cookiecutter.data == "scenes"
def make_splits() -> Splits:
    """Images (3, 64, 64) float32 with pixels in [0, 1], masks (64, 64) int64: 0 is background, 1 is digit 0, …"""
    digits = split_digits()

    def compose(name: str, first_seed: int) -> TensorDataset:
        scenes = [make_scene(*digits[name], seed=first_seed + index) for index in range(SIZES[name])]
        return TensorDataset(torch.stack([s.image for s in scenes]), torch.stack([s.mask for s in scenes]))

    train, eval, test = (compose(name, number * 1_000_000) for number, name in enumerate(SIZES))
    return Splits(train, eval, test, classes=["background", *map(str, range(10))])
# % else
def read_classes(path: Path) -> list[str]:
    """Read the class names, one per line.

    Raises:
        DataError: The file does not exist, has fewer than two distinct names, or too many.
    """
    if not path.is_file():
        raise DataError(f"`{path}` does not exist: write one class name per line into it")
    classes = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not 2 <= len(set(classes)) == len(classes) <= IGNORE:
        raise DataError(f"`{path}` needs 2 to {IGNORE} distinct class names, one per line, but has {classes}")
    return classes


def pair_files(folder: Path) -> list[tuple[Path, Path]]:
    """Pair the images and masks of a folder by name.

    Raises:
        DataError: There are no images, or some have no mask, or masks no image; the first ten are listed.
    """

    def files(name: str, endings: tuple[str, ...]) -> dict[str, Path]:
        if not (folder / name).is_dir():
            raise DataError(f"`{folder / name}` does not exist: put {name} there, or set `--data-dir`")
        return {path.stem: path for path in sorted((folder / name).iterdir()) if path.suffix.lower() in endings}

    images, masks = files("images", IMG_EXTENSIONS), files("masks", (".png",))  # JPEG would change class indices
    if not images:
        raise DataError(f"`{folder / 'images'}` has no images")
    problems = [f"`{images[name]}` has no mask `{folder / 'masks' / name}.png`" for name in sorted(images.keys() - masks)]
    problems += [f"`{masks[name]}` has no image of that name" for name in sorted(masks.keys() - images)]
    if problems:
        raise DataError("\n".join([f"{len(problems)} files in `{folder}` have no counterpart:", *problems[:10]]))
    return [(image, masks[name]) for name, image in images.items()]


def read_mask(path: Path) -> np.ndarray:
    """Read the class indices, (H, W) int64.

    Raises:
        DataError: The file has colour channels instead of one class index per pixel.
    """
    with Image.open(path) as image:
        if len(image.getbands()) > 1:
            raise DataError(f"it is an {image.mode} image; a mask needs a single channel of class indices")
        return np.array(image, dtype=np.int64)  # for palette images: indices, not colours


def check_files(data_dir: Path, num_classes: int, part: int, parts: int) -> list[int]:
    """Decode every image and mask once, to find bad ones before training; each process checks its part.

    Returns:
        The class indices that occur in these masks.

    Raises:
        DataError: Some cannot be read or do not fit together; the first ten are listed.
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
            sizes = f"{mask.shape[1]} by {mask.shape[0]} pixels but its image {image.size[0]} by {image.size[1]}"
            return set(), f"`{mask_path}` has {sizes}"
        found = set(np.unique(mask).tolist()) - {IGNORE}
        wrong = sorted(number for number in found if not 0 <= number < num_classes)
        if wrong:
            return set(), f"`{mask_path}` has class indices {wrong[:5]}, which are neither 0 to {num_classes - 1} nor {IGNORE}"
        return found, None

    pairs = [pair for split in ("train", "test") for pair in pair_files(data_dir / split)]
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        seen = list(pool.map(look, pairs[part::parts]))
    problems = [problem for _, problem in seen if problem]
    if problems:
        raise DataError("\n".join([f"{len(problems)} files cannot be trained on:", *problems[:10]]))
    return sorted(set().union(*(found for found, _ in seen)))


def check_classes(found: set[int]) -> None:
    """Raise DataError if all masks together contain fewer than two classes."""
    if len(found) < 2:
        held = f"only class {found.pop()}" if found else "no class"
        raise DataError(f"The masks contain {held} (besides {IGNORE} for unlabelled pixels); at least two are needed")


class MaskedImages(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images and masks, transformed together."""

    def __init__(self, pairs: list[tuple[Path, Path]], transform: v2.Transform) -> None:
        self.pairs, self.transform = pairs, transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, mask_path = self.pairs[index]
        with Image.open(path) as image:
            return self.transform(tv_tensors.Image(image.convert("RGB")), tv_tensors.Mask(read_mask(mask_path)))


def make_splits(data_dir: Path, image_size: int) -> Splits:
    """Images (3, image_size, image_size) float32 with pixels in [0, 1], masks (image_size, image_size) int64.

    1 in 10 training images is for eval. All images are resized to one size and scored at that size.
    """
    # % if cookiecutter.model == "small"
    if image_size % 8:
        raise ConfigError(f"`image_size` must be a multiple of 8, as the model halves it three times, not {image_size}")
    # % endif
    to_tensors = [v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True), v2.ToPureTensor()]
    crop = v2.RandomResizedCrop(image_size, scale=(0.5, 1.0))
    augmented = v2.Compose([crop, v2.RandomHorizontalFlip(), *to_tensors])
    plain = v2.Compose([v2.Resize((image_size, image_size)), *to_tensors])

    classes = read_classes(data_dir / "classes.txt")
    known, test = pair_files(data_dir / "train"), pair_files(data_dir / "test")
    if len(known) < 2:
        raise DataError(f"`{data_dir / 'train' / 'images'}` has 1 image; at least two are needed, one of them for eval")
    fixed = torch.Generator().manual_seed(0)  # not the run's seed, so the split stays the same
    order = torch.randperm(len(known), generator=fixed).tolist()
    held_out = max(1, len(known) // 10)
    return Splits(
        Subset(MaskedImages(known, augmented), order[held_out:]),
        Subset(MaskedImages(known, plain), order[:held_out]),
        MaskedImages(test, plain),
        classes,
    )
# % endif
