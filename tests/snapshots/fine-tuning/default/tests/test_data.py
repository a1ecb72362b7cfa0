"""The splits are right, and bad data raises a clear error before training starts."""

from PIL import Image
import pytest
from torch.utils.data import Subset

import data
from model import preprocessing
import train


def fails(settings, match):
    """Check that the run fails with this message before its first step."""
    run_dir = settings["data_dir"].with_name(f"run-{settings['data_dir'].name}")
    with pytest.raises(ValueError, match=match):
        train.main(train.Config(run_dir=run_dir, resume="auto", max_steps=1, trackers=(), **settings))
    assert not (run_dir / "metrics.jsonl").exists()


def test_an_empty_folder_is_named(settings, tmp_path):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    fails({**settings, "data_dir": tmp_path / "empty"}, "empty/train` needs at least two classes")


def test_one_class_and_a_class_without_images_are_named(settings):
    (settings["data_dir"] / "train" / "mice").mkdir()
    fails(settings, "mice")
    (settings["data_dir"] / "train" / "mice").rmdir()
    for image in (settings["data_dir"] / "train" / "dogs").iterdir():
        image.unlink()
    (settings["data_dir"] / "train" / "dogs").rmdir()
    fails(settings, r"needs at least two classes, .* but has \['cats'\]")


def test_a_class_only_in_the_test_images_is_named(settings):
    (settings["data_dir"] / "test" / "mice").mkdir()
    Image.new("RGB", (48, 40)).save(settings["data_dir"] / "test" / "mice" / "1.png")
    fails(settings, "different classes in train")


def test_damaged_images_are_named(settings):
    image = settings["data_dir"] / "train" / "cats" / "0.png"
    image.write_bytes(image.read_bytes()[:100])
    (settings["data_dir"] / "test" / "dogs" / "1.png").write_text("no image")
    fails(settings, "(?s)2 images are damaged.*cats/0.png.*dogs/1.png")
    data.check_images(settings["data_dir"], 1, 100_000)  # not in this part


def test_good_images_are_decoded_once_and_again_when_they_change(settings, monkeypatch):
    folder = settings["data_dir"]
    data.check_images(folder, 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        data.check_images(folder, 0, 2)  # also for another number of processes
    image = folder / "train" / "cats" / "0.png"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(ValueError, match="1 images are damaged"):
        data.check_images(folder, 0, 1)
    with pytest.raises(ValueError, match="1 images are damaged"):  # what is damaged is not remembered
        data.check_images(folder, 0, 1)


def test_a_class_with_one_image_is_named_where_there_is_no_folder_for_eval(settings):
    for split in ("train", "test"):
        (settings["data_dir"] / split / "mice").mkdir()
        Image.new("RGB", (48, 40)).save(settings["data_dir"] / split / "mice" / "1.png")
    fails(settings, "train` has only one image of mice: each class needs two, one for eval; or add a folder")


def test_each_class_is_in_train_and_in_eval_and_no_image_is_in_both(settings):
    splits = data.make_splits(settings["data_dir"], preprocessing(settings["model"], 32))
    assert isinstance(splits.train, Subset)
    assert isinstance(splits.eval, Subset)
    assert len(splits.train) + len(splits.eval) == 80
    assert not set(splits.train.indices) & set(splits.eval.indices)
    for split in (splits.train, splits.eval):
        assert {split[place][1] for place in range(len(split))} == {0, 1}


def test_a_folder_for_eval_is_taken_and_checked(settings):
    (settings["data_dir"] / "test").rename(settings["data_dir"] / "eval")
    for name in ("cats", "dogs"):
        (settings["data_dir"] / "test" / name).mkdir(parents=True)
        Image.new("RGB", (48, 40)).save(settings["data_dir"] / "test" / name / "1.png")
    splits = data.make_splits(settings["data_dir"], preprocessing(settings["model"], 32))
    assert [len(split) for split in splits[:3]] == [80, 8, 2]
    (settings["data_dir"] / "eval" / "dogs").rename(settings["data_dir"] / "eval" / "mice")
    fails(settings, "different classes in train, .*, and eval")


def test_the_digits_are_written_once_five_of_each_for_training(tmp_path):
    data.write_digits(tmp_path / "digits")
    found = {split: len(list((tmp_path / "digits" / split).rglob("*.png"))) for split in ("train", "eval", "test")}
    assert found == {"train": 50, "eval": 300, "test": 1447}
    assert {len(list(folder.iterdir())) for folder in (tmp_path / "digits" / "train").iterdir()} == {5}
