"""Text is packed into rows, bad data raises an error before training starts, and text is generated."""

# % if cookiecutter.data == "huggingface"
import json
from pathlib import Path
# % endif
from typing import Any

# % if cookiecutter.data == "huggingface"
from paccel.runtime import ConfigError
# % endif
from paccel.runtime.tokens import PADDING, Rows, write_tokens
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
# % if cookiecutter.data == "huggingface"
from transformers import AutoModelForCausalLM
# % endif

from data import Splits
# % if cookiecutter.data == "huggingface"
from evaluate import load_splits
# % endif
# % if cookiecutter.export
import export
# % endif
import sample
import tokenize_text
import train

NOTHING: Any = None  # data that no test reads


def test_every_token_but_the_first_is_predicted_once(tmp_path):
    tokens = write_tokens(tmp_path / "tokens", [range(30), range(30, 50)], vocabulary=50)
    rows = Rows(tokens, context=16)
    inputs, targets = (torch.stack(parts) for parts in zip(*(rows[i] for i in range(len(rows))), strict=True))
    assert targets[targets != PADDING].tolist() == list(range(1, 50))
    assert inputs[targets != PADDING].tolist() == list(range(49))


def test_with_mask_documents_each_is_predicted_as_if_it_were_alone(tmp_path, settings):
    draw = torch.Generator().manual_seed(0)
    documents = [torch.randint(250, (length,), generator=draw) for length in (7, 1, 12, 2, 9)]
    # % if cookiecutter.data == "huggingface"
    splits = Splits(NOTHING, NOTHING, NOTHING, vocabulary=257)
    model = train.make_model(train.Config(**settings), splits, pretrained=True).eval()
    # % else
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
    # % endif
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=draw)

    def loss(name: str, *packed: torch.Tensor) -> torch.Tensor:
        rows = Rows(write_tokens(tmp_path / name, packed, vocabulary=256), context=31, documents=True)
        return train.compute_loss(model, [part[None] for part in rows[0]])

    alone = sum(loss(str(number), document) for number, document in enumerate(documents) if len(document) > 1)
    torch.testing.assert_close(loss("all", *documents), alone)


def test_a_run_on_masked_documents_trains(tmp_path, settings):
    train.main(train.Config(run_dir=tmp_path / "run", max_steps=2, mask_documents=True, trackers=(), **settings))


def test_token_files_are_written_once_and_checked(settings, capsys):
    config = train.Config(**settings)
    splits = tokenize_text.main(config)
    written = {path: path.stat().st_mtime_ns for path in splits.train.tokens.folder.iterdir()}
    assert len(written) == 3
    tokenize_text.main(config)
    assert {path: path.stat().st_mtime_ns for path in splits.train.tokens.folder.iterdir()} == written
    assert f"train: {splits.train.tokens.num_tokens:,} tokens" in capsys.readouterr().out


def test_the_count_of_operations_is_what_pytorch_counts(settings):
    # % if cookiecutter.data == "huggingface"
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=257), pretrained=True)
    # % else
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
    # % endif
    batch = [torch.ones(1, 32, dtype=torch.int32), torch.ones(1, 32, dtype=torch.int64)]
    with FlopCounterMode(display=False) as counter:
        train.compute_loss(model, batch).backward()
    # PyTorch also counts the recomputation of attention scores in the backward pass.
    assert train.count_flops(model, 32) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_no_token_sees_what_comes_after_it(settings):
    # % if cookiecutter.data == "huggingface"
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=257), pretrained=True).eval()
    tokens = torch.randint(257, (1, 32), generator=torch.Generator().manual_seed(0))
    # % else
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # blocks start as the identity
    tokens = torch.randint(256, (1, 32), generator=torch.Generator().manual_seed(0))
    # % endif
    changed = tokens.clone()
    changed[0, 20] += 1 if changed[0, 20] < 255 else -1
    # % if cookiecutter.data == "huggingface"
    before, after = model(tokens).logits[0], model(changed).logits[0]
    # % else
    before, after = model(tokens)[0], model(changed)[0]
    # % endif
    assert torch.equal(before[:20], after[:20])
    assert not torch.equal(before[20], after[20])


