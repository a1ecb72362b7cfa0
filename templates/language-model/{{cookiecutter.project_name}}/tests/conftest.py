"""Test text, and settings for small runs."""

# % if cookiecutter.data == "huggingface"
import json
# % endif
from pathlib import Path

import pytest
# % if cookiecutter.data == "huggingface"
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
# % endif

# % if cookiecutter.data == "huggingface"

@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small dataset on disk, as `load_dataset` reads it."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, size in (("train", 60), ("validation", 6), ("test", 5)):
        lines = [json.dumps({"text": f"{split} line {number}: " + "word " * (number % 7)}) for number in range(size)]
        lines.append(json.dumps({"text": None}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny causal model and its tokenizer on disk, as `from_pretrained` reads them."""
    folder = tmp_path / "model"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*letters, "<end>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    settings = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(settings).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(dataset: Path, model: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {
        "dataset": str(dataset),
        "subset": "default",
        "model": str(model),
        "tokens_dir": dataset.parent / "tokens",
        "context": 32,
        "global_batch_size": 4,
    }
# % elif cookiecutter.data == "folder"

@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A few short files."""
    for split, size in (("train", 20), ("eval", 3), ("test", 2)):
        for number in range(size):
            path = tmp_path / "text" / split / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{split} {number}\n" * (number + 3))
    return tmp_path / "text"


@pytest.fixture
def settings(data_dir: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {"data_dir": data_dir, "context": 32, "global_batch_size": 4, "width": 32, "depth": 2, "heads": 2}
# % else

@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """Settings for a small run."""
    return {
        "tokens_dir": tmp_path / "tokens",
        "context": 32,
        "global_batch_size": 8,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "limit_batches": 20,
    }
# % endif
