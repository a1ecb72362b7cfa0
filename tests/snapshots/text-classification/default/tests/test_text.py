"""Padding changes nothing, F1 is right, and bad data raises an error before training starts."""

from collections import Counter

import pytest
import torch

from data import Splits
import tokens
import train


def test_f1_is_that_of_class_1_for_two_classes_and_a_mean_for_more():
    two = Counter({(0, 0): 5, (0, 1): 1, (1, 0): 2, (1, 1): 6})
    assert train.f1_score(two) == pytest.approx(2 * 6 / (8 + 7))
    three = Counter({(0, 0): 1, (1, 2): 1, (2, 2): 2})
    assert train.f1_score(three) == pytest.approx((1 + 0 + 2 * 2 / (2 + 3)) / 3)


def test_what_a_text_is_padded_with_does_not_change_its_logits():
    model = train.make_model(train.Config(width=32, vocabulary=512), Splits([], [], [], num_classes=3)).eval()
    short = tokens.encode(("A few words",), 512, 32)
    long = tokens.encode(("camelCase and many more words than the others have, to be the longest",), 512, 32)
    alone, _ = tokens.collate([(short, 0)])
    together, _ = tokens.collate([(short, 0), (long, 1)])
    assert together.shape[1] > alone.shape[1]
    torch.testing.assert_close(model(together)[0], model(alone)[0], rtol=0, atol=1e-5)


def test_texts_longer_than_the_model_can_read_are_an_error_before_training_starts(tmp_path, settings):
    model = train.make_model(train.Config(**settings, max_length=8), Splits([], [], [], num_classes=2))
    with pytest.raises(ValueError, match="A text has 9 tokens but the model takes at most 8"):
        model(torch.ones(1, 9, dtype=torch.int64))
