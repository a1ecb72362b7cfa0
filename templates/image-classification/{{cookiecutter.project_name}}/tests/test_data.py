"""Bad data raises a clear error before training starts."""

# % if cookiecutter.data == "folder"
from PIL import Image
# % endif
import pytest
# % if cookiecutter.data == "folder"
from torch.utils.data import Subset
# % else
import torch
# % endif

import data
# % if cookiecutter.data == "folder"
import train
# % endif


# % if cookiecutter.data == "folder"
# % include "images/test_folder.py"


def test_a_class_with_one_image_is_named(settings):
    for split in ("train", "test"):
        (settings["data_dir"] / split / "mice").mkdir()
        Image.new("RGB", (48, 40)).save(settings["data_dir"] / split / "mice" / "1.png")
    fails(settings, "train` has only one image of mice: each class needs two, one for eval")


def test_each_class_is_in_train_and_in_eval_and_no_image_is_in_both(settings):
    splits = data.make_splits(settings["data_dir"], 32)
    assert isinstance(splits.train, Subset)
    assert isinstance(splits.eval, Subset)
    assert len(splits.train) + len(splits.eval) == 80
    assert not set(splits.train.indices) & set(splits.eval.indices)
    for split in (splits.train, splits.eval):
        assert {split[place][1] for place in range(len(split))} == {0, 1}
# % else
def test_a_label_out_of_range_is_named():
    images, labels = torch.zeros(4, 1, 8, 8), torch.tensor([0, 9, 10, -1])
    with pytest.raises(ValueError, match="2 labels are not in 0 to 9: sample 2 has 10"):
        data.labelled(images, labels)


def test_one_class_is_nothing_to_learn():
    with pytest.raises(ValueError, match="All 4 samples have the same label"):
        data.labelled(torch.zeros(4, 1, 8, 8), torch.full((4,), 3))
# % endif
