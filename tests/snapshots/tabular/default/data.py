"""The data: scikit-learn's diabetes table, disease progression of 442 patients, written to a CSV file."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

from paccel.runtime import DataError
from sklearn.datasets import load_diabetes
import torch
from torch.utils.data import TensorDataset


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores.

    A sample is numbers (numeric columns,) float32, categories (categorical columns,) int64 and a target.
    """

    train: TensorDataset
    eval: TensorDataset
    test: TensorDataset
    num_numeric: int
    category_sizes: list[int]  # categories per categorical column, plus one for unseen categories
    mean: float  # of the training targets, which the model predicts standardized
    scale: float  # standard deviation of the training targets


def write_sample(path: Path) -> None:
    """Write the table to a CSV file."""
    table = load_diabetes(scaled=False)
    rows = [[*row, target] for row, target in zip(table.data.tolist(), table.target.tolist(), strict=True)]
    sex = table.feature_names.index("sex")
    for row in rows:
        row[sex] = f"sex {row[sex]:.0f}"  # a category; the source codes it as 1 and 2
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*table.feature_names, "target"], *rows])


def read_table(path: Path) -> dict[str, list[str]]:
    """Read the columns of a CSV file by name, as strings."""
    if not path.is_file():
        raise DataError(f"`{path}` does not exist: put a CSV file there, or set `--table`")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel writes a byte order mark
            names, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`{path}` cannot be read as a UTF-8 CSV file: {error}") from None
    if len(set(names)) < len(names) or len(rows) < 10:
        raise DataError(
            f"`{path}` needs distinct names and 10 rows: it has {', '.join(names) or 'none'}, and {len(rows)} rows"
        )
    if wrong := [number for number, row in enumerate(rows, 2) if len(row) != len(names)]:
        raise DataError(f"`{path}` has a different number of cells than column names in line {wrong[0]}")
    return {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}


def to_numbers(name: str, cells: list[str]) -> torch.Tensor:
    """Convert a column to numbers. Shape (rows,), float64."""
    numbers = []
    for line, cell in enumerate(cells, 2):
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"The column `{name}` has `{cell}` in line {line}, which is not a number: correct it, or add the "
                "column to `--categorical`"
            )
        numbers.append(number)
    return torch.tensor(numbers, dtype=torch.float64)


def make_splits(path: Path, target: str, categorical: tuple[str, ...]) -> Splits:
    """Read and split a table: 70 % of rows for train, 10 % for eval, 20 % for test.

    All columns but the target are inputs. Means, scales and categories come from the training rows only.
    """
    if not path.exists():
        write_sample(path)
    table = read_table(path)
    if missing := [name for name in (target, *categorical) if name not in table]:
        raise DataError(f"`{path}` has no column `{'`, `'.join(missing)}`: it has {', '.join(table)}")
    targets = table.pop(target)
    if not table:
        raise DataError(f"`{path}` has no column besides `{target}`: there are no inputs")
    numeric = [name for name in table if name not in categorical]
    rows = len(targets)
    # A fixed seed, not the run's, keeps the split the same and scores comparable.
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    train, eval, test = order.split([rows - 3 * (rows // 10), rows // 10, 2 * (rows // 10)])

    numbers = torch.stack([to_numbers(name, table[name]) for name in numeric], 1) if numeric else torch.zeros(rows, 0)
    spread = numbers[train].std(0)
    numbers = ((numbers - numbers[train].mean(0)) / spread.where(spread > 0, 1.0)).float()
    known = [sorted({table[name][row] for row in train.tolist()}) for name in categorical]
    categories = torch.zeros(rows, len(categorical), dtype=torch.int64)  # 0: unseen in training
    for place, (name, values) in enumerate(zip(categorical, known, strict=True)):
        numbered = {value: number for number, value in enumerate(values, 1)}
        categories[:, place] = torch.tensor([numbered.get(cell, 0) for cell in table[name]])

    wanted = to_numbers(target, targets)
    mean, scale = wanted[train].mean().item(), wanted[train].std().item()
    if scale == 0:
        raise DataError(f"The column `{target}` is {mean} in all rows: there is nothing to predict")
    wanted = ((wanted - mean) / scale).float()
    columns = numbers, categories, wanted
    return Splits(
        TensorDataset(*(column[train] for column in columns)),
        TensorDataset(*(column[eval] for column in columns)),
        TensorDataset(*(column[test] for column in columns)),
        num_numeric=len(numeric),
        category_sizes=[1 + len(values) for values in known],
        mean=mean,
        scale=scale,
    )
