"""The data: scikit-learn's handwritten digits, written to a folder once; 5 of each class are for training."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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

SPLITS = ("train", "eval", "test")  # subfolders of `data_dir`


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: ImageFolder | Subset[Any]
    eval: ImageFolder | Subset[Any]
    test: ImageFolder
    classes: list[str]


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


def read_folder(folder: Path, transform: Callable[[Any], torch.Tensor]) -> ImageFolder:
    """Read a folder of images with one subfolder per class.

    Raises:
        DataError: It does not exist, has fewer than two classes, or a class without images.
    """
    if not folder.is_dir():
        raise DataError(f"`{folder}` does not exist: put images into `{folder}/<class>/`, or set `--data-dir`")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise DataError(f"`{folder}` needs at least two classes, one subfolder of images each, but has {classes}")
    try:
        return ImageFolder(folder, transform)
    except FileNotFoundError as error:  # a class without images
        raise DataError(f"`{folder}`: {error}") from None


def hold_out(images: ImageFolder) -> tuple[list[int], list[int]]:
    """Split into indices for training and for eval: 1 in 10 images of each class, at least one.

    Raises:
        DataError: A class has only one image.
    """
    of_class: dict[int, list[int]] = {label: [] for label in range(len(images.classes))}
    # A fixed seed, not the run's, keeps the split the same and scores comparable.
    for index in torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist():
        of_class[images.targets[index]].append(index)
    if few := [images.classes[label] for label, indices in of_class.items() if len(indices) < 2]:
        raise DataError(f"`{images.root}` has only one image of {', '.join(few)}: each class needs two, one for eval")
    held_out = [index for indices in of_class.values() for index in indices[: max(1, len(indices) // 10)]]
    kept = [index for indices in of_class.values() for index in indices[max(1, len(indices) // 10) :]]
    return kept, held_out


def stamp(path: Path, root: Path) -> str:
    """Return a line that changes with the file: its size, modification time and path below `root`."""
    try:
        status = path.stat()
    except OSError as error:  # unreadable: never remembered
        return str(error)
    return f"{status.st_size} {status.st_mtime_ns} {path.relative_to(root).as_posix()}"


def recall(root: Path) -> set[str]:
    """Read the stamps of the images that earlier runs have decoded."""
    return {line for file in root.glob(".checked/*.txt") for line in file.read_text(encoding="utf-8").splitlines()}


def remember(root: Path, part: int, stamps: list[str]) -> None:
    """Add the stamps of decoded images; each process has its own file."""
    with suppress(OSError):  # a read-only folder: they are decoded again next time
        (root / ".checked").mkdir(exist_ok=True)
        with (root / ".checked" / f"{part}.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in stamps)


def check_images(data_dir: Path, part: int, parts: int) -> None:
    """Decode each new image once, to find damaged ones before training; each process checks its part.

    Good images are remembered in `data_dir/.checked` and decoded again only when they change.

    Raises:
        DataError: Some images cannot be read; the first ten are listed.
    """

    def problem(path: Path) -> str | None:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as error:
            return f"`{path}` cannot be read: {error}"
        return None

    folders = [data_dir / split for split in SPLITS if (data_dir / split).is_dir()]
    paths = [Path(path) for folder in folders for path, _ in ImageFolder(folder).samples]
    known, stamps = recall(data_dir), {stamp(path, data_dir): path for path in paths[part::parts]}
    new = {line: path for line, path in stamps.items() if line not in known}
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        found = dict(zip(new, pool.map(problem, new.values()), strict=True))
    remember(data_dir, part, [line for line, text in found.items() if text is None])
    if problems := [text for text in found.values() if text is not None]:
        raise DataError("\n".join([f"{len(problems)} images are damaged, remove or replace them:", *problems[:10]]))


def make_splits(data_dir: Path, seen: Preprocessing) -> Splits:
    """Images (3, size, size) float32, normalised as the weights expect, labels int64.

    Reads `data_dir/train/<class>/*`, `data_dir/test/<class>/*` and, if it exists, `data_dir/eval/<class>/*`. Otherwise
    1 in 10 training images of each class, at least one, is for eval.
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
