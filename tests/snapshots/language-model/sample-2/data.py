"""The text: a dataset of Hugging Face, cut into tokens by a model's tokenizer."""

from itertools import chain
from typing import Any, NamedTuple

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
from paccel.runtime import DataError
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset
from transformers import AutoTokenizer

PADDING = -1  # where the last row has no token left; such places are neither predicted nor counted
SPLITS = {"train": "train", "eval": "validation", "test": "test"}  # our names, and the dataset's


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


def make_splits(dataset: str, subset: str | None, column: str, tokenizer: str, context: int) -> Splits:
    """Load the dataset's splits train, validation and test, and pack their tokens into rows.

    Args:
        dataset: A name on the hub, or a folder with files such as train.jsonl, validation.jsonl and test.jsonl.
        subset: The dataset's configuration; None where it has but one.
        column: Holds the text.
        tokenizer: A name on the hub, or a folder; what ends a text for it goes between the documents.
        context: Tokens that the model sees at once.
    """
    try:
        documents = load_dataset(dataset, subset)
        words = AutoTokenizer.from_pretrained(tokenizer)
    except (DatasetsError, OSError, ValueError) as error:  # what there is not, or is something else
        raise DataError(f"`{dataset}` or the tokenizer of `{tokenizer}` cannot be loaded: {error}") from None
    if not isinstance(documents, DatasetDict) or not set(SPLITS.values()) <= documents.keys():
        raise DataError(
            f"`{dataset}` has the splits {', '.join(documents)}, not train, validation and test: name its own in "
            "`SPLITS` of data.py, or cut some off with `train_test_split`"
        )
    if column not in documents["train"].column_names:
        raise DataError(f"`{dataset}` has no column `{column}`: it has {', '.join(documents['train'].column_names)}")
    if words.eos_token_id is None:
        raise DataError(f"The tokenizer `{tokenizer}` has no token that ends a text, which goes between documents")

    def tokenize(batch: dict[str, list[str | None]]) -> dict[str, list[list[int]]]:
        ids = words([text or "" for text in batch[column]], add_special_tokens=False)["input_ids"]
        return {"tokens": [[*document, words.eos_token_id] for document in ids if document]}

    def load(split: str) -> TensorDataset:
        # Cached on disk by `datasets`, by the text and the tokenizer.
        mapped = documents[split].map(tokenize, batched=True, remove_columns=documents[split].column_names)
        tokens = torch.tensor(list(chain.from_iterable(mapped["tokens"])), dtype=torch.int32)
        if len(tokens) < 2:
            raise DataError(f"The split `{split}` of `{dataset}` has no text in its column `{column}`")
        return pack(tokens, context)

    train, eval, test = (load(split) for split in SPLITS.values())
    return Splits(train, eval, test, vocabulary=len(words))
