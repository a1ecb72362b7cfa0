# % if cookiecutter.data == "csv"
"""The table: a CSV file of your own, with a row of column names on top."""
# % elif cookiecutter.task == "regression"
"""The table: how far diabetes has progressed in 442 patients after a year, from scikit-learn, written to a CSV file."""
# % else
"""The table: 569 tumours of the breast, benign or malignant, from scikit-learn, written to a CSV file."""
# % endif

import csv
import math
from pathlib import Path
from typing import NamedTuple

from paccel.runtime import DataError
# % if cookiecutter.data == "sample"
from sklearn.datasets import {{ "load_diabetes" if cookiecutter.task == "regression" else "load_breast_cancer" }}
# % endif
import torch
from torch.utils.data import TensorDataset


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end.

    A sample is numbers (numeric columns,) float32, categories (categorical columns,) int64, and a target.
    """

    train: TensorDataset
    eval: TensorDataset
    test: TensorDataset
    num_numeric: int
    category_sizes: list[int]  # for each categorical column, its categories, and one for all that training has not seen
    # % if cookiecutter.task == "regression"
    mean: float  # of the targets for train, and their standard deviation: the network predicts standardised ones
    scale: float
    # % else
    classes: list[str]
    # % endif


# % if cookiecutter.data == "sample"
def write_sample(path: Path) -> None:
    """Write the table, once."""
    # % if cookiecutter.task == "regression"
    table = load_diabetes(scaled=False)
    rows = [[*row, target] for row, target in zip(table.data.tolist(), table.target.tolist(), strict=True)]
    sex = table.feature_names.index("sex")
    for row in rows:
        row[sex] = f"sex {row[sex]:.0f}"  # a category: the source says no more than 1 and 2
    # % else
    table = load_breast_cancer()
    names = table.target_names.tolist()
    rows = [[*row, names[target]] for row, target in zip(table.data.tolist(), table.target.tolist(), strict=True)]
    # % endif
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*table.feature_names, "target"], *rows])


# % endif
def read_table(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV file by name, each cell as it is."""
    if not path.is_file():
        raise DataError(f"There is no `{path}`: put a CSV file there, or pass another with `--table`")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel puts a mark before the first name
            names, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`{path}` cannot be read as a CSV file in UTF-8 ({error}): save it as one") from None
    if len(set(names)) < len(names) or len(rows) < 10:
        raise DataError(f"`{path}` needs different names on top, has {', '.join(names) or 'none'}, and 10 rows, has {len(rows)}")
    if wrong := [number for number, row in enumerate(rows, 2) if len(row) != len(names)]:
        raise DataError(f"`{path}` has another number of cells than names in line {wrong[0]}")
    return {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}


def to_numbers(name: str, cells: list[str]) -> torch.Tensor:
    """A column as numbers. Shape (rows,), float64."""
    numbers = []
    for line, cell in enumerate(cells, 2):
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"The column `{name}` has `{cell}` in line {line}, which is no number: correct it, or name the column "
                "in `--categorical`"
            )
        numbers.append(number)
    return torch.tensor(numbers, dtype=torch.float64)


def make_splits(path: Path, target: str, categorical: tuple[str, ...]) -> Splits:
    """Read a table and cut it: 7 in 10 rows for train, 1 for eval, 2 for test. All columns but the target are inputs.

    Means, scales and categories are those of the training rows: nothing is learnt from the others.
    """
    # % if cookiecutter.data == "sample"
    if not path.exists():
        write_sample(path)
    # % endif
    table = read_table(path)
    if missing := [name for name in (target, *categorical) if name not in table]:
        raise DataError(f"`{path}` has no column `{'`, `'.join(missing)}`: it has {', '.join(table)}")
    targets = table.pop(target)
    if not table:
        raise DataError(f"`{path}` has no column but `{target}`: there is nothing to predict it from")
    numeric = [name for name in table if name not in categorical]
    rows = len(targets)
    # The split does not follow the run's seed: scores stay comparable.
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    train, eval, test = order.split([rows - 3 * (rows // 10), rows // 10, 2 * (rows // 10)])

    numbers = torch.stack([to_numbers(name, table[name]) for name in numeric], 1) if numeric else torch.zeros(rows, 0)
    spread = numbers[train].std(0)
    numbers = ((numbers - numbers[train].mean(0)) / spread.where(spread > 0, 1.0)).float()
    known = [sorted({table[name][row] for row in train.tolist()}) for name in categorical]
    categories = torch.zeros(rows, len(categorical), dtype=torch.int64)  # 0: not seen in training
    for place, (name, values) in enumerate(zip(categorical, known, strict=True)):
        numbered = {value: number for number, value in enumerate(values, 1)}
        categories[:, place] = torch.tensor([numbered.get(cell, 0) for cell in table[name]])

    # % if cookiecutter.task == "regression"
    wanted = to_numbers(target, targets)
    mean, scale = wanted[train].mean().item(), wanted[train].std().item()
    if scale == 0:
        raise DataError(f"The column `{target}` is {mean} in all rows: there is nothing to predict")
    wanted = ((wanted - mean) / scale).float()
    # % else
    classes = sorted(set(targets))
    if "" in classes:
        raise DataError(f"The column `{target}` has no label in line {targets.index('') + 2}")
    if len(classes) == 1:
        raise DataError(f"The column `{target}` has one class, `{classes[0]}`: there is nothing to tell apart")
    if len(classes) > rows // 2:
        raise DataError(
            f"The column `{target}` has {len(classes)} classes in {rows} rows: if it is a number, "
            "`paccel set task=regression`"
        )
    wanted = torch.tensor([classes.index(label) for label in targets])
    # % endif
    columns = numbers, categories, wanted
    return Splits(
        TensorDataset(*(column[train] for column in columns)),
        TensorDataset(*(column[eval] for column in columns)),
        TensorDataset(*(column[test] for column in columns)),
        num_numeric=len(numeric),
        category_sizes=[1 + len(values) for values in known],
        # % if cookiecutter.task == "regression"
        mean=mean,
        scale=scale,
        # % else
        classes=classes,
        # % endif
    )
