"""Bad data is a clear error before training starts."""

from PIL import Image
import pytest
from torch.utils.data import Subset

import data
import train


def fails(settings, match):
    """The run fails for the reason given, before its first step."""
    run_dir = settings["data_dir"].with_name(f"run-{settings['data_dir'].name}")
    with pytest.raises(ValueError, match=match):
        train.main(train.Config(run_dir=run_dir, resume="auto", max_steps=1, trackers=(), **settings))
    assert not (run_dir / "metrics.jsonl").exists()


def test_a_folder_that_is_not_there_or_empty_is_named(settings, tmp_path):
    fails({**settings, "data_dir": tmp_path / "nowhere"}, "nowhere/train` is no folder: put images into")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    fails({**settings, "data_dir": tmp_path / "empty"}, "empty/train` needs a folder of images for each of two classes")


def test_one_class_and_a_class_without_images_are_named(settings):
    (settings["data_dir"] / "train" / "mice").mkdir()
    fails(settings, "mice")
    (settings["data_dir"] / "train" / "mice").rmdir()
    for image in (settings["data_dir"] / "train" / "dogs").iterdir():
        image.unlink()
    (settings["data_dir"] / "train" / "dogs").rmdir()
    fails(settings, r"two classes or more, and has \['cats'\]")


def test_a_class_that_is_only_in_the_test_images_is_named(settings):
    (settings["data_dir"] / "test" / "mice").mkdir()
    Image.new("RGB", (48, 40)).save(settings["data_dir"] / "test" / "mice" / "1.png")
    fails(settings, "has other classes in train")


def test_damaged_images_are_named(settings):
    image = settings["data_dir"] / "train" / "cats" / "0.png"
    image.write_bytes(image.read_bytes()[:100])
    (settings["data_dir"] / "test" / "dogs" / "1.png").write_text("no image")
    fails(settings, "(?s)2 images are damaged.*cats/0.png.*dogs/1.png")
    data.check_images(settings["data_dir"], 1, 100_000)  # not its part


def test_a_class_with_one_image_is_named(settings):
    for split in ("train", "test"):
        (settings["data_dir"] / split / "mice").mkdir()
        Image.new("RGB", (48, 40)).save(settings["data_dir"] / split / "mice" / "1.png")
    fails(settings, "train` has one image of mice: two of each class are needed, one for eval")


def test_each_class_is_in_train_and_in_eval_and_no_image_is_in_both(settings):
    splits = data.make_splits(settings["data_dir"], 32)
    assert isinstance(splits.train, Subset)
    assert isinstance(splits.eval, Subset)
    assert len(splits.train) + len(splits.eval) == 80
    assert not set(splits.train.indices) & set(splits.eval.indices)
    for split in (splits.train, splits.eval):
        assert {split[place][1] for place in range(len(split))} == {0, 1}
