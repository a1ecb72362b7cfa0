# % if cookiecutter.data == "digits"
"""The data: scikit-learn's handwritten digits, written to a folder once; 5 of each class are for training."""
# % else
"""The data: your own images, in one folder per class below `train/` and `test/`."""
# % endif

# % if cookiecutter.data == "digits"
from collections import Counter
# % endif
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
# % if cookiecutter.data == "digits"
import shutil
# % endif
from typing import Any, NamedTuple

from paccel.runtime import DataError
from PIL import Image
# % if cookiecutter.data == "digits"
from sklearn.datasets import load_digits
# % endif
import torch
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from model import Preprocessing


SPLITS = ("train", "eval", "test")  # subfolders of `data_dir`


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: ImageFolder | Subset[Any]
    eval: ImageFolder | Subset[Any]
    test: ImageFolder
    classes: list[str]


# % if cookiecutter.data == "digits"
def write_digits(folder: Path) -> None:
    """Write the digits as images of 8 by 8 pixels: 5 of each class for train, 300 for eval, the rest for test."""
    digits = load_digits()
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    written: Counter[str] = Counter()
    # A fixed seed, not the run's, keeps the split the same and scores comparable.
    for index in torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0)).tolist():
        label = str(digits.target[index])
        split = "train" if written[label] < 5 else "eval" if written["eval"] < 300 else "test"
        written.update([label, split])
        path = partial / split / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[index] * 255 / 16).astype("uint8")).save(path)  # raw pixels are in 0 to 16
    partial.rename(folder)  # so that an existing folder is complete


# % endif
# % include "images/folder.py"


def make_splits(data_dir: Path, seen: Preprocessing) -> Splits:
    """Images (3, size, size) float32, normalised as the weights expect, labels int64.

    Reads `data_dir/train/<class>/*`, `data_dir/test/<class>/*` and, if it exists, `data_dir/eval/<class>/*`. Otherwise
    1 in 10 training images of each class, at least one, is for eval.
    """
    to_tensor = [transforms.ToTensor(), transforms.Normalize(seen.mean, seen.std)]
    # % if cookiecutter.data == "digits"
    augmented = transforms.Compose(
        [
            transforms.Resize((seen.size, seen.size), seen.interpolation),
            transforms.RandomAffine(12, (0.1, 0.1), (0.85, 1.15), 10, transforms.InterpolationMode.BILINEAR),
            *to_tensor,
        ]
    )
    plain = transforms.Compose([transforms.Resize((seen.size, seen.size), seen.interpolation), *to_tensor])
    # % else
    augmented = transforms.Compose(
        [
            transforms.RandomResizedCrop(seen.size, (0.5, 1.0), interpolation=seen.interpolation),
            transforms.RandomHorizontalFlip(),
            *to_tensor,
        ]
    )
    plain = transforms.Compose(
        [
            transforms.Resize(round(seen.size / seen.share), seen.interpolation),
            transforms.CenterCrop(seen.size),
            *to_tensor,
        ]
    )
    # % endif

    train, test = read_folder(data_dir / "train", augmented), read_folder(data_dir / "test", plain)
    if train.classes != test.classes:
        raise DataError(f"`{data_dir}` has different classes in train, {train.classes}, and test, {test.classes}")
    if (data_dir / "eval").is_dir():
        eval = read_folder(data_dir / "eval", plain)
        if train.classes != eval.classes:
            raise DataError(f"`{data_dir}` has different classes in train, {train.classes}, and eval, {eval.classes}")
        return Splits(train, eval, test, train.classes)

    try:
        kept, held_out = hold_out(train)
    except DataError as error:
        raise DataError(f"{error}; or add a folder `{data_dir / 'eval'}`") from None
    unaugmented = read_folder(data_dir / "train", plain)
    return Splits(Subset(train, kept), Subset(unaugmented, held_out), test, train.classes)
