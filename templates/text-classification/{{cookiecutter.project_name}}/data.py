# % if cookiecutter.data == "docstrings"
"""The texts: docstrings of Python's standard library, labelled by module. Every Python has them."""
# % elif cookiecutter.data == "csv"
"""The texts: CSV files of your own, with a column of texts and one of labels."""
# % else
"""The texts: a dataset of Hugging Face, with columns of texts and one of labels."""
# % endif

# % if cookiecutter.data == "docstrings"
import ast
from collections.abc import Iterator
from pathlib import Path
import sysconfig
# % elif cookiecutter.data == "csv"
import csv
from pathlib import Path
# % endif
from typing import NamedTuple
# % if cookiecutter.data == "docstrings"
import zlib
# % endif

# % if cookiecutter.data == "huggingface"
from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
# % endif
from paccel.runtime import DataError
# % if cookiecutter.data == "csv"
import torch

# % endif
# % if cookiecutter.data == "docstrings"
CLASSES = (
    "asyncio decimal email http importlib logging mailbox multiprocessing tarfile unittest urllib xml"
).split()
# % endif

Sample = tuple[tuple[str, ...], int]  # one text, or two that belong together, and the label


class Splits(NamedTuple):
    """What to train on, what to choose the best weights by, and what to test them on at the end."""

    train: list[Sample]
    eval: list[Sample]
    test: list[Sample]
    num_classes: int


# % if cookiecutter.data == "docstrings"
def docstrings(module: str) -> Iterator[str]:
    """The docstrings of a module and all that is in it, read from its source without importing it."""
    library = Path(sysconfig.get_paths()["stdlib"])
    file = library / ("_pydecimal.py" if module == "decimal" else f"{module}.py")
    files = [file] if file.exists() else sorted((library / module).rglob("*.py"))
    for path in files:
        if "test" in path.relative_to(library).parts:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if text := ast.get_docstring(node):
                    yield text


def make_splits() -> Splits:
    """Some 1,700 docstrings for train, 260 for eval and 530 for test, of twelve classes.

    A text goes to a split by its checksum, so it is in the same one whatever Python this is; what occurs twice is one.
    """
    labels: dict[str, int] = {}
    for label, module in enumerate(CLASSES):
        for text in docstrings(module):
            labels.setdefault(text, label)
    if missing := [module for label, module in enumerate(CLASSES) if label not in labels.values()]:
        raise DataError(f"This Python comes without the source of its library: {', '.join(missing)} is missing")
    found: dict[str, list[Sample]] = {"train": [], "eval": [], "test": []}
    for text, label in labels.items():
        place = zlib.crc32(text.encode()) % 10
        found["train" if place > 2 else "test" if place else "eval"].append(((text,), label))
    return Splits(**found, num_classes=len(CLASSES))
# % elif cookiecutter.data == "csv"
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
    samples: dict[str, list[Sample]] = {name: [((text,), classes.index(label)) for text, label in found] for name, found in rows.items()}
    order = torch.randperm(len(samples["train"]), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = max(1, len(order) // 10)
    train, eval = ([samples["train"][index] for index in part] for part in (order[held_out:], order[:held_out]))
    return Splits(train, eval, samples["test"], num_classes=len(classes))
# % else
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
# % endif