# % if cookiecutter.data == "huggingface"
def test_the_weights_are_those_of_the_folder_in_float32(settings, tmp_path):
    folder = str(tmp_path / "half")
    half = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.bfloat16)
    half.save_pretrained(folder)
    config, splits = train.Config(**settings | {"model": folder}), Splits(NOTHING, NOTHING, NOTHING, vocabulary=257)
    ours = train.make_model(config, splits, pretrained=True).state_dict()
    assert all(torch.equal(ours[name], value.float()) for name, value in half.state_dict().items())
    assert {value.dtype for value in ours.values()} == {torch.float32}
    random = train.make_model(config, splits).state_dict()
    assert not torch.equal(random["lm_head.weight"], ours["lm_head.weight"])


def test_weights_that_are_not_there_are_an_error_before_training_starts(tmp_path, settings):
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="The model `.*model` cannot be used: .*no file named"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))


# % endif
def test_a_run_with_checkpointed_activations_writes_the_same_text(tmp_path, settings):
    written = []
    for checkpoint in (False, True):
        run_dir = tmp_path / f"run-{checkpoint}"
        config = train.Config(
            run_dir=run_dir, max_steps=2, checkpoint_activations=checkpoint, trackers=(), **settings
        )
        train.main(config)
        written.append(sample.main(sample.SampleConfig(run_dir=run_dir, prompt="def ", num_tokens=20)))
    assert written[0] == written[1]
    assert written[0].startswith("def ")


# % if cookiecutter.data == "stdlib"
def test_heads_that_do_not_fit_are_an_error_before_training_starts(tmp_path, settings):
    with pytest.raises(ValueError, match="`width` 33 is not divisible into 2 heads"):
        train.main(train.Config(run_dir=tmp_path / "run", **(settings | {"width": 33})))
# % elif cookiecutter.data == "folder"
def test_an_empty_folder_is_an_error_before_training_starts(tmp_path, settings):
    for path in (settings["data_dir"] / "eval").iterdir():
        path.write_text("")
    with pytest.raises(ValueError, match="There is no text in"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
# % else
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"context": 100}, "`context` 100 exceeds its limit of 64 tokens"),
        ({"column": "body"}, "has no column `body`: it has text"),
    ],
)
def test_settings_that_do_not_fit_are_an_error_before_training_starts(tmp_path, settings, changed, message):
    with pytest.raises(ValueError, match=message):
        train.main(train.Config(run_dir=tmp_path / "run", **(settings | changed)))


def test_each_split_is_read_and_each_document_ends(settings):
    splits = load_splits(train.Config(**settings))
    for name, rows in (("train", splits.train), ("validation", splits.eval), ("test", splits.test)):
        lines = Path(settings["dataset"], f"{name}.jsonl").read_text().splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        tokens = sum(len(text) + 1 for text in texts if text)  # one per letter, and the end of the text
        assert sum(int((targets != PADDING).sum()) for _, targets in rows) == tokens - 1


def test_a_dataset_without_a_validation_split_is_an_error_that_names_what_there_is(tmp_path, settings):
    Path(settings["dataset"], "validation.jsonl").unlink()
    with pytest.raises(ValueError, match="has the splits train, test, not train, validation and test"):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
# % endif
# % if cookiecutter.export


def test_what_is_exported_gives_the_logits_of_a_prompt_of_any_length(tmp_path, settings):
    train.main(train.Config(run_dir=tmp_path / "run", max_steps=2, trackers=(), **settings))
    chosen = export.ExportConfig(run_dir=tmp_path / "run", formats=("torch",))
    network = torch.export.load(export.main(chosen) / "model.pt2").module()
    tokens = torch.arange(32)[None]
    # % if cookiecutter.data == "huggingface"
    whole, beginning = network(tokens).logits, network(tokens[:, :7]).logits
    # % else
    whole, beginning = network(tokens.int()), network(tokens[:, :7].int())
    # % endif
    torch.testing.assert_close(beginning, whole[:, :7])
# % endif
