"""The text: files of your own, byte by byte, in `train/`, `eval/` and `test/` of a folder."""

from pathlib import Path
from typing import Any, NamedTuple

from paccel.runtime import DataError
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

PADDING = -1  # where the last row has no token left; such places are neither predicted nor counted
SEPARATOR = b"\0"  # follows each file; source code has no such byte


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end.

    Samples are rows of `context + 1` tokens, int32: each but the last is read, each but the first is predicted.
    """

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    vocabulary: int  # tokens are from 0 to here


def pack(tokens: torch.Tensor, context: int) -> TensorDataset:
    """Cut tokens, shape (tokens,), into rows that overlap by one, so that each token but the first is predicted once.

    Documents lie end to end in the rows, so no place but the end of the last row is padding.
    """
    rows = -(-(len(tokens) - 1) // context)
    padded = F.pad(tokens.int(), (0, rows * context + 1 - len(tokens)), value=PADDING)
    return TensorDataset(padded.unfold(0, context + 1, context))


def read(folder: Path) -> torch.Tensor:
    """The bytes of all files in a folder, each followed by the separator. Shape (tokens,), uint8."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    text = b"".join(data + SEPARATOR for file in files if (data := file.read_bytes()))
    if not text:
        raise DataError(f"There is no text in `{folder}`: put files into it, which may lie in folders of their own")
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def make_splits(data_dir: Path, context: int) -> Splits:
    """Read all files in `data_dir/train`, `data_dir/eval` and `data_dir/test`, whatever they are called."""
    train, eval, test = (pack(read(data_dir / split), context) for split in ("train", "eval", "test"))
    return Splits(train, eval, test, vocabulary=256)
