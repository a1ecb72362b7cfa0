"""The data: the source code of Python's standard library, as bytes; nothing to download."""

from collections.abc import Iterator
from pathlib import Path
import sysconfig
from typing import NamedTuple

from paccel.runtime import DataError
from paccel.runtime.tokens import Rows, files_of, tokenized

SEPARATOR = b"\0"  # after each file; a byte that source code does not contain
VOCABULARY = 256  # tokens are bytes
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

    Samples are rows of `context` tokens, `(inputs, targets)`; with `mask_documents`, `(inputs, targets, documents)`.
    They are read from memory-mapped token files, which are written once.
    """

    train: Rows
    eval: Rows
    test: Rows
    vocabulary: int  # tokens are in [0, vocabulary)


def read(files: list[Path]) -> Iterator[bytes]:
    """Read files as bytes, each followed by the separator."""
    return (file.read_bytes() + SEPARATOR for file in files)


def make_splits(context: int, tokens_dir: Path = Path("data/tokens"), mask_documents: bool = False) -> Splits:
    """Open the token files, about 7 MB for train; seven modules are held out, 0.1 MB for eval and 0.2 MB for test."""
    library = Path(sysconfig.get_paths()["stdlib"])
    held_out = {split: [library / name for name in names] for split, names in HELD_OUT.items()}
    modules = [path for path in sorted(library.glob("*.py")) if not path.name.startswith("_sysconfigdata")]
    modules += [path for package in PACKAGES for path in sorted((library / package).rglob("*.py"))]
    excluded = {path for paths in held_out.values() for path in paths}
    train = [p for p in modules if p not in excluded and not {"test", "tests"} & set(p.relative_to(library).parts)]
    if missing := [str(path) for path in excluded if not path.exists()]:
        raise DataError(f"The source of the standard library is not installed: {', '.join(sorted(missing))} is missing")

    def open_split(split: str, files: list[Path]) -> Rows:
        source = {"files": files_of(files, library)}  # if a file changes, the tokens are written again
        tokens = tokenized(tokens_dir / split, lambda: read(files), VOCABULARY, source)
        return Rows(tokens, context, documents=mask_documents)

    eval, test = (open_split(split, files) for split, files in held_out.items())
    return Splits(open_split("train", train), eval, test, VOCABULARY)
