"""Bad data raises a clear error before training starts."""

import pytest
import torch

import data


def test_a_label_out_of_range_is_named():
    images, labels = torch.zeros(4, 1, 8, 8), torch.tensor([0, 9, 10, -1])
    with pytest.raises(ValueError, match="2 labels are not in 0 to 9: sample 2 has 10"):
        data.labelled(images, labels)


def test_one_class_is_nothing_to_learn():
    with pytest.raises(ValueError, match="All 4 samples have the same label"):
        data.labelled(torch.zeros(4, 1, 8, 8), torch.full((4,), 3))
