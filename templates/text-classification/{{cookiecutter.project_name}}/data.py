# % if cookiecutter.data == "docstrings"
"""The data: docstrings of Python's standard library, labelled by module; nothing to download."""
# % elif cookiecutter.data == "csv"
"""The data: your own CSV files, with a column of texts and a column of labels."""
# % else
"""The data: a Hugging Face dataset, with columns of texts and a column of labels."""
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

Sample = tuple[tuple[str, ...], int]  # one text or a text pair, and the label


class Splits(NamedTuple):
    """The data: `train` to train on, `eval` to choose the best weights, `test` for the final scores."""

    train: list[Sample]
    eval: list[Sample]
    test: list[Sample]
    num_classes: int


# % if cookiecutter.data == "docstrings"
def docstrings(module: str) -> Iterator[str]:
    """Yield all docstrings of a module or package, read from its source without importing it."""
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
    """Read about 1,700 docstrings for train, 260 for eval and 530 for test, of twelve classes.

    The checksum of a text decides its split, so splits are the same for all Python versions. Duplicates are removed.
    """
    labels: dict[str, int] = {}
    for label, module in enumerate(CLASSES):
        for text in docstrings(module):
            labels.setdefault(text, label)
    if missing := [module for label, module in enumerate(CLASSES) if label not in labels.values()]:
        raise DataError(f"The source of the standard library is not installed: {', '.join(missing)} is missing")
    found: dict[str, list[Sample]] = {"train": [], "eval": [], "test": []}
    for text, label in labels.items():
        place = zlib.crc32(text.encode()) % 10
        found["train" if place > 2 else "test" if place else "eval"].append(((text,), label))
    return Splits(**found, num_classes=len(CLASSES))
# % elif cookiecutter.data == "csv"
def read(path: Path, text_column: str, label_column: str) -> list[tuple[str, str]]:
    """Read the texts and labels of a file."""
    if not path.is_file():
        raise DataError(f"`{path}` does not exist: put a CSV file with column names there, or set `--data-dir`")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel writes a byte order mark
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`{path}` cannot be read as a UTF-8 CSV file: {error}") from None
    for column in (text_column, label_column):
        if column not in columns:
            raise DataError(f"`{path}` has no column `{column}`: it has {', '.join(columns) or 'none'}")
    found = [(row[text_column] or "", row[label_column] or "") for row in rows]
    for number, (text, label) in enumerate(found, 1):
        if not text.strip() or not label.strip():
            raise DataError(f"`{path}` has no {'label' if text.strip() else 'text'} in row {number} below its header")
    return found


def make_splits(data_dir: Path, text_column: str, label_column: str) -> Splits:
    """Read `train.csv` and `test.csv` of the folder; 1 in 10 training rows is for eval."""
    rows = {name: read(data_dir / f"{name}.csv", text_column, label_column) for name in ("train", "test")}
    if empty := [name for name, found in rows.items() if not found]:
        raise DataError(f"`{data_dir / empty[0]}.csv` has no rows below its header")
    classes = sorted({label for _, label in rows["train"]})
    if len(classes) == 1:
        raise DataError(f"`{data_dir / 'train.csv'}` has one class, `{classes[0]}`; at least two are needed")
    if unknown := sorted({label for _, label in rows["test"]} - set(classes)):
        raise DataError(f"`{data_dir / 'test.csv'}` has labels that do not occur in train.csv: {', '.join(unknown)}")
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
        subset: Configuration of the dataset; None if it has only one.
        text_columns: One column of texts, or two for text pairs.
        label_column: Column with labels, integers from 0.
    """
    try:
        tables = load_dataset(dataset, subset)
    except (DatasetsError, OSError, ValueError) as error:  # missing, or not a dataset
        raise DataError(f"`{dataset}` cannot be loaded: {error}") from None
    if not isinstance(tables, DatasetDict) or not {"train", "validation", "test"} <= tables.keys():
        raise DataError(
            f"`{dataset}` has the splits {', '.join(tables)}, not train, validation and test: edit data.py"
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
        raise DataError(f"`{dataset}` has rows without a text in `{'`, `'.join(text_columns)}`: remove them")
    classes = {label for _, label in train}
    if len(classes) < 2:
        raise DataError(f"The split `train` of `{dataset}` has one class: {classes}")
    if wrong := {label for _, label in (*train, *eval, *test) if label not in range(len(classes))}:
        last = len(classes) - 1
        raise DataError(f"`{dataset}` has labels that are not in 0 to {last}: {wrong} (-1 means hidden)")
    return Splits(train, eval, test, num_classes=len(classes))
# % endif
