"""Test texts, and settings for small runs."""

# % if cookiecutter.data == "csv"
import csv
# % elif cookiecutter.data == "huggingface"
import json
# % endif
# % if cookiecutter.data != "docstrings" or cookiecutter.model == "pretrained"
from pathlib import Path

# % endif
import pytest
# % if cookiecutter.model == "pretrained"
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
# % endif

# % if cookiecutter.data == "csv"

@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two small files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, size in (("train", 120), ("test", 20)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            rows.writerows([f"{('good', 'bad')[number % 2]} word {number}", ("plus", "minus")[number % 2]] for number in range(size))
    return folder

# % elif cookiecutter.data == "huggingface"

@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small dataset of pairs on disk, as `load_dataset` reads it."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, size in (("train", 120), ("validation", 20), ("test", 24)):
        rows = [{"sentence1": f"word {n}", "sentence2": f"word {n + n % 2}", "label": n % 2} for n in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder

# % endif
# % if cookiecutter.model == "pretrained"

@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model and its tokenizer on disk, as `from_pretrained` reads them."""
    folder = tmp_path / "model"
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer.from_pretrained(folder, model_max_length=64).save_pretrained(folder)
    settings = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(settings).save_pretrained(folder)
    return folder

# % endif

@pytest.fixture
# % if cookiecutter.data == "docstrings"
def settings({{ "model: Path" if cookiecutter.model == "pretrained" }}) -> dict[str, object]:
# % elif cookiecutter.data == "csv"
def settings(data_dir: Path{{ ", model: Path" if cookiecutter.model == "pretrained" }}) -> dict[str, object]:
# % else
def settings(dataset: Path{{ ", model: Path" if cookiecutter.model == "pretrained" }}) -> dict[str, object]:
# % endif
    """Settings for a small run."""
    return {
        # % if cookiecutter.data == "csv"
        "data_dir": data_dir,
        # % elif cookiecutter.data == "huggingface"
        "dataset": str(dataset),
        "subset": "default",
        # % endif
        # % if cookiecutter.model == "pretrained"
        "model": str(model),
        "max_length": 32,
        # % else
        "width": 32,
        "vocabulary": 512,
        # % endif
        "global_batch_size": 16,
        "limit_batches": 10,
    }
