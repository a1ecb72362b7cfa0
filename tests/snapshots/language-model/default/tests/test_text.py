"""Text is packed into rows, bad data raises an error before training starts, and text is generated."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data import PADDING, Splits, pack
import sample
import train

NOTHING: Any = None  # data that no test reads


def test_every_token_but_the_first_is_predicted_once():
    rows = pack(torch.arange(50), context=16).tensors[0]
    predicted = rows[:, 1:].flatten()
    assert predicted[predicted != PADDING].tolist() == list(range(1, 50))
    assert (rows[1:, 0] == rows[:-1, -1]).all()


def test_the_count_of_operations_is_what_pytorch_counts(settings):
    model = train.make_model(train.Config(**settings), Splits(NOTHING, NOTHING, NOTHING, vocabulary=256))
    batch = [torch.ones(1, 33, dtype=torch.int32)]
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
