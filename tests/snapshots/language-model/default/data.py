"""The data: the source code of Python's standard library, as bytes; nothing to download."""

from pathlib import Path
import sysconfig
from typing import Any, NamedTuple

from paccel.runtime import DataError
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

PADDING = -1  # fills the last row; neither predicted nor counted
SEPARATOR = b"\0"  # after each file; a byte that source code does not contain
HELD_OUT = {
    "eval": ["calendar.py", "queue.py", "shutil.py"],
    "test": ["heapq.py", "inspect.py", "statistics.py", "textwrap.py"],
}
# Packages to train on besides single modules: all that exist since Python 3.11, without their tests.
PACKAGES = (
    "asyncio collections concurrent ctypes email html http importlib json logging multiprocessing unittest urllib "
    "wsgiref xml xmlrpc"
).split()


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores.

    Samples are rows of `context + 1` tokens, int32: inputs are all but the last, targets all but the first.
    """

    train: Dataset[Any]
    eval: Dataset[Any]
    test: Dataset[Any]
    vocabulary: int  # tokens are in [0, vocabulary)


def pack(tokens: torch.Tensor, context: int) -> TensorDataset:
    """Cut tokens, shape (tokens,), into rows that overlap by one, so that each token but the first is predicted once.

    Documents are packed end to end, so only the end of the last row is padding.
    """
    rows = -(-(len(tokens) - 1) // context)
    padded = F.pad(tokens.int(), (0, rows * context + 1 - len(tokens)), value=PADDING)
    return TensorDataset(padded.unfold(0, context + 1, context))


def read(files: list[Path]) -> torch.Tensor:
    """Read files as bytes, each followed by the separator. Shape (tokens,), uint8."""
    text = b"".join(file.read_bytes() + SEPARATOR for file in files)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def make_splits(context: int) -> Splits:
    """Read about 7 MB for train; seven modules are held out, 0.1 MB for eval and 0.2 MB for test."""
    library = Path(sysconfig.get_paths()["stdlib"])
    held_out = {split: [library / name for name in names] for split, names in HELD_OUT.items()}
    modules = [path for path in sorted(library.glob("*.py")) if not path.name.startswith("_sysconfigdata")]
    modules += [path for package in PACKAGES for path in sorted((library / package).rglob("*.py"))]
    excluded = {path for paths in held_out.values() for path in paths}
    train = [p for p in modules if p not in excluded and not {"test", "tests"} & set(p.relative_to(library).parts)]
    if missing := [str(path) for path in excluded if not path.exists()]:
        raise DataError(f"The source of the standard library is not installed: {', '.join(sorted(missing))} is missing")
    return Splits(
        pack(read(train), context),
        pack(read(held_out["eval"]), context),
        pack(read(held_out["test"]), context),
        vocabulary=256,
    )
