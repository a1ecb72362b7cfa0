"""The text: the source of Python's standard library, byte by byte. Every Python has it, nothing is downloaded."""

from pathlib import Path
import sysconfig
from typing import Any, NamedTuple

from paccel.runtime import DataError
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

PADDING = -1  # where the last row has no token left; such places are neither predicted nor counted
SEPARATOR = b"\0"  # follows each file; source code has no such byte
HELD_OUT = {
    "eval": ["calendar.py", "queue.py", "shutil.py"],
    "test": ["heapq.py", "inspect.py", "statistics.py", "textwrap.py"],
}
# Packages to train on, besides all single modules: those that every Python from 3.11 on has, without their tests.
PACKAGES = (
    "asyncio collections concurrent ctypes email html http importlib json logging multiprocessing unittest urllib "
    "wsgiref xml xmlrpc"
).split()


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


def read(files: list[Path]) -> torch.Tensor:
    """The bytes of the files, each followed by the separator. Shape (tokens,), uint8."""
    text = b"".join(file.read_bytes() + SEPARATOR for file in files)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def make_splits(context: int) -> Splits:
    """Some 7 MB to train on, and seven modules that are held out: 0.1 MB for eval, 0.2 MB for test."""
    library = Path(sysconfig.get_paths()["stdlib"])
    held_out = {split: [library / name for name in names] for split, names in HELD_OUT.items()}
    modules = [path for path in sorted(library.glob("*.py")) if not path.name.startswith("_sysconfigdata")]
    modules += [path for package in PACKAGES for path in sorted((library / package).rglob("*.py"))]
    excluded = {path for paths in held_out.values() for path in paths}
    train = [p for p in modules if p not in excluded and not {"test", "tests"} & set(p.relative_to(library).parts)]
    if missing := [str(path) for path in excluded if not path.exists()]:
        raise DataError(f"This Python comes without the source of its library: {', '.join(sorted(missing))} is missing")
    return Splits(
        pack(read(train), context),
        pack(read(held_out["eval"]), context),
        pack(read(held_out["test"]), context),
        vocabulary=256,
    )
