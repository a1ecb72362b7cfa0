"""The text that the tests train on, and the settings that make a run small."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


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
    """What makes a run small, besides few steps."""
    return {"dataset": str(dataset), "subset": "default", "model": str(model), "context": 32, "global_batch_size": 4}
