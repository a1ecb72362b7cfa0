# % if cookiecutter.data == "stdlib"
"""The data: the source code of Python's standard library, as bytes; nothing to download."""
# % elif cookiecutter.data == "folder"
"""The data: your own text files, as bytes, in the subfolders `train/`, `eval/` and `test/`."""
# % else
"""The data: a Hugging Face dataset, tokenized by the model's tokenizer."""
# % endif

from collections.abc import Iterator
# % if cookiecutter.data == "huggingface"
from hashlib import sha256
import json
# % endif
from pathlib import Path
# % if cookiecutter.data == "stdlib"
import sysconfig
# % endif
from typing import NamedTuple

# % if cookiecutter.data == "huggingface"
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
# % endif
from paccel.runtime import DataError
# % if cookiecutter.data == "folder"
from paccel.runtime.tokens import Rows, Tokens, files_of, tokenized
# % else
from paccel.runtime.tokens import Rows, files_of, tokenized
# % endif
# % if cookiecutter.data == "huggingface"
from transformers import AutoTokenizer
# % endif

# % if cookiecutter.data == "huggingface"
SPLITS = {"train": "train", "eval": "validation", "test": "test"}  # our names, the dataset's names
# % else
SEPARATOR = b"\0"  # after each file; a byte that source code does not contain
VOCABULARY = 256  # tokens are bytes
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

    Samples are rows of `context` tokens, `(inputs, targets)`; with `mask_documents`, `(inputs, targets, documents)`.
    They are read from memory-mapped token files, which are written once.
    """

    train: Rows
    eval: Rows
    test: Rows
    vocabulary: int  # tokens are in [0, vocabulary)


# % if cookiecutter.data == "huggingface"
def make_splits(
    dataset: str,
    subset: str | None,
    column: str,
    tokenizer: str,
    context: int,
    tokens_dir: Path = Path("data/tokens"),
    mask_documents: bool = False,
) -> Splits:
    """Open the token files of the dataset's splits train, validation and test; tokenize it first if they are missing.

    Args:
        dataset: A name on the hub, or a folder with files such as train.jsonl, validation.jsonl and test.jsonl.
        subset: Configuration of the dataset; None if it has only one.
        column: Column with the text.
        tokenizer: A name on the hub, or a folder; its end-of-text token separates documents.
        context: Context length, in tokens.
        tokens_dir: Folder of the token files, with a subfolder for each combination of the names above.
        mask_documents: Whether samples include document numbers, for the attention mask.
    """
    try:
        words = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:  # missing, or not a tokenizer
        raise DataError(f"`{dataset}` or the tokenizer of `{tokenizer}` cannot be loaded: {error}") from None
    if words.eos_token_id is None:
        raise DataError(f"The tokenizer `{tokenizer}` has no end-of-text token to separate documents")

    def tokenize(split: str) -> Iterator[list[int]]:
        for batch in load_documents(dataset, subset, column, split).iter(1000):
            for document in words([text or "" for text in batch[column]], add_special_tokens=False)["input_ids"]:
                if document:
                    yield [*document, words.eos_token_id]

    # What the tokens are made from: if it changes, they are written again.
    source = {"dataset": dataset, "subset": subset, "column": column, "tokenizer": tokenizer}
    name = f"{Path(dataset).name}-{sha256(json.dumps(source).encode()).hexdigest()[:8]}"
    source["words"] = sha256(json.dumps(words.get_vocab(), sort_keys=True).encode()).hexdigest()
    if Path(dataset).is_dir():
        source["files"] = files_of(sorted(path for path in Path(dataset).rglob("*") if path.is_file()), dataset)

    def open_split(split: str) -> Rows:
        tokens = tokenized(tokens_dir / name / split, lambda: tokenize(SPLITS[split]), len(words), source)
        return Rows(tokens, context, documents=mask_documents)

    return Splits(open_split("train"), open_split("eval"), open_split("test"), vocabulary=len(words))


def load_documents(dataset: str, subset: str | None, column: str, split: str) -> Dataset:
    """Load one split of the dataset, which must have a column of text."""
    try:
        documents = load_dataset(dataset, subset)
    except (DatasetsError, OSError, ValueError) as error:  # missing, or not a dataset
        raise DataError(f"`{dataset}` or the tokenizer of its model cannot be loaded: {error}") from None
    if not isinstance(documents, DatasetDict) or not set(SPLITS.values()) <= documents.keys():
        raise DataError(
            f"`{dataset}` has the splits {', '.join(documents)}, not train, validation and test: set their names in "
            "`SPLITS` of data.py, or make some with `train_test_split`"
        )
    if column not in documents[split].column_names:
        raise DataError(f"`{dataset}` has no column `{column}`: it has {', '.join(documents[split].column_names)}")
    return documents[split]
# % else
def read(files: list[Path]) -> Iterator[bytes]:
    """Read files as bytes, each followed by the separator."""
    return (file.read_bytes() + SEPARATOR for file in files)


# % endif
# % if cookiecutter.data == "stdlib"
def make_splits(
    context: int, tokens_dir: Path = Path("data/tokens"), mask_documents: bool = False
) -> Splits:
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
# % elif cookiecutter.data == "folder"
def make_splits(
    data_dir: Path, context: int, tokens_dir: Path | None = None, mask_documents: bool = False
) -> Splits:
    """Open the token files of `data_dir/train`, `data_dir/eval` and `data_dir/test`."""

    def open_split(split: str) -> Rows:
        folder, target = data_dir / split, (tokens_dir or data_dir / "tokens") / split
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        files = [path for path in files if path.stat().st_size]
        if files:
            source = {"files": files_of(files, folder)}  # if a file changes, the tokens are written again
            tokens = tokenized(target, lambda: read(files), VOCABULARY, source)
        elif not folder.exists() and target.exists():  # only the token files are on this machine
            tokens = Tokens(target)
        else:
            raise DataError(f"There is no text in `{folder}`: put files into it or its subfolders")
        return Rows(tokens, context, documents=mask_documents)

    return Splits(open_split("train"), open_split("eval"), open_split("test"), VOCABULARY)
# % endif
