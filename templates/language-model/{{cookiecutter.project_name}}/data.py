# % if cookiecutter.data == "stdlib"
"""The data: the source code of Python's standard library, as bytes; nothing to download."""
# % elif cookiecutter.data == "folder"
"""The data: your own text files, as bytes, in the subfolders `train/`, `eval/` and `test/`."""
# % else
"""The data: a Hugging Face dataset, tokenized by the model's tokenizer."""
# % endif

# % if cookiecutter.data == "stdlib"
from pathlib import Path
import sysconfig
# % elif cookiecutter.data == "folder"
from pathlib import Path
# % else
from itertools import chain
# % endif
from typing import Any, NamedTuple

# % if cookiecutter.data == "huggingface"
from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
# % endif
from paccel.runtime import DataError
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset
# % if cookiecutter.data == "huggingface"
from transformers import AutoTokenizer
# % endif

PADDING = -1  # fills the last row; neither predicted nor counted
# % if cookiecutter.data == "huggingface"
SPLITS = {"train": "train", "eval": "validation", "test": "test"}  # our names, the dataset's names
# % else
SEPARATOR = b"\0"  # after each file; a byte that source code does not contain
# % endif
# % if cookiecutter.data == "stdlib"
HELD_OUT = {
    "eval": ["calendar.py", "queue.py", "shutil.py"],
    "test": ["heapq.py", "inspect.py", "statistics.py", "textwrap.py"],
}
# Packages to train on besides single modules: all that exist since Python 3.11, without their tests.
PACKAGES = (
    "asyncio collections concurrent ctypes email html http importlib json logging multiprocessing unittest urllib "
    "wsgiref xml xmlrpc"
).split()
# % endif


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


# % if cookiecutter.data == "huggingface"
def make_splits(dataset: str, subset: str | None, column: str, tokenizer: str, context: int) -> Splits:
    """Load the dataset's splits train, validation and test, and pack their tokens into rows.

    Args:
        dataset: A name on the hub, or a folder with files such as train.jsonl, validation.jsonl and test.jsonl.
        subset: Configuration of the dataset; None if it has only one.
        column: Column with the text.
        tokenizer: A name on the hub, or a folder; its end-of-text token separates documents.
        context: Context length, in tokens.
    """
    try:
        documents = load_dataset(dataset, subset)
        words = AutoTokenizer.from_pretrained(tokenizer)
    except (DatasetsError, OSError, ValueError) as error:  # missing, or not a dataset
        raise DataError(f"`{dataset}` or the tokenizer of `{tokenizer}` cannot be loaded: {error}") from None
    if not isinstance(documents, DatasetDict) or not set(SPLITS.values()) <= documents.keys():
        raise DataError(
            f"`{dataset}` has the splits {', '.join(documents)}, not train, validation and test: set their names in "
            "`SPLITS` of data.py, or make some with `train_test_split`"
        )
    if column not in documents["train"].column_names:
        raise DataError(f"`{dataset}` has no column `{column}`: it has {', '.join(documents['train'].column_names)}")
    if words.eos_token_id is None:
        raise DataError(f"The tokenizer `{tokenizer}` has no end-of-text token to separate documents")

    def tokenize(batch: dict[str, list[str | None]]) -> dict[str, list[list[int]]]:
        ids = words([text or "" for text in batch[column]], add_special_tokens=False)["input_ids"]
        return {"tokens": [[*document, words.eos_token_id] for document in ids if document]}

    def load(split: str) -> TensorDataset:
        # `datasets` caches this on disk.
        mapped = documents[split].map(tokenize, batched=True, remove_columns=documents[split].column_names)
        tokens = torch.tensor(list(chain.from_iterable(mapped["tokens"])), dtype=torch.int32)
        if len(tokens) < 2:
            raise DataError(f"The split `{split}` of `{dataset}` has no text in its column `{column}`")
        return pack(tokens, context)

    train, eval, test = (load(split) for split in SPLITS.values())
    return Splits(train, eval, test, vocabulary=len(words))
# % else
# % if cookiecutter.data == "stdlib"
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
# % else
def read(folder: Path) -> torch.Tensor:
    """Read all files of a folder as bytes, each followed by the separator. Shape (tokens,), uint8."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    text = b"".join(data + SEPARATOR for file in files if (data := file.read_bytes()))
    if not text:
        raise DataError(f"There is no text in `{folder}`: put files into it or its subfolders")
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def make_splits(data_dir: Path, context: int) -> Splits:
    """Read all files in `data_dir/train`, `data_dir/eval` and `data_dir/test`."""
    train, eval, test = (pack(read(data_dir / split), context) for split in ("train", "eval", "test"))
    return Splits(train, eval, test, vocabulary=256)
# % endif
# % endif
