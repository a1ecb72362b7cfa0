"""The images: scikit-learn's handwritten digits, written to a folder once; 5 of each class are for training."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from paccel.runtime import DataError
from PIL import Image
from sklearn.datasets import load_digits
import torch
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from model import Preprocessing


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: ImageFolder | Subset[Any]
    eval: ImageFolder | Subset[Any]
    test: ImageFolder
    classes: list[str]


def write_digits(folder: Path) -> None:
    """Write the digits as images, 8 by 8 pixels: 5 of each class for train, 300 for eval, the others for test."""
    digits = load_digits()
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    written: Counter[str] = Counter()
    # The split does not follow the run's seed: scores stay comparable.
    for index in torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0)).tolist():
        label = str(digits.target[index])
        split = "train" if written[label] < 5 else "eval" if written["eval"] < 300 else "test"
        written.update([label, split])
        path = partial / split / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[index] * 255 / 16).astype("uint8")).save(path)  # pixels are 0 to 16
    partial.rename(folder)  # a folder that is there is whole


def read_folder(folder: Path, transform: Callable[[Any], torch.Tensor]) -> ImageFolder:
    """The images of a folder that has a folder for each class.

    Raises:
        DataError: It is not there, holds fewer than two classes, or a class without images.
    """
    if not folder.is_dir():
        raise DataError(
            f"`{folder}` is no folder: put images into `{folder}/<class>/`, or name a place by `--data-dir`"
        )
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise DataError(f"`{folder}` needs a folder of images for each of two classes or more, and has {classes}")
    try:
        return ImageFolder(folder, transform)
    except FileNotFoundError as error:  # a class without images
        raise DataError(f"`{folder}`: {error}") from None


def hold_out(images: ImageFolder) -> tuple[list[int], list[int]]:
    """The numbers of the images to train on, and of those for eval: 1 in 10 of each class, but one at least.

    Raises:
        DataError: A class has one image.
    """
    of_class: dict[int, list[int]] = {label: [] for label in range(len(images.classes))}
    # The split does not follow the run's seed: scores stay comparable.
    for index in torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist():
        of_class[images.targets[index]].append(index)
    if few := [images.classes[label] for label, indices in of_class.items() if len(indices) < 2]:
        raise DataError(
            f"`{images.root}` has one image of {', '.join(few)}: two of each class are needed, one for eval, or a "
            f"folder `{Path(images.root).with_name('eval')}`"
        )
    held_out = [index for indices in of_class.values() for index in indices[: max(1, len(indices) // 10)]]
    kept = [index for indices in of_class.values() for index in indices[max(1, len(indices) // 10) :]]
    return kept, held_out


def check_images(data_dir: Path, part: int, parts: int) -> None:
    """Decode every image once, or one in `parts` of them: better now than in the third epoch.

    Raises:
        DataError: Some cannot be read; names the first of them.
    """

    def problem(path: str) -> str | None:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as error:
            return f"`{path}` cannot be read: {error}"
        return None

    splits = [data_dir / split for split in ("train", "eval", "test") if (data_dir / split).is_dir()]
    paths = [path for split in splits for path, _ in ImageFolder(split).samples]
    with ThreadPoolExecutor() as pool:  # decoding does not hold Python's lock
        problems = [found for found in pool.map(problem, paths[part::parts]) if found]
    if problems:
        raise DataError("\n".join([f"{len(problems)} images are damaged; remove or replace them:", *problems[:10]]))


def make_splits(data_dir: Path, seen: Preprocessing) -> Splits:
    """Images (3, size, size) float32, normalised as the weights expect, labels int64.

    Reads `data_dir/train/<class>/*`, `data_dir/test/<class>/*` and, where it is there, `data_dir/eval/<class>/*`; else
    1 in 10 training images of each class, but one at least, is for eval.
    """
    to_tensor = [transforms.ToTensor(), transforms.Normalize(seen.mean, seen.std)]
    augmented = transforms.Compose(
        [
            transforms.Resize((seen.size, seen.size), seen.interpolation),
            transforms.RandomAffine(12, (0.1, 0.1), (0.85, 1.15), 10, transforms.InterpolationMode.BILINEAR),
            *to_tensor,
        ]
    )
    plain = transforms.Compose([transforms.Resize((seen.size, seen.size), seen.interpolation), *to_tensor])

    train, test = read_folder(data_dir / "train", augmented), read_folder(data_dir / "test", plain)
    if train.classes != test.classes:
        raise DataError(f"`{data_dir}` has other classes in train, {train.classes}, than in test, {test.classes}")
    if (data_dir / "eval").is_dir():
        eval = read_folder(data_dir / "eval", plain)
        if train.classes != eval.classes:
            raise DataError(f"`{data_dir}` has other classes in train, {train.classes}, than in eval, {eval.classes}")
        return Splits(train, eval, test, train.classes)

    kept, held_out = hold_out(train)
    unaugmented = read_folder(data_dir / "train", plain)
    return Splits(Subset(train, kept), Subset(unaugmented, held_out), test, train.classes)
