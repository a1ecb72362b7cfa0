"""The texts: CSV files of your own, with a column of texts and one of labels."""

import csv
from pathlib import Path
from typing import NamedTuple

from paccel.runtime import DataError
import torch

Sample = tuple[tuple[str, ...], int]  # one text, or two that belong together, and the label


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: list[Sample]
    eval: list[Sample]
    test: list[Sample]
    num_classes: int


def read(path: Path, text_column: str, label_column: str) -> list[tuple[str, str]]:
    """The texts and their labels, as they are in a file."""
    if not path.is_file():
        raise DataError(f"There is no `{path}`: put it there, with a row of column names, or pass `--data-dir`")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel puts a mark before the first name
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`{path}` cannot be read as a CSV file in UTF-8 ({error}): save it as one") from None
    for column in (text_column, label_column):
        if column not in columns:
            raise DataError(f"`{path}` has no column `{column}`: it has {', '.join(columns) or 'none'}")
    found = [(row[text_column] or "", row[label_column] or "") for row in rows]
    for number, (text, label) in enumerate(found, 1):
        if not text.strip() or not label.strip():
            raise DataError(f"`{path}` has no {'label' if text.strip() else 'text'} in row {number} below its header")
    return found


def make_splits(data_dir: Path, text_column: str, label_column: str) -> Splits:
    """Read `train.csv` and `test.csv` of the folder; 1 in 10 rows of the first is for eval."""
    rows = {name: read(data_dir / f"{name}.csv", text_column, label_column) for name in ("train", "test")}
    if empty := [name for name, found in rows.items() if not found]:
        raise DataError(f"`{data_dir / empty[0]}.csv` has no rows below its header")
    classes = sorted({label for _, label in rows["train"]})
    if len(classes) == 1:
        raise DataError(f"`{data_dir / 'train.csv'}` has one class, `{classes[0]}`: there is nothing to tell apart")
    if unknown := sorted({label for _, label in rows["test"]} - set(classes)):
        raise DataError(f"`{data_dir / 'test.csv'}` has labels that train.csv does not have: {', '.join(unknown)}")
    samples: dict[str, list[Sample]] = {
        name: [((text,), classes.index(label)) for text, label in found] for name, found in rows.items()
    }
    order = torch.randperm(len(samples["train"]), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = max(1, len(order) // 10)
    train, eval = ([samples["train"][index] for index in part] for part in (order[held_out:], order[:held_out]))
    return Splits(train, eval, samples["test"], num_classes=len(classes))
