"""The texts: a dataset of Hugging Face, with columns of texts and one of labels."""

from typing import NamedTuple

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
from paccel.runtime import DataError

Sample = tuple[tuple[str, ...], int]  # one text, or two that belong together, and the label


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: list[Sample]
    eval: list[Sample]
    test: list[Sample]
    num_classes: int


def make_splits(dataset: str, subset: str | None, text_columns: tuple[str, ...], label_column: str) -> Splits:
    """Load the dataset's splits train, validation and test.

    Args:
        dataset: A name on the hub, or a folder with files such as train.jsonl, validation.jsonl and test.jsonl.
        subset: The dataset's configuration; None where it has but one.
        text_columns: One, or two whose texts belong together.
        label_column: Holds numbers from 0.
    """
    try:
        tables = load_dataset(dataset, subset)
    except (DatasetsError, OSError, ValueError) as error:  # what there is not, or is something else
        raise DataError(f"`{dataset}` cannot be loaded: {error}") from None
    if not isinstance(tables, DatasetDict) or not {"train", "validation", "test"} <= tables.keys():
        raise DataError(
            f"`{dataset}` has the splits {', '.join(tables)}, not train, validation and test: name its own in data.py"
        )
    columns = tables["train"].column_names
    if missing := [column for column in (*text_columns, label_column) if column not in columns]:
        raise DataError(f"`{dataset}` has no column `{'`, `'.join(missing)}`: it has {', '.join(columns)}")

    def load(split: str) -> list[Sample]:
        table = tables[split]
        texts = zip(*(table[column] for column in text_columns), strict=True)
        return list(zip(texts, table[label_column], strict=True))

    train, eval, test = load("train"), load("validation"), load("test")
    if any(text is None for texts, _ in (*train, *eval, *test) for text in texts):
        raise DataError(f"`{dataset}` has rows without a text in `{'`, `'.join(text_columns)}`: leave them out")
    classes = {label for _, label in train}
    if len(classes) < 2:
        raise DataError(f"The split `train` of `{dataset}` has one class: {classes}")
    if wrong := {label for _, label in (*train, *eval, *test) if label not in range(len(classes))}:
        last = len(classes) - 1
        raise DataError(f"`{dataset}` has labels that are not from 0 to {last}: {wrong}; hidden ones are -1")
    return Splits(train, eval, test, num_classes=len(classes))
