"""The texts that the tests train on, and the settings that make a run small."""

import json
from pathlib import Path

import pytest
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small dataset of pairs on disk, as `load_dataset` reads it."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, size in (("train", 120), ("validation", 20), ("test", 24)):
        rows = [{"sentence1": f"word {n}", "sentence2": f"word {n + n % 2}", "label": n % 2} for n in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


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


@pytest.fixture
def settings(dataset: Path, model: Path) -> dict[str, object]:
    """What makes a run small, besides few steps."""
    return {
        "dataset": str(dataset),
        "subset": "default",
        "model": str(model),
        "max_length": 32,
        "global_batch_size": 16,
        "limit_batches": 10,
    }
