"""Text is packed into rows, bad data raises an error before training starts, and text is generated."""

from typing import Any

from paccel.runtime.tokens import PADDING, Rows, write_tokens
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data import Splits
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
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
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
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
    batch = [torch.ones(1, 32, dtype=torch.int32), torch.ones(1, 32, dtype=torch.int64)]
    with FlopCounterMode(display=False) as counter:
        train.compute_loss(model, batch).backward()
    # PyTorch also counts the recomputation of attention scores in the backward pass.
    assert train.count_flops(model, 32) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_no_token_sees_what_comes_after_it(settings):
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # blocks start as the identity
    tokens = torch.randint(256, (1, 32), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 20] += 1 if changed[0, 20] < 255 else -1
    before, after = model(tokens)[0], model(changed)[0]
    assert torch.equal(before[:20], after[:20])
    assert not torch.equal(before[20], after[20])


def test_a_run_with_checkpointed_activations_writes_the_same_text(tmp_path, settings):
    written = []
    for checkpoint in (False, True):
        run_dir = tmp_path / f"run-{checkpoint}"
        config = train.Config(run_dir=run_dir, max_steps=2, checkpoint_activations=checkpoint, trackers=(), **settings)
        train.main(config)
        written.append(sample.main(sample.SampleConfig(run_dir=run_dir, prompt="def ", num_tokens=20)))
    assert written[0] == written[1]
    assert written[0].startswith("def ")


def test_heads_that_do_not_fit_are_an_error_before_training_starts(tmp_path, settings):
    with pytest.raises(ValueError, match="`width` 33 is not divisible into 2 heads"):
        train.main(train.Config(run_dir=tmp_path / "run", **(settings | {"width": 33})))
