"""What is this project's own: padding that changes nothing, F1, errors before training starts."""

from collections import Counter
from pathlib import Path

import pytest
import torch

import tokens
import train


def test_f1_is_that_of_class_1_for_two_classes_and_a_mean_for_more():
    two = Counter({(0, 0): 5, (0, 1): 1, (1, 0): 2, (1, 1): 6})
    assert train.f1_score(two) == pytest.approx(2 * 6 / (8 + 7))
    three = Counter({(0, 0): 1, (1, 2): 1, (2, 2): 2})
    assert train.f1_score(three) == pytest.approx((1 + 0 + 2 * 2 / (2 + 3)) / 3)


def test_what_a_text_is_padded_with_does_not_change_its_logits():
    model = train.make_model(vocabulary=512, max_length=32, num_classes=3, width=32, depth=2, heads=2).eval()
    short = tokens.encode(("A few words",), 512, 32)
    long = tokens.encode(("camelCase and many more words than the others have, to be the longest",), 512, 32)
    alone, _ = tokens.collate([(short, 0)])
    together, _ = tokens.collate([(short, 0), (long, 1)])
    assert together.shape[1] > alone.shape[1]
    torch.testing.assert_close(model(together)[0], model(alone)[0], rtol=0, atol=1e-5)


def test_texts_longer_than_the_model_can_read_are_an_error_before_training_starts(tmp_path, settings):
    model = train.make_model(vocabulary=512, max_length=8, num_classes=2, width=32, depth=1, heads=2)
    with pytest.raises(ValueError, match="A text has 9 tokens, the model reads at most 8"):
        model(torch.ones(1, 9, dtype=torch.int64))


def test_each_split_and_both_texts_are_read(settings):
    splits = train.make_splits(settings["dataset"], "default", ("sentence1", "sentence2"), "label")
    assert [len(split) for split in (splits.train, splits.eval, splits.test)] == [120, 20, 24]
    assert splits.train[1] == (("word 1", "word 2"), 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sentence2", "second", "has no column `sentence2`: it has"),
        ('"label": 1', '"label": 0', "has one class"),
        ('"label": 1', '"label": -1', "has labels that are not from 0 to 1: {-1}"),
        ('"word 4"', "null", "has rows without a text in `sentence1`, `sentence2`"),
    ],
)
def test_bad_datasets_are_an_error_before_training_starts(tmp_path, settings, old, new, message):
    for path in Path(settings["dataset"]).iterdir():
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        train.main(train.Config(run_dir=tmp_path / "run", **settings))
